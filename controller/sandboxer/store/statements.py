"""
Every SQL statement of the store, by name.

Text instead of SQLAlchemy expressions: these run for every write, and a named statement is read
and explained (`EXPLAIN QUERY PLAN`) as it stands. Columns: `sandboxer.store.tables`.
"""

from __future__ import annotations

from typing import Final

READ_META: Final = "SELECT environment, revision, compacted FROM meta WHERE id = 1"
INSERT_META: Final = "INSERT OR IGNORE INTO meta VALUES (1, ?, 0, 0)"
READ_REVISION: Final = "SELECT revision FROM meta WHERE id = 1"
WRITE_REVISION: Final = "UPDATE meta SET revision = ? WHERE id = 1"
READ_COMPACTED: Final = "SELECT compacted FROM meta WHERE id = 1"
WRITE_COMPACTED: Final = "UPDATE meta SET compacted = max(compacted, ?) WHERE id = 1"

READ_INDEX: Final = (
    "SELECT kind, namespace, name, uid, revision, generation, deleting, labels, body FROM objects"
)
# All documents as one JSON array, NULL when there are none. Followed by KEY_ROW for each key.
READ_DOCUMENTS: Final = (
    "SELECT '[' || group_concat(CAST(body AS TEXT)) || ']' FROM objects "
    "WHERE (kind, namespace, name) IN (VALUES "
)
REMOVE_OBJECTS: Final = "DELETE FROM objects WHERE (kind, namespace, name) IN (VALUES "
KEY_ROW: Final = "(?, ?, ?)"

# A new row or a new state of one: WRITE_OBJECTS, OBJECT_ROW for each object, OR_REPLACE_STATE.
# NOTE: not REPLACE, which removes the row first and so rewrites the index as well.
WRITE_OBJECTS: Final = (
    "INSERT INTO objects "
    "(kind, namespace, name, uid, revision, generation, deleting, labels, body) VALUES "
)
OBJECT_ROW: Final = "(?, ?, ?, ?, ?, ?, ?, ?, ?)"
OR_REPLACE_STATE: Final = """
ON CONFLICT (kind, namespace, name) DO UPDATE SET
    uid = excluded.uid, revision = excluded.revision, generation = excluded.generation,
    deleting = excluded.deleting, labels = excluded.labels, body = excluded.body
"""
# Followed by CHANGE_ROW for each change.
APPEND_CHANGES: Final = (
    "INSERT INTO changes (revision, type, kind, namespace, name, committed_at, body) VALUES "
)
CHANGE_ROW: Final = "(?, ?, ?, ?, ?, ?, ?)"

READ_CHANGES: Final = (
    "SELECT revision, type, kind, namespace, name, body FROM changes "
    "WHERE revision > ? AND revision <= ? ORDER BY revision"
)
NEWEST_CHANGE_BEFORE: Final = "SELECT max(revision) FROM changes WHERE committed_at < ?"
REMOVE_CHANGES: Final = "DELETE FROM changes WHERE revision <= ?"

READ_INVENTORY: Final = (
    "SELECT kind, namespace, name, uid, digest FROM source_inventory "
    "WHERE source = ? ORDER BY kind, namespace, name"
)
REMOVE_INVENTORY: Final = "DELETE FROM source_inventory WHERE source = ?"
ADD_INVENTORY: Final = (
    "INSERT INTO source_inventory (source, kind, namespace, name, uid, digest) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)

DATA_VERSION: Final = "PRAGMA data_version"
READ_SCHEMA: Final = "SELECT version_num FROM alembic_version"
HAS_SCHEMA: Final = "SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'"
