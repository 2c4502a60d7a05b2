"""
One write transaction: load what is touched, judge each write alone, write what came of it.

Judging is pure and happens in memory, so a refused write leaves nothing to undo and needs no
savepoint. Many rows go through one statement, because the driver gives up Python's global lock at
every step of one and, while the event loop is busy, gets it back only after 5 ms
(`sys.getswitchinterval`): 150 steps for 50 writes took 200 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json
from sqlalchemy.engine import Connection, CursorResult

from sandboxer.errors import SandboxerError
from sandboxer.kinds.meta import Key, Resource, Timestamp
from sandboxer.store import rules, statements
from sandboxer.store.entries import Change, Document, Entry, decode, entry_of
from sandboxer.store.rules import Wish

# Rows of one statement, nine parameters each at most. SQLite takes 32,766 parameters
# (https://www.sqlite.org/limits.html, 9); longer statements only parse slower.
_ROWS_PER_STATEMENT: Final = 256

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
        self._stored: dict[Key, Document | None] = {}
        self._touched: dict[Key, Entry | None] = {}

    def load(self, keys: Iterable[Key]) -> None:
        """Read the objects that are going to be judged."""
        missing = [key for key in dict.fromkeys(keys) if key not in self._stored]
        self._stored.update(dict.fromkeys(missing))
        for found in _many(
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

    def flush(self) -> None:
        """Write objects, changes and the revision."""
        if not self.changes:
            return
        removed = [key for key, entry in self._touched.items() if entry is None]
        kept = [_object_row(entry) for entry in self._touched.values() if entry is not None]
        committed_at = self.now.timestamp()
        changes = [
            (revision, type_, *entry.key, committed_at, entry.body)
            for type_, entry, revision in self.changes
        ]
        work = self.connection
        _many(work, statements.REMOVE_OBJECTS, statements.KEY_ROW, removed, end=")")
        _many(
            work,
            statements.WRITE_OBJECTS,
            statements.OBJECT_ROW,
            kept,
            end=statements.OR_REPLACE_STATE,
        )
        _many(work, statements.APPEND_CHANGES, statements.CHANGE_ROW, changes)
        work.exec_driver_sql(statements.WRITE_REVISION, (self.revision,))


def _many(
    connection: Connection,
    statement: str,
    row: str,
    rows: Sequence[tuple[Any, ...]],
    *,
    end: str = "",
) -> list[CursorResult[Any]]:
    """Run *statement* followed by placeholders for *rows*, in as few pieces as possible."""
    pieces = [
        rows[start : start + _ROWS_PER_STATEMENT]
        for start in range(0, len(rows), _ROWS_PER_STATEMENT)
    ]
    return [
        connection.exec_driver_sql(
            f"{statement}{', '.join([row] * len(piece))}{end}",
            tuple(value for values in piece for value in values),
        )
        for piece in pieces
    ]


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
