"""
How one resource is served: what discovery, tables, schemas and routes need of it.

A resource is either stored (its `model` is a kind of the store) or a projection of stored ones
(`pods` of sandboxes, `events` of `events.k8s.io`). Both are read through a `Collection`, so
listing, paging, watching and tables are written once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sandboxer.kinds.meta import GROUP, Column, Key, Resource
from sandboxer.store import Change, Entry, Store

READ_VERBS = ("get", "list", "watch")
ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")

Follower = Callable[[Change], Iterable[Change]]
"""
Takes every change of the store in order, of whatever kind, and gives those of one resource.

Each watch has its own, so it may remember what it gave.
"""


class Collection(Protocol):
    """All objects of one resource, as they are now, encoded; nothing here waits."""

    @property
    def revision(self) -> int:
        """Newest resourceVersion that is contained."""
        ...

    def get(self, namespace: str, name: str) -> Entry | None:
        """Return one object; the namespace is empty for cluster-scoped resources."""
        ...

    def entries(self, namespace: str | None = None) -> Iterable[Entry]:
        """Yield objects in no particular order; None means all namespaces."""
        ...

    def follower(self) -> Follower:
        """Return what picks the changes of this resource out of those of the store."""
        ...


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column of a `Table` that is computed, where a path into the document is not enough."""

    name: str
    cell: Callable[[dict[str, Any], datetime], str | int | None]
    """Takes the document and the current time."""
    type: str = "string"
    priority: int = 0
    """0 is always shown, 1 only by `-o wide`."""
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One resource of the API."""

    group: str
    """Empty for the core group."""
    version: str
    kind: str
    plural: str
    namespaced: bool
    collection: Callable[[Store], Collection]
    model: type[Resource] | None = None
    """Kind of the store; None for a projection, which is read-only."""
    verbs: tuple[str, ...] = READ_VERBS
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    """Printed after `Name`."""
    table: tuple[TableColumn, ...] = ()
    """The whole table where it is not `Name` and `columns`."""
    selectable: tuple[str, ...] = ()
    """Paths a field selector may name besides `metadata.name` and `metadata.namespace`."""
    subresources: tuple[str, ...] = ()
    """`status`, `scale`, `log`, `exec`…"""

    @property
    def group_version(self) -> str:
        """`apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """Name in messages: `sandboxes.sandboxer.dev`, `events`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


class StoredCollection:
    """The objects of one kind of the store."""

    def __init__(self, store: Store, kind: str) -> None:
        self._store = store
        self._kind = kind

    @property
    def revision(self) -> int:
        """Newest resourceVersion of the whole store."""
        return self._store.revision

    def get(self, namespace: str, name: str) -> Entry | None:
        """Return one object."""
        return self._store.entry(Key(self._kind, namespace, name))

    def entries(self, namespace: str | None = None) -> Iterable[Entry]:
        """Yield objects; None means all namespaces."""
        entries = self._store.entries(self._kind)
        return (
            entries if namespace is None else (e for e in entries if e.key.namespace == namespace)
        )

    def follower(self) -> Follower:
        """Return what drops the changes of other kinds."""
        return lambda change: (change,) if change.entry.key.kind == self._kind else ()


def stored(model: type[Resource], *, verbs: tuple[str, ...] = ALL_VERBS) -> Served:
    """Return how a kind of the store is served."""
    kind = str(model.model_fields["kind"].default)
    group, _, version = str(model.model_fields["api_version"].default).rpartition("/")
    return Served(
        group=group,
        version=version,
        kind=kind,
        plural=model.plural,
        namespaced=model.namespaced,
        collection=lambda store: StoredCollection(store, kind),
        model=model,
        verbs=verbs,
        short_names=model.short_names,
        categories=("all", GROUP.partition(".")[0]) if group == GROUP else (),
        columns=model.columns,
        subresources=_subresources(model),
    )


def _subresources(model: type[Resource]) -> tuple[str, ...]:
    status = ("status",) if "status" in model.model_fields else ()
    return (*status, "scale") if model.scale is not None else status
