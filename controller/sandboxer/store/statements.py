"""
Every SQL statement of the store, by name.

Text instead of SQLAlchemy expressions: these run for every write, and a named statement is read
and explained (`EXPLAIN QUERY PLAN`) as it stands. Columns: `sandboxer.store.tables`.
"""

from __future__ import annotations

from typing import Final

READ_META: Final = "SELECT environment, revision, compacted FROM meta WHERE id = 1"
INSERT_META: Final = "INSERT OR IGNORE INTO meta VALUES (1, ?, 0, 0)"
WRITE_ENVIRONMENT: Final = "UPDATE meta SET environment = ? WHERE id = 1"
READ_SANDBOXES: Final = "SELECT namespace, name, body FROM objects WHERE kind = 'Sandbox'"
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
AND t.reason NOT IN ('Created', 'Adopted', 'DeletionRequested'))
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
ADD_TOMBSTONE: Final = (
    "INSERT OR IGNORE INTO tombstones (uid, namespace, name, revision, deleted_at, body) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)
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

READ_WANTED: Final = "SELECT name, words, namespaces FROM sinks"
# Followed by LETTER_ROW for each letter. Only the first of a lane has a time at which it is due.
POST_LETTERS: Final = """
INSERT INTO outbox (
    sink, uid, event_id, word, namespace, name, at, body, due_at, attempts, error
) VALUES
"""
LETTER_ROW: Final = (
    "(?, ?, ?, ?, ?, ?, ?, ?, CASE WHEN ? OR EXISTS (SELECT 1 FROM outbox "
    "WHERE sink = ? AND uid = ? AND dead_at IS NULL) THEN NULL ELSE ? END, 0, '')"
)
# `dead_at > 0` instead of `IS NOT NULL`, and `+`: so that SQLite takes the index of the dead.
READ_SINKS: Final = """
SELECT name, url, words, namespaces,
    (SELECT count(*) FROM outbox WHERE sink = s.name AND dead_at IS NULL),
    (SELECT count(*) FROM outbox WHERE +sink = s.name AND dead_at > 0),
    (SELECT at FROM outbox WHERE sink = s.name AND dead_at IS NULL ORDER BY position LIMIT 1),
    (SELECT error FROM outbox WHERE sink = s.name AND due_at IS NOT NULL AND error <> ''
        ORDER BY due_at DESC LIMIT 1)
FROM sinks AS s ORDER BY name
"""
WRITE_SINK: Final = (
    "INSERT OR REPLACE INTO sinks (name, url, words, namespaces) VALUES (?, ?, ?, ?)"
)
REMOVE_SINK: Final = "DELETE FROM sinks WHERE name = ?"
BURY_LETTERS: Final = (
    "UPDATE outbox SET due_at = NULL, dead_at = ?, error = ? WHERE sink = ? AND dead_at IS NULL"
)
# A time that is further away than any pause means that the wall clock was set back since.
DUE_LETTERS: Final = """
SELECT position, sink, uid, event_id, at, body, attempts FROM outbox
WHERE (sink = ? AND due_at <= ?) OR (sink = ? AND due_at > ?) ORDER BY position LIMIT ?
"""
NEXT_DUE: Final = "SELECT min(due_at) FROM outbox WHERE sink = ? AND due_at > ?"
REMOVE_LETTER: Final = "DELETE FROM outbox WHERE position = ?"
# What was revived meanwhile comes first, and then this one has no time of its own any more.
POSTPONE_LETTER: Final = """
UPDATE outbox AS l SET attempts = attempts + 1, error = ?, due_at = CASE WHEN position = (
    SELECT min(position) FROM outbox WHERE sink = l.sink AND uid = l.uid AND dead_at IS NULL
) THEN ? END WHERE position = ?
"""
BURY_LETTER: Final = (
    "UPDATE outbox SET attempts = attempts + 1, due_at = NULL, dead_at = ?, error = ? "
    "WHERE position = ?"
)
BURY_OLD_IN_LANE: Final = """
UPDATE outbox SET due_at = NULL, dead_at = ?, error = ?
WHERE sink = ? AND uid = ? AND dead_at IS NULL AND at < ?
"""
# The newest that is one too many when so many may wait.
TOO_MANY_WAIT: Final = (
    "SELECT position FROM outbox WHERE sink = ? AND dead_at IS NULL "
    "ORDER BY position DESC LIMIT 1 OFFSET ?"
)
BURY_OLDEST: Final = """
UPDATE outbox SET due_at = NULL, dead_at = ?, error = ? WHERE position IN (
    SELECT position FROM outbox WHERE sink = ? AND dead_at IS NULL AND position <= ?
        ORDER BY position LIMIT ?)
"""
# As NEXT_IN_LANE, for all lanes of which something has died at one time.
NEXT_IN_LANES: Final = """
UPDATE outbox SET due_at = coalesce(due_at, ?) WHERE position IN (
    SELECT min(position) FROM outbox WHERE sink = ? AND dead_at IS NULL
        AND uid IN (SELECT uid FROM outbox WHERE dead_at = ? AND sink = ?) GROUP BY uid)
"""
# The first of a lane is due, unless it already waits for its time.
NEXT_IN_LANE: Final = """
UPDATE outbox SET due_at = coalesce(due_at, ?) WHERE position = (
    SELECT min(position) FROM outbox WHERE sink = ? AND uid = ? AND dead_at IS NULL)
"""
# Before what comes earlier is revived: only the first of a lane has a time.
UNSET_IN_LANE: Final = (
    "UPDATE outbox SET due_at = NULL WHERE sink = ? AND uid = ? AND dead_at IS NULL"
)
COUNT_DEAD: Final = "SELECT count(*) FROM outbox WHERE dead_at > 0 AND (? = '' OR sink = ?)"
DEAD_LETTERS: Final = """
SELECT position, sink, uid, event_id, word, namespace, name, at, attempts, dead_at, error
FROM outbox WHERE dead_at > 0 AND (? = '' OR sink = ?) ORDER BY position LIMIT ?
"""
REVIVABLE_LANES: Final = """
SELECT DISTINCT sink, uid FROM outbox WHERE dead_at > 0 AND (? = '' OR sink = ?)
    AND (? = 0 OR position = ?) AND sink IN (SELECT name FROM sinks)
"""
REVIVE_LETTERS: Final = """
UPDATE outbox SET dead_at = NULL, due_at = NULL, attempts = 0
WHERE dead_at > 0 AND sink = ? AND uid = ? AND (? = 0 OR position = ?)
"""
FORGET_LETTERS: Final = """
DELETE FROM outbox WHERE position IN (
    SELECT position FROM outbox WHERE dead_at > 0 AND (dead_at < ? OR position <= coalesce(
        (SELECT position FROM outbox WHERE dead_at > 0
            ORDER BY +position DESC LIMIT 1 OFFSET ?), -1)) LIMIT ?)
"""
