"""
What a sink is told of a sandbox: a CloudEvent for each transition.

The form is CloudEvents 1.0 in its structured JSON mode; `data` is the transition with the facts a
receiver would have to ask for otherwise. Nothing of `spec` is in it but the profile's name.

Source:
    https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md; `sequence` is its
    documented extension of that name.
"""

from __future__ import annotations

from typing import Final, Literal

from sandboxer.kinds.meta import Model, Timestamp

TYPE_PREFIX: Final = "dev.sandboxer.sandbox."
"""What every type of event begins with; the last word follows."""

CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"

# By reason of the transition; what is not here is told by where it led, see `event_word`.
_WORDS: Final = {
    "Created": "created",
    "SpecChanged": "changed",
    "Accepted": "accepted",
    "Routed": "routed",
    "Provisioning": "provisioning",
    "Updating": "provisioning",
    "Provisioned": "provisioned",
    "Ready": "ready",
    "Drifted": "drifted",
    "Repaired": "repaired",
    "Suspended": "suspended",
    "Resumed": "resumed",
    "Relocating": "relocating",
    "HostBack": "reachable",
    "ExpiresSoon": "expiring",
    "Expired": "expired",
    "DeletionRequested": "deleting",
    "Deleting": "tearing-down",
    "TornDown": "torn-down",
    "Deleted": "deleted",
}

# By the phase a warning led to.
_WARNINGS: Final = {"Failed": "stalled", "Unknown": "unreachable", "Pending": "pending"}

WORDS: Final = frozenset({*_WORDS.values(), *_WARNINGS.values(), "failing", "progressing"})
"""The last word of every type there is."""


class LifecycleData(Model):
    """What happened to which sandbox."""

    uid: str
    namespace: str
    name: str
    resource_version: str
    """Of the sandbox after it."""
    generation: int
    reason: str
    """Stable CamelCase word, the same as in `sandboxer explain`."""
    message: str = ""
    """A sentence."""
    severity: Literal["Normal", "Warning"] = "Normal"
    """`Warning` when a person may have to act."""
    before: str = ""
    """Phase before; empty at its creation."""
    after: str = ""
    """Phase afterwards; empty when it is gone."""
    by: str = ""
    """Who, as `sandboxer.kinds.story.Transition.by`."""
    via: str = ""
    """Program a user had it done by."""
    trigger: str = ""
    """What made it happen."""
    evidence: dict[str, str] = {}
    """What the sentence follows from."""
    profile: str = ""
    extension: str = ""
    host: str = ""
    expires_at: Timestamp | None = None


class LifecycleEvent(Model):
    """One event, as it is sent."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    """The same at every attempt and for every sink; tells a receiver what it has seen already."""
    source: str
    """`/sandboxer/ENVIRONMENT`: the installation."""
    type: str
    """`dev.sandboxer.sandbox.WORD`."""
    subject: str
    """`NAMESPACE/NAME`."""
    time: Timestamp
    """When it was committed to the store."""
    sequence: str
    """Orders the events of one source by comparing texts."""
    datacontenttype: Literal["application/json"] = "application/json"
    data: LifecycleData


def event_word(reason: str, *, is_warning: bool, after: str) -> str:
    """
    Return the last word of an event's type.

    Args:
        reason: Of the transition.
        is_warning: Whether a person may have to act.
        after: Phase afterwards.
    """
    if reason in _WORDS:
        return _WORDS[reason]
    return _WARNINGS.get(after, "failing") if is_warning else "progressing"
