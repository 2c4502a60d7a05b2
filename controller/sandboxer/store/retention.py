"""What may be forgotten: old changes, old events and old tombstones."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from pydantic_core import from_json

from sandboxer.kinds.event import Event
from sandboxer.store import statements
from sandboxer.store.batches import run_many
from sandboxer.store.entries import Entry
from sandboxer.store.operations import Delete
from sandboxer.store.transaction import Transaction

# Changes that stay, so that a watch can resume. A watcher that lost its connection is back within
# minutes; at ten changes a second this covers 16 minutes, in about 20 MB.
KEEP_CHANGES: Final = 10_000

# Age after which a change goes even when there are fewer: a day, so that a laptop that slept over
# night resumes and a quiet store does not keep old documents for ever.
MAX_CHANGE_AGE: Final = timedelta(days=1)

# Age after which an event goes. Kubernetes keeps one hour; a failure of the night should still be
# explained in the morning.
MAX_EVENT_AGE: Final = timedelta(hours=24)

# Events that stay at most, newest first; a few MB, whatever loops.
MAX_EVENTS: Final = 10_000


# Age after which a tombstone goes with its transitions, and how many stay at most, newest first: a
# month is how far back a bill or a complaint reaches. What a sandbox keeps: `chronicle.py`.
MAX_TOMBSTONE_AGE: Final = timedelta(days=30)
MAX_TOMBSTONES: Final = 10_000

# Tombstones removed in one transaction, with some ten transitions each: others' writes wait for it.
TOMBSTONES_AT_ONCE: Final = 500


def stale_events(entries: Iterable[Entry], now: datetime) -> list[Delete]:
    """
    Return the deletions of events that are too old or too many.

    Args:
        entries: All events.
        now: Current time.
    """
    newest_first = sorted(entries, key=lambda entry: entry.revision, reverse=True)
    oldest_kept = now - MAX_EVENT_AGE
    return [
        Delete(Event, entry.key.name, entry.key.namespace, uid=entry.uid)
        for place, entry in enumerate(newest_first)
        if place >= MAX_EVENTS or _last_seen(entry, now) < oldest_kept
    ]


def compact_changes(work: Transaction, keep: int) -> int:
    """Remove all but the newest *keep* changes, and the old ones among them; return how many."""
    execute = work.connection.exec_driver_sql
    too_old = execute(
        statements.NEWEST_CHANGE_BEFORE, ((work.now - MAX_CHANGE_AGE).timestamp(),)
    ).scalar()
    # NOTE: changes of this very transaction are written after this and stay.
    until = max(work.revision - keep, too_old or 0)
    removed = execute(statements.REMOVE_CHANGES, (until,)).rowcount
    if removed:
        execute(statements.WRITE_COMPACTED, (until,))
    return int(removed)


def forget_tombstones(work: Transaction) -> bool:
    """Remove some of the tombstones that are too old or too many; True when there may be more."""
    execute = work.connection.exec_driver_sql
    oldest_kept = (work.now - MAX_TOMBSTONE_AGE).timestamp()
    values = (oldest_kept, MAX_TOMBSTONES, TOMBSTONES_AT_ONCE)
    rows = [(uid,) for (uid,) in execute(statements.OLD_TOMBSTONES, values)]
    for statement in (statements.REMOVE_TRANSITIONS, statements.REMOVE_TOMBSTONES):
        run_many(work.connection, statement, statements.UID_ROW, rows, end=")")
    return len(rows) == TOMBSTONES_AT_ONCE


def _last_seen(entry: Entry, now: datetime) -> datetime:
    document = from_json(entry.body)
    text = document.get("lastTimestamp") or document["metadata"].get("creationTimestamp")
    return datetime.fromisoformat(text) if text else now
