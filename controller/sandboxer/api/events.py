"""
Events in both of their groups: the stored core ones, and `events.k8s.io` as another form of them.

Source:
    `Event` of events.k8s.io/v1 and its conversion from core/v1; columns as kube-apiserver prints
    events (`pkg/printers/internalversion`), v1.32.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic_core import from_json, to_json

from sandboxer.api.cells import age
from sandboxer.api.served import Follower, Served, StoredCollection, TableColumn, stored
from sandboxer.kinds.event import Event
from sandboxer.store import Change, Entry, Store

JSON = dict[str, Any]

_REFERENCE = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")


def _last_seen(document: JSON, now: datetime) -> str:
    return age(document.get("lastTimestamp") or document["metadata"]["creationTimestamp"], now)


def _object(document: JSON, now: datetime) -> str:
    del now
    reference = document["involvedObject"]
    return f"{reference['kind'].lower()}/{reference['name']}"


def _column(name: str, *path: str, **options: Any) -> TableColumn:
    def cell(document: Any, now: datetime) -> Any:
        del now
        for step in path:
            document = document.get(step, "")
        return document

    return TableColumn(name, cell, **options)


_TABLE = (
    TableColumn("Last Seen", _last_seen),
    _column("Type", "type"),
    _column("Reason", "reason"),
    TableColumn("Object", _object),
    TableColumn("Subobject", lambda _document, _now: "", priority=1),
    _column("Source", "source", "component", priority=1),
    _column("Message", "message"),
    TableColumn(
        "First Seen",
        lambda document, now: age(
            document.get("firstTimestamp") or document["metadata"]["creationTimestamp"], now
        ),
        priority=1,
    ),
    _column("Count", "count", type="integer", priority=1),
    _column("Name", "metadata", "name", priority=1),
)


def served_core_events() -> Served:
    """Return `v1/events`: stored, with kubectl's own columns and field selectors."""
    fields = ("reason", "type", "source", "reportingComponent")
    return replace(
        stored(Event),
        table=_TABLE,
        selectable=(*fields, *(f"involvedObject.{field}" for field in _REFERENCE)),
    )


def served_events() -> Served:
    """Return `events.k8s.io/v1`, read only; the short name stays with the core group."""
    return Served(
        group="events.k8s.io",
        version="v1",
        kind="Event",
        plural="events",
        namespaced=True,
        collection=EventsCollection,
        table=tuple(
            replace(column, cell=_on_core_form(column)) if column.name != "Name" else column
            for column in _TABLE
        ),
        selectable=(
            "reason", "type", "reportingController",
            *(f"regarding.{field}" for field in _REFERENCE),
        ),
    )  # fmt: skip


def projected(entry: Entry) -> Entry:
    """Return a stored event in the form of `events.k8s.io/v1`."""
    core = from_json(entry.body)
    document = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": core["metadata"],
        "eventTime": core.get("eventTime"),
        "reportingController": core.get("reportingComponent")
        or core.get("source", {}).get("component", ""),
        "reportingInstance": core.get("reportingInstance", ""),
        "action": core.get("action", ""),
        "reason": core["reason"],
        "regarding": core["involvedObject"],
        "note": core.get("message", ""),
        "type": core.get("type", "Normal"),
        "deprecatedSource": core.get("source", {}),
        "deprecatedFirstTimestamp": core.get("firstTimestamp"),
        "deprecatedLastTimestamp": core.get("lastTimestamp"),
        "deprecatedCount": core.get("count", 1),
    }
    return entry._replace(body=to_json(document))


def _on_core_form(column: TableColumn) -> Any:
    """Return a column's cell for documents of `events.k8s.io`."""

    def cell(document: JSON, now: datetime) -> Any:
        core = document | {
            "involvedObject": document["regarding"],
            "message": document["note"],
            "source": document["deprecatedSource"],
            "firstTimestamp": document["deprecatedFirstTimestamp"],
            "lastTimestamp": document["deprecatedLastTimestamp"],
            "count": document["deprecatedCount"],
        }
        return column.cell(core, now)

    return cell


class EventsCollection:
    """
    The stored events in their other form.

    Args:
        store: Open store.
    """

    def __init__(self, store: Store) -> None:
        self._core = StoredCollection(store, "Event")

    @property
    def revision(self) -> int:
        """Newest resourceVersion that is contained."""
        return self._core.revision

    def get(self, namespace: str, name: str) -> Entry | None:
        """Return one event."""
        entry = self._core.get(namespace, name)
        return None if entry is None else projected(entry)

    def entries(self, namespace: str | None = None) -> Iterable[Entry]:
        """Yield events; None means all namespaces."""
        return map(projected, self._core.entries(namespace))

    def follower(self) -> Follower:
        """Return what picks events out of all changes."""
        follow = self._core.follower()
        return lambda change: [_projected_change(found) for found in follow(change)]


def _projected_change(change: Change) -> Change:
    return change._replace(entry=projected(change.entry))
