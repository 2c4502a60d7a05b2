"""
What the API serves: every resource, with what discovery, tables, schemas and routes need of it.

A resource is either stored (its `model` is a kind of the store) or a projection of stored ones
(`pods` of sandboxes, `events` of `events.k8s.io`). Both are read through a `Collection`, so
listing, paging, watching and tables are written once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from sandboxer.kinds.catalog import KINDS
from sandboxer.kinds.meta import GROUP, Column, Key, Resource
from sandboxer.store import Change, Entry, Store

READ_VERBS = ("get", "list", "watch")
ALL_VERBS = ("create", "delete", "get", "list", "patch", "update", "watch")


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

    def watch(self, since: int) -> AsyncIterator[Change]:
        """Yield changes of this resource after *since*; raises `ExpiredError` as `Store.watch`."""
        ...


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

    async def watch(self, since: int) -> AsyncIterator[Change]:
        """Yield changes after *since*."""
        async for change in self._store.watch(since=since):
            if change.entry.key.kind == self._kind:
                yield change


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
        subresources=("status",) if "status" in model.model_fields else (),
    )


SERVED: tuple[Served, ...] = tuple(stored(model) for model in KINDS.values())
"""Every resource, in the order of discovery."""


def find(group: str, version: str, plural: str) -> Served | None:
    """Return the resource a path names."""
    for served in SERVED:
        if (served.group, served.version, served.plural) == (group, version, plural):
            return served
    return None
