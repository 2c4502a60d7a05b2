"""Sinks as the API shows them: who is told what happens, what waits, and what was given up."""

from __future__ import annotations

from typing import Literal

from sandboxer.kinds.meta import API_VERSION, Model, Timestamp


class SinkState(Model):
    """One receiver of lifecycle events."""

    name: str
    url: str
    """Without what may be secret in it: path, query and user."""
    types: tuple[str, ...] = ()
    """Types it wants, by their last word; empty is all."""
    namespaces: tuple[str, ...] = ()
    """Namespaces it wants; empty is all."""
    waiting: int = 0
    """Events it has not taken yet."""
    most_waiting: int = 0
    """How many wait at most; beyond, the oldest are given up."""
    dead: int = 0
    """Events that were given up."""
    oldest: Timestamp | None = None
    """When the oldest event happened that waits."""
    error: str = ""
    """What became of a recent attempt; empty when nothing waits that was tried."""


class SinkList(Model):
    """All sinks that are registered."""

    api_version: Literal["sandboxer.dev/v1alpha1"] = API_VERSION
    kind: Literal["SinkList"] = "SinkList"
    items: tuple[SinkState, ...] = ()


class DeadLetter(Model):
    """An event that a sink did not take, and that is not sent any more."""

    number: int
    """By which it is revived."""
    sink: str
    event_id: str
    type: str
    """Last word of the event's type."""
    uid: str
    namespace: str
    name: str
    time: Timestamp
    """When it happened."""
    dead_at: Timestamp
    """When it was given up."""
    attempts: int
    error: str
    """What became of the last attempt."""


class DeadLetterList(Model):
    """What was given up, oldest first."""

    api_version: Literal["sandboxer.dev/v1alpha1"] = API_VERSION
    kind: Literal["DeadLetterList"] = "DeadLetterList"
    items: tuple[DeadLetter, ...] = ()
    remaining: int = 0
    """How many there are besides these."""


class Revival(Model):
    """How many dead letters are sent again."""

    api_version: Literal["sandboxer.dev/v1alpha1"] = API_VERSION
    kind: Literal["Revival"] = "Revival"
    revived: int
