"""
The Event: what happened, to what, why, how often.

The shape is Kubernetes' core/v1 Event, so that `kubectl describe` and `kubectl events` can read it
as it is. Repeats of the same (object, reason, message) raise `count` instead of adding a row.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from sandboxer.kinds.meta import Column, MicroTimestamp, Model, Resource, Timestamp


class ObjectReference(Model):
    """The object an event is about."""

    api_version: str = ""
    kind: str
    namespace: str = ""
    name: str
    uid: str = ""
    resource_version: str | None = None
    """Version it had, when whoever noticed says so."""
    field_path: str | None = None
    """Part of it that is meant (`spec.containers{web}`)."""


class EventSource(Model):
    """Who noticed."""

    component: str = "sandboxer"
    host: str | None = None
    """Machine it was noticed on."""


class Event(Resource):
    """Something that happened."""

    plural: ClassVar[str] = "events"
    short_names: ClassVar[tuple[str, ...]] = ("ev",)
    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="Last Seen", json_path=".lastTimestamp", type="date"),
        Column(name="Type", json_path=".type"),
        Column(name="Reason", json_path=".reason"),
        Column(name="Object", json_path=".involvedObject.name"),
        Column(name="Count", json_path=".count", type="integer"),
        Column(name="Message", json_path=".message"),
        Column(name="Kind", json_path=".involvedObject.kind", priority=1),
        Column(name="First Seen", json_path=".firstTimestamp", type="date", priority=1),
    )

    api_version: Literal["v1"] = "v1"
    kind: Literal["Event"] = "Event"
    involved_object: ObjectReference
    """What it is about."""
    type: Literal["Normal", "Warning"] = "Normal"
    """`Warning` when a person may have to act."""
    reason: str
    """Stable CamelCase word."""
    message: str = ""
    """A sentence."""
    count: int = 1
    """How often it happened."""
    first_timestamp: Timestamp | None = None
    """First time."""
    last_timestamp: Timestamp | None = None
    """Last time."""
    source: EventSource = EventSource()
    """Who noticed."""
    event_time: MicroTimestamp | None = None
    """When it happened, as newer clients of Kubernetes write it."""
    reporting_component: str | None = None
    """Who noticed, as newer clients write it."""
    reporting_instance: str | None = None
    """Which one of several that notice."""
    action: str | None = None
    """What was being done."""
