"""What each source of documents has applied, so that it prunes only what it brought itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy.engine import Connection

from sandboxer.kinds.meta import Key
from sandboxer.store import statements


class InventoryEntry(NamedTuple):
    """One object a source has applied."""

    key: Key
    uid: str
    """Which object of that name; a namesake made since by somebody else is not the source's."""
    digest: str
    """Hash of the document as the source held it."""


def read_inventory(connection: Connection, source: str) -> list[InventoryEntry]:
    """Return what *source* has applied, in the order of keys."""
    rows = connection.exec_driver_sql(statements.READ_INVENTORY, (source,))
    return [
        InventoryEntry(Key(kind, namespace, name), uid, digest)
        for kind, namespace, name, uid, digest in rows
    ]


def replace_inventory(
    connection: Connection, source: str, entries: Iterable[InventoryEntry]
) -> None:
    """Record that *source* has applied exactly *entries*."""
    connection.exec_driver_sql(statements.REMOVE_INVENTORY, (source,))
    if rows := [(source, *entry.key, entry.uid, entry.digest) for entry in entries]:
        connection.exec_driver_sql(statements.ADD_INVENTORY, rows)
