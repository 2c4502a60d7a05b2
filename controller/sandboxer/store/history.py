"""Reading what others committed: the whole store, or the changes since a revision."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection, Row

from sandboxer.kinds.meta import Key
from sandboxer.store import statements
from sandboxer.store.cache import Cache
from sandboxer.store.entries import Change, Entry, change_of
from sandboxer.store.failures import ExpiredError


class Meta(NamedTuple):
    """The row of the table `meta`."""

    environment: str
    revision: int
    compacted: int


@contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """Let all statements inside see the same commit; writers are not held up."""
    connection.exec_driver_sql("BEGIN")
    try:
        yield
    finally:
        connection.rollback()


def read_meta(connection: Connection) -> Meta:
    """Return what is known once per store."""
    return Meta(*connection.exec_driver_sql(statements.READ_META).one())


def read_everything(connection: Connection) -> Cache:
    """Return all objects; call inside a transaction."""
    rows = connection.exec_driver_sql(statements.READ_INDEX)
    return Cache(read_meta(connection).revision, map(_entry, rows))


def read_changes(connection: Connection, since: int, until: int | None = None) -> list[Change]:
    """
    Return the changes after *since*, up to *until* (or the newest); call inside a transaction.

    Raises:
        ExpiredError: Some of them were compacted away, or *since* is newer than the store.
    """
    meta = read_meta(connection)
    if since < meta.compacted:
        raise ExpiredError(
            f"Changes after version {since} were compacted away; the oldest left is "
            f"{meta.compacted + 1}.",
            remedy="List again and watch from the version of that list.",
        )
    if since > meta.revision:
        raise ExpiredError(
            f"Version {since} is newer than this store, which is at {meta.revision}.",
            remedy="List again; the store was probably restored or replaced.",
        )
    rows = connection.exec_driver_sql(
        statements.READ_CHANGES, (since, meta.revision if until is None else until)
    )
    return [
        change_of(type_, Key(kind, namespace, name), body)
        for _, type_, kind, namespace, name, body in rows
    ]


def _entry(row: Row[Any]) -> Entry:
    """Return the entry of one row of `statements.READ_INDEX`."""
    kind, namespace, name, uid, revision, generation, deleting, labels, body = tuple(row)
    decoded = {} if labels == "{}" else json.loads(labels)
    key = Key(kind, namespace, name)
    return Entry(key, uid, revision, generation, decoded, bool(deleting), body)
