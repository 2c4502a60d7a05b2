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

# Followed by TRANSITION_ROW for each transition. A row's number goes on from the newest there is.
# Ours are numbered within the statement, which reads all newest numbers before it writes a row.
APPEND_TRANSITIONS: Final = "INSERT INTO transitions (uid, number, at, last_at, count, reason, message, phase, told) VALUES "
TRANSITION_ROW: Final = (
    "(?, ? + coalesce((SELECT max(number) FROM transitions WHERE uid = ?), 0), ?, ?, 1, ?, ?, ?, ?)"
)
# A repeat of what happened last counts it once more.
REPEAT_TRANSITION: Final = """
UPDATE transitions SET count = count + 1, last_at = ?
WHERE uid = ? AND number = (SELECT max(number) FROM transitions WHERE uid = ?)
    AND reason = ? AND message = ? AND phase = ? AND told = ?
"""
# Followed by UID_ROW for each sandbox and TRIM_TO; what a tombstone is made of stays.
TRIM_TRANSITIONS: Final = (
    "DELETE FROM transitions WHERE rowid IN (SELECT t.rowid FROM (SELECT column1 AS uid "
    "FROM (VALUES "
)
UID_ROW: Final = "(?)"
TRIM_TO: Final = """)) AS touched JOIN transitions AS t ON t.uid = touched.uid
AND t.number <= (SELECT max(number) FROM transitions WHERE uid = touched.uid) - {kept}
AND t.reason NOT IN ('Created', 'DeletionRequested'))
"""
READ_TRANSITIONS: Final = (
    "SELECT number, at, last_at, count, reason, message, phase, told FROM transitions "
    "WHERE uid = ? ORDER BY number"
)
READ_DELETION: Final = (
    "SELECT at, told FROM transitions WHERE uid = ? AND reason = 'DeletionRequested' "
    "ORDER BY number DESC LIMIT 1"
)
# Followed by TOMBSTONE_ROW for each; a uid can be made again (adopted) and go again.
WRITE_TOMBSTONES: Final = (
    "INSERT OR REPLACE INTO tombstones (uid, namespace, name, revision, deleted_at, body) VALUES "
)
TOMBSTONE_ROW: Final = "(?, ?, ?, ?, ?, ?)"
READ_TOMBSTONES: Final = """
SELECT body FROM tombstones WHERE (? IS NULL OR namespace = ?) AND (? = '' OR name = ?)
    AND (? = '' OR substr(uid, 1, ?) = ?) ORDER BY revision DESC LIMIT ?
"""
OLD_TOMBSTONES: Final = """
SELECT uid FROM tombstones WHERE deleted_at < ? OR revision <= coalesce(
    (SELECT revision FROM tombstones ORDER BY revision DESC LIMIT 1 OFFSET ?), -1
) ORDER BY revision LIMIT ?
"""
# Each followed by UID_ROW for each sandbox.
REMOVE_TRANSITIONS: Final = "DELETE FROM transitions WHERE uid IN (VALUES "
REMOVE_TOMBSTONES: Final = "DELETE FROM tombstones WHERE uid IN (VALUES "

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
