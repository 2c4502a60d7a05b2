"""
Namespaces: those that were made, those in use, and `default`.

A namespace nobody made is shown for as long as something is in it, with an identity that is the
same every time. Events do not count: they stay for a day after what they are about.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace

from pydantic_core import to_json

from sandboxer.api.served import Follower, Served, StoredCollection, stored
from sandboxer.kinds.catalog import KINDS
from sandboxer.kinds.meta import GROUP, Key
from sandboxer.kinds.namespace import Namespace
from sandboxer.store import Change, Entry, Store

DEFAULT = "default"

_KIND = "Namespace"

_COUNTED = tuple(
    kind
    for kind, model in KINDS.items()
    if model.namespaced and str(model.model_fields["api_version"].default).startswith(GROUP)
)
"""Kinds whose objects put a namespace in use."""

# Version of a namespace that nobody wrote: any number will do that never changes.
_REVISION = 1


def served_namespaces() -> Served:
    """Return `v1/namespaces`; only those that were made can be changed and deleted."""
    return replace(stored(Namespace), collection=NamespacesCollection)


class NamespacesCollection:
    """
    All namespaces.

    Args:
        store: Open store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._made = StoredCollection(store, _KIND)

    @property
    def revision(self) -> int:
        """Newest resourceVersion that is contained."""
        return self._store.revision

    def get(self, namespace: str, name: str) -> Entry | None:
        """Return one namespace, made or only in use."""
        del namespace
        made = self._made.get("", name)
        if made is not None:
            return made
        return self._in_use(name) if name == DEFAULT or self._is_in_use(name) else None

    def entries(self, namespace: str | None = None) -> Iterable[Entry]:
        """Yield all namespaces, whatever *namespace* is."""
        del namespace
        for name in self._names():
            yield self._made.get("", name) or self._in_use(name)

    def follower(self) -> Follower:
        """Return what tells of namespaces that are made, come into use, or go."""
        return _Follower(self).turn

    def _names(self) -> set[str]:
        return {DEFAULT, *(e.key.name for e in self._made.entries()), *self._used()}

    def _used(self) -> Iterator[str]:
        for kind in _COUNTED:
            yield from (entry.key.namespace for entry in self._store.entries(kind))

    def _is_in_use(self, name: str) -> bool:
        return any(used == name for used in self._used())

    def _in_use(self, name: str) -> Entry:
        """Return the object of a namespace that nobody made."""
        uid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self._store.environment}/{name}"))
        labels = {"kubernetes.io/metadata.name": name}
        document = {
            "apiVersion": "v1",
            "kind": _KIND,
            "metadata": {
                "name": name, "uid": uid, "resourceVersion": str(_REVISION), "labels": labels,
            },
            "spec": {},
            "status": {"phase": "Active"},
        }  # fmt: skip
        key = Key(_KIND, "", name)
        return Entry(key, uid, _REVISION, 0, labels, deleting=False, body=to_json(document))


class _Follower:
    """One watch: remembers which namespaces there are."""

    def __init__(self, collection: NamespacesCollection) -> None:
        self._collection = collection
        self._known = {entry.key.name: entry for entry in collection.entries()}
        self._since = collection.revision

    def turn(self, change: Change) -> Iterator[Change]:
        """Yield what one change of the store means for namespaces."""
        kind, namespace, name = change.entry.key
        if kind != _KIND and (kind not in _COUNTED or change.type == "MODIFIED"):
            return
        about = name if kind == _KIND else namespace
        before, now = self._known.get(about), self._collection.get("", about)
        # What is known is newer than a change the watch had missed, so it is told whatever it was.
        if change.revision <= self._since and now is not None:
            yield Change("MODIFIED", _at(now, change.revision), change.revision)
        elif before is None and now is not None:
            self._known[about] = now
            yield Change("ADDED", _at(now, change.revision), change.revision)
        elif before is not None and now is None:
            del self._known[about]
            yield Change("DELETED", before, change.revision)
        elif before is not None and now is not None and before.body != now.body:
            self._known[about] = now
            yield Change("MODIFIED", _at(now, change.revision), change.revision)


def _at(entry: Entry, revision: int) -> Entry:
    """Return *entry* as part of a change; the object itself keeps its version."""
    return entry._replace(revision=revision)
