"""
The story of a Sandbox: its transitions, and the tombstone that is left when it is gone.

Neither is an object of the store. Both are written with the change they describe and read on
demand; the answer of `sandboxes/NAME/story` holds everything that is known of one sandbox.
"""

from __future__ import annotations

from typing import Literal

from sandboxer.kinds.meta import API_VERSION, Condition, Model, Timestamp


class Transition(Model):
    """One thing that happened to a sandbox."""

    number: int
    """Counts from 1; gaps are transitions that were given up to keep the record small."""
    time: Timestamp
    """When it happened first."""
    last_time: Timestamp | None = None
    """When it happened last, if it was repeated."""
    count: int = 1
    """How often it happened in a row."""
    by: str
    """Who: `user/NAME`, `source/ID`, `pool/NAME`, `expiry`, `collector`, `controller`."""
    via: str = ""
    """Program a user had it done by, as it named itself (`kubectl/v1.32.2`)."""
    trigger: str = ""
    """What made it happen: `request`, `manifest`, `created`, `spec`, `deletion`, `probe`, `events`, `host`, `retry`, `expiry`…"""
    reason: str
    """Stable CamelCase word."""
    type: Literal["Normal", "Warning"] = "Normal"
    """`Warning` when a person may have to act."""
    message: str = ""
    """A sentence."""
    before: str = ""
    """Phase before; empty at its creation."""
    after: str = ""
    """Phase afterwards; empty when it is gone."""
    evidence: dict[str, str] = {}
    """What the sentence follows from: `exitCode`, `oomKilled`, `resource`, `ttl`, `fields`…"""


class Tombstone(Model):
    """What is kept of a sandbox that is gone."""

    uid: str
    namespace: str
    name: str
    profile: str = ""
    extension: str = ""
    """By what it ran; empty when it was never placed."""
    host: str = ""
    """Where it ran."""
    created_at: Timestamp | None = None
    deletion_requested_at: Timestamp | None = None
    """Absent when nothing was ever made for it, so that it went at once."""
    deleted_at: Timestamp
    deleted_by: str
    """Who asked for its deletion, in the words of `Transition.by`."""
    deleted_via: str = ""
    """Program that asked for it."""
    because: str = ""
    """Why, as a sentence; empty when whoever asked gave no reason."""
    phase: str = ""
    """How it was when its deletion was asked for."""
    last_message: str = ""
    """What its condition Ready said then."""


class StoryOfOne(Model):
    """All that is known of one sandbox, living or gone."""

    uid: str
    namespace: str
    name: str
    phase: str = ""
    """Empty when it is gone."""
    profile: str = ""
    extension: str = ""
    host: str = ""
    placement_reason: str = ""
    """Why this extension and host were chosen, and why not the others."""
    created_at: Timestamp | None = None
    expires_at: Timestamp | None = None
    conditions: tuple[Condition, ...] = ()
    """As they are now."""
    tombstone: Tombstone | None = None
    """Set when it is gone."""
    transitions: tuple[Transition, ...] = ()
    """Oldest first."""


class SandboxStory(Model):
    """Every sandbox that answers to a name or uid: the living one first, then the newest gone."""

    api_version: Literal["sandboxer.dev/v1alpha1"] = API_VERSION
    kind: Literal["SandboxStory"] = "SandboxStory"
    items: tuple[StoryOfOne, ...] = ()


class TombstoneList(Model):
    """Sandboxes that are gone, newest first."""

    api_version: Literal["sandboxer.dev/v1alpha1"] = API_VERSION
    kind: Literal["TombstoneList"] = "TombstoneList"
    items: tuple[Tombstone, ...] = ()
