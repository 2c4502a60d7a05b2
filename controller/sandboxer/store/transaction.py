"""
One write transaction: load what is touched, judge each write alone, write what came of it.

Judging is pure and happens in memory, so a refused write leaves nothing to undo and needs no
savepoint. What a write does to a sandbox is told in the same transaction (`chronicle.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json
from sqlalchemy.engine import Connection

from sandboxer.errors import SandboxerError
from sandboxer.kinds.meta import Key, Resource, Timestamp
from sandboxer.store import rules, statements
from sandboxer.store.batches import run_many
from sandboxer.store.chronicle import Chronicle
from sandboxer.store.entries import Change, Document, Entry, decode, entry_of
from sandboxer.store.operations import Cause, News, Remains
from sandboxer.store.rules import Wish

_TIMESTAMP: Final[TypeAdapter[datetime]] = TypeAdapter(Timestamp)

Result = Resource | None | SandboxerError
"""What one write gives: the object after it, None when it is gone, or why it was refused."""


class Transaction:
    """
    The work of one transaction, which the caller has begun and will commit.

    Args:
        connection: Holds the write lock.
        now: Time of all writes in it.
    """

    def __init__(self, connection: Connection, now: datetime) -> None:
        self.connection = connection
        self.now = now
        self._timestamp = str(_TIMESTAMP.dump_python(now, mode="json"))
        self.revision: int = connection.exec_driver_sql(statements.READ_REVISION).scalar_one()
        """Newest revision given out; moves with each change."""
        self.changes: list[Change] = []
        """What was changed, in order of revision."""
        self._chronicle = Chronicle(connection, now)
        self._stored: dict[Key, Document | None] = {}
        self._touched: dict[Key, Entry | None] = {}

    def load(self, keys: Iterable[Key]) -> None:
        """Read the objects that are going to be judged."""
        missing = [key for key in dict.fromkeys(keys) if key not in self._stored]
        self._stored.update(dict.fromkeys(missing))
        for found in run_many(
            self.connection, statements.READ_DOCUMENTS, statements.KEY_ROW, missing, end=")"
        ):
            for document in from_json(found.scalar_one() or "[]"):
                self._stored[_key(document)] = document

    def apply(self, wish: Wish) -> Result:
        """Judge one write whose object is loaded; a refusal is returned and changes nothing."""
        stored = self._stored[wish.key]
        try:
            verdict = rules.judge(wish, stored, self._timestamp)
            if verdict.change is None:
                return decode(wish.model, wish.key, to_json(verdict.document))
            revision = self.revision + 1
            metadata = {**verdict.document["metadata"], "resourceVersion": str(revision)}
            document = {**verdict.document, "metadata": metadata}
            body = rules.encode(wish.key, document)
            gone = verdict.change == "DELETED"
            # NOTE: a deletion reads nothing, so that an unreadable document can be got rid of.
            obj = None
            if not (gone and wish.action == "delete"):
                obj = rules.read_back(wish.model, wish.key, body)
        except SandboxerError as refusal:
            return refusal
        entry = entry_of(wish.key, document, body)
        self.revision = revision
        self.changes.append(Change(verdict.change, entry, revision))
        self._chronicle.tell(wish, stored, verdict.change, document)
        self._stored[wish.key] = None if gone else document
        self._touched[wish.key] = None if gone else entry
        return obj

    def preview(self, wish: Wish) -> Result:
        """Return what `apply` would give, at the stored resourceVersion; nothing changes."""
        try:
            verdict = rules.judge(wish, self._stored[wish.key], self._timestamp)
            if verdict.change == "DELETED":
                return None
            return rules.read_back(wish.model, wish.key, rules.encode(wish.key, verdict.document))
        except SandboxerError as refusal:
            return refusal

    def remark(self, remains: Remains, news: News, cause: Cause) -> None:
        """Tell what befalls the remains of a sandbox, living or gone, whose key is loaded."""
        stored = self._stored[remains.key]
        is_it = stored is not None and stored["metadata"].get("uid") == remains.uid
        self._chronicle.remark(remains, stored if is_it else None, news, cause, self.revision)

    def flush(self) -> None:
        """Write objects, changes, what they tell, and the revision."""
        if not self.changes:
            self._chronicle.flush()
            return
        removed = [key for key, entry in self._touched.items() if entry is None]
        kept = [_object_row(entry) for entry in self._touched.values() if entry is not None]
        committed_at = self.now.timestamp()
        changes = [
            (revision, type_, *entry.key, committed_at, entry.body)
            for type_, entry, revision in self.changes
        ]
        work = self.connection
        run_many(work, statements.REMOVE_OBJECTS, statements.KEY_ROW, removed, end=")")
        run_many(
            work,
            statements.WRITE_OBJECTS,
            statements.OBJECT_ROW,
            kept,
            end=statements.OR_REPLACE_STATE,
        )
        run_many(work, statements.APPEND_CHANGES, statements.CHANGE_ROW, changes)
        self._chronicle.flush()
        work.exec_driver_sql(statements.WRITE_REVISION, (self.revision,))


def _key(document: Document) -> Key:
    metadata = document["metadata"]
    return Key(document["kind"], metadata.get("namespace", ""), metadata["name"])


def _object_row(entry: Entry) -> tuple[str | int | bool | bytes, ...]:
    return (
        *entry.key,
        entry.uid,
        entry.revision,
        entry.generation,
        entry.deleting,
        to_json(entry.labels).decode(),
        entry.body,
    )
