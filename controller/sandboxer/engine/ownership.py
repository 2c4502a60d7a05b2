"""
Who belongs to whom, kept up to date from the store's changes.

An index, so that no change costs a scan: from an owner's uid to the objects that refer to it. Only
objects with ownerReferences are in it. It holds nothing that is not in the store, except for the
uids of owners that were seen to go, which spares looking for them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic_core import from_json

from sandboxer.kinds.catalog import KINDS
from sandboxer.kinds.meta import Key
from sandboxer.store import Change, Entry

OWNER = "Owner"
"""Kind of the keys whose pass looks at one owner's dependents; no object has it."""

FOREGROUND = "foregroundDeletion"
"""Finalizer of an object that goes after its dependents."""
ORPHAN = "orphan"
"""Finalizer of an object whose dependents stay."""

_MARK = b'"ownerReferences"'
_FINALIZER_MARKS = (FOREGROUND.encode(), b'"' + ORPHAN.encode() + b'"')


class Reference(NamedTuple):
    """One ownerReference, as far as it matters here."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool
    blocks: bool
    """Whether the owner, deleted in the foreground, waits for the dependent."""

    def owner(self, namespace: str) -> Key | None:
        """Return the key the owner must have for a dependent there; None for an unknown kind."""
        model = KINDS.get(self.kind)
        if model is None or _group(self.api_version) != _group_of(self.kind):
            return None
        return Key(self.kind, namespace if model.namespaced else "", self.name)


@dataclass(frozen=True, slots=True)
class Finishing:
    """An object that is being deleted and has the collector's finalizers."""

    key: Key
    finalizers: frozenset[str]


def owner_key(uid: str) -> Key:
    """Return the key whose pass looks at the dependents of *uid*."""
    return Key(OWNER, "", uid)


def references_in(entry: Entry) -> tuple[Reference, ...]:
    """Return the ownerReferences of an object."""
    # NOTE: most objects have none, and looking for the bytes costs a hundredth of decoding.
    if _MARK not in entry.body:
        return ()
    return references_of(from_json(entry.body))


def references_of(document: dict[str, Any]) -> tuple[Reference, ...]:
    """Return the ownerReferences of a document."""
    return tuple(
        Reference(
            api_version=found["apiVersion"],
            kind=found["kind"],
            name=found["name"],
            uid=found["uid"],
            controller=found.get("controller", False),
            blocks=found.get("blockOwnerDeletion", False),
        )
        for found in document["metadata"].get("ownerReferences", ())
    )


class Ownership:
    """The index over all objects that have owners."""

    def __init__(self) -> None:
        self._references: dict[Key, tuple[Reference, ...]] = {}
        self._dependents: defaultdict[str, dict[Key, None]] = defaultdict(dict)
        self._finishing: dict[str, Finishing] = {}
        self._gone: set[str] = set()

    def put(self, entry: Entry) -> set[str]:
        """Follow an object; return the uids of owners whose dependents are worth a look."""
        woken = self._refer(entry.key, references_in(entry))
        known, now = self._finishing.get(entry.uid), _finishing(entry)
        if now is not None and now != known:
            self._finishing[entry.uid] = now
            woken.add(entry.uid)
        elif now is None and known is not None:
            del self._finishing[entry.uid]
        return woken

    def changed(self, change: Change) -> set[str]:
        """Follow a change; return the uids of owners whose dependents are worth a look."""
        if change.type != "DELETED":
            return self.put(change.entry)
        uid = change.entry.uid
        woken = self._refer(change.entry.key, ())
        self._finishing.pop(uid, None)
        if uid in self._dependents:
            self._gone.add(uid)
            woken.add(uid)
        return woken

    def owners(self) -> Collection[str]:
        """Return the uid of everything that is referred to, or waits for the collector."""
        return self._dependents.keys() | self._finishing.keys()

    def owners_of(self, key: Key) -> Iterable[Key]:
        """Return the keys of the owners an object names."""
        found = (reference.owner(key.namespace) for reference in self._references.get(key, ()))
        return [owner for owner in found if owner is not None]

    def named_owners(self, uid: str) -> Iterable[Key]:
        """Return the keys under which dependents refer to *uid*, and its own while it waits."""
        finishing = self._finishing.get(uid)
        own = [finishing.key] if finishing is not None else []
        found = (
            reference.owner(key.namespace)
            for key in self._dependents.get(uid, ())
            for reference in self._references[key]
            if reference.uid == uid
        )
        return [*own, *{owner for owner in found if owner is not None}]

    def dependents(self, uid: str) -> Collection[Key]:
        """Return the objects that refer to *uid*, oldest reference first."""
        return tuple(self._dependents.get(uid, ()))

    def references(self, key: Key) -> tuple[Reference, ...]:
        """Return the ownerReferences of an object."""
        return self._references.get(key, ())

    def finishing(self, uid: str) -> Finishing | None:
        """Return what is known of an object that waits for the collector."""
        return self._finishing.get(uid)

    def is_gone(self, uid: str) -> bool:
        """Tell whether an owner was seen to go; False says nothing."""
        return uid in self._gone

    def _refer(self, key: Key, after: tuple[Reference, ...]) -> set[str]:
        before = self._references.get(key, ())
        if before == after:
            return set()
        left = {reference.uid for reference in before} - {reference.uid for reference in after}
        for uid in left:
            self._release(uid, key)
        if after:
            self._references[key] = after
        else:
            del self._references[key]
        for reference in after:
            self._dependents[reference.uid][key] = None
        # An owner that somebody left matters only when it waits for that.
        return {reference.uid for reference in after} | (left & self._finishing.keys())

    def _release(self, uid: str, key: Key) -> None:
        dependents = self._dependents[uid]
        dependents.pop(key, None)
        if not dependents:
            del self._dependents[uid]
            self._gone.discard(uid)


def _finishing(entry: Entry) -> Finishing | None:
    if not entry.deleting or not any(mark in entry.body for mark in _FINALIZER_MARKS):
        return None
    finalizers = frozenset(from_json(entry.body)["metadata"]["finalizers"])
    mine = finalizers & {FOREGROUND, ORPHAN}
    return Finishing(entry.key, mine) if mine else None


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def _group_of(kind: str) -> str:
    return _group(str(KINDS[kind].model_fields["api_version"].default))
