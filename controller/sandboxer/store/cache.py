"""
All objects in memory, as bytes and a few fields; used on the event loop only.

An object is an exact tuple of strings, numbers and bytes. The garbage collector stops looking at
such tuples, which keeps a full collection over 100,000 objects at milliseconds; named tuples,
which it never lets go, are made when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from operator import attrgetter

from sandboxer.kinds.meta import Key
from sandboxer.store.entries import Change, Entry

_Packed = tuple[str, int, int, tuple[tuple[str, str], ...], bool, bytes]
"""uid, revision, generation, labels, deleting, body."""


class Cache:
    """
    What the store holds at `revision`.

    Args:
        revision: Newest revision in *entries*.
        entries: Every object, in any order.
    """

    def __init__(self, revision: int, entries: Iterable[Entry]) -> None:
        self.revision = revision
        self._kinds: dict[str, dict[tuple[str, str], _Packed]] = {}
        for entry in entries:
            self._put(entry)

    def get(self, key: Key) -> Entry | None:
        """Return the object's entry."""
        packed = self._kinds.get(key.kind, {}).get((key.namespace, key.name))
        return None if packed is None else _entry(key, packed)

    def entries(self, kind: str, namespace: str | None = None) -> Iterator[Entry]:
        """Yield the objects of a kind as they are now, in no particular order."""
        for (where, name), packed in list(self._kinds.get(kind, {}).items()):
            if namespace is None or where == namespace:
                yield _entry(Key(kind, where, name), packed)

    def apply(self, change: Change) -> None:
        """Follow one change; they must come in the order of their revisions."""
        assert change.revision > self.revision, "changes must come in order"
        if change.type == "DELETED":
            self._kinds[change.entry.key.kind].pop(change.entry.key[1:], None)
        else:
            self._put(change.entry)
        self.revision = change.revision

    def replace(self, fresh: Cache) -> list[Change]:
        """Become equal to *fresh*, and return what that changed; every change has its revision."""
        # NOTE: by their own versions, which a client of a watch that breaks off resumes from; what it
        # had not been told must be newer than the last thing it was.
        changes = [
            Change("MODIFIED" if known else "ADDED", entry, fresh.revision)
            for entry in sorted(fresh, key=attrgetter("revision"))
            if (known := self.get(entry.key)) is None or known.revision != entry.revision
        ]
        changes += [
            Change("DELETED", entry, fresh.revision) for entry in self if not fresh.get(entry.key)
        ]
        self._kinds, self.revision = fresh._kinds, fresh.revision
        return changes

    def __iter__(self) -> Iterator[Entry]:
        return chain.from_iterable(self.entries(kind) for kind in self._kinds)

    def _put(self, entry: Entry) -> None:
        kind, namespace, name = entry.key
        self._kinds.setdefault(kind, {})[namespace, name] = (
            entry.uid,
            entry.revision,
            entry.generation,
            tuple(entry.labels.items()),
            entry.deleting,
            entry.body,
        )


def _entry(key: Key, packed: _Packed) -> Entry:
    uid, revision, generation, labels, deleting, body = packed
    return Entry(key, uid, revision, generation, dict(labels), deleting, body)
