"""What may be forgotten: old changes and old events."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from pydantic_core import from_json

from sandboxer.kinds.event import Event
from sandboxer.store import statements
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


def _last_seen(entry: Entry, now: datetime) -> datetime:
    document = from_json(entry.body)
    text = document.get("lastTimestamp") or document["metadata"].get("creationTimestamp")
    return datetime.fromisoformat(text) if text else now
