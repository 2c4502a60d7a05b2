"""
Which keys a change wakes: the only place that knows that one object's change matters to another.

A lost wake-up costs time, never correctness. A controller's own status writes wake nobody, or a
failure would be retried by its own record.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable

from sandboxer.clock import Clock
from sandboxer.engine.clockwatch import CLOCK_WATCH, CLOCK_WATCH_S
from sandboxer.engine.members import POOL, Members
from sandboxer.engine.observer import Observer
from sandboxer.engine.outcome import Done
from sandboxer.engine.ownership import OWNER, Ownership, owner_key
from sandboxer.engine.placements import Placed, Placements, placed_from
from sandboxer.engine.queue import PRIORITY_CHANGE, PRIORITY_RESYNC, KeyedQueue
from sandboxer.errors import TransientError
from sandboxer.kinds.catalog import KINDS
from sandboxer.kinds.meta import Key
from sandboxer.store import Change, Entry, Store

RESYNC = Key("Resync", "", "all")
"""No object: the key whose pass queues every sandbox, pool and owner."""

# Seconds until everything is looked at although nothing was heard of it: bounds what a lost
# wake-up costs. 2,000 passes over settled sandboxes take about a second.
RESYNC_S = 1800.0


class Resync:
    """
    A pass over no object: it queues every sandbox, pool and owner, and comes back.

    Args:
        wakeups: Where they are queued.
    """

    def __init__(self, wakeups: Wakeups) -> None:
        self._wakeups = wakeups

    async def reconcile(self, _key: Key) -> Done:
        """Queue everything."""
        self._wakeups.resync()
        return Done(after_s=RESYNC_S)

    async def failed(self, _key: Key, _error: TransientError) -> None:
        """Record nothing; the worker has logged it."""


class Wakeups:
    """
    Puts keys into the queues.

    Args:
        queue: Where they go.
        host_queue: Where hosts go, which have workers of their own.
        owner_queue: Where pools and owners go, likewise.
        store: Its changes are followed.
        observer: Its changes are followed.
        placements: Kept up to date here.
        ownership: Kept up to date here.
        members: Kept up to date here.
        clock: Wall-clock time, for expiries.
        wants: Says which keys this process works on; others are left to their controller.
    """

    def __init__(
        self,
        queue: KeyedQueue,
        store: Store,
        *,
        host_queue: KeyedQueue,
        owner_queue: KeyedQueue,
        observer: Observer,
        placements: Placements,
        ownership: Ownership,
        members: Members,
        clock: Clock,
        wants: Callable[[Key], bool],
    ) -> None:
        self._queue = queue
        self._queues = {"Host": host_queue, POOL: owner_queue, OWNER: owner_queue}
        self._store = store
        self._observer = observer
        self._placements = placements
        self._ownership = ownership
        self._members = members
        self._clock = clock
        self._wants = wants
        # What of a host matters to sandboxes, by name; see `_host_fingerprint`.
        self._hosts: dict[str, object] = {}
        self._generations: dict[Key, tuple[str, int, bool]] = {}
        self._unsubscribe: Callable[[], None] | None = None

    def start(self) -> None:
        """Queue everything there is, and follow what changes from now on."""
        # NOTE: no await between subscribing and listing, or a change falls between them.
        self._unsubscribe = self._store.subscribe(self.changed)
        self._observer.on_change = self.observed
        for entry in self._store.entries("Sandbox"):
            self._placements.put(placed_from(entry.key, entry.body))
            self._members.put(entry)
        for kind in KINDS:
            for entry in self._store.entries(kind):
                self._ownership.put(entry)
        for entry in self._store.entries("Host"):
            self._hosts[entry.key.name] = _host_fingerprint(entry)
            self.wake([entry.key])
        for kind in ("Host", "Profile", "Extension", POOL):
            for entry in self._store.entries(kind):
                self._generations[entry.key] = _generation(entry)
        for kind in ("Profile", "Extension"):
            self.wake((e.key for e in self._store.entries(kind)), priority=PRIORITY_RESYNC)
        self.resync()
        self._queue.add(RESYNC, priority=PRIORITY_RESYNC, after_s=RESYNC_S)
        self._queue.add(CLOCK_WATCH, after_s=CLOCK_WATCH_S)

    def stop(self) -> None:
        """Follow nothing any more."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self._observer.on_change = None

    def resync(self) -> None:
        """Queue every sandbox, pool and owner once, behind everything that changed."""
        pools = [entry.key for entry in self._store.entries(POOL)]
        owners = map(owner_key, self._ownership.owners())
        self.wake([*self._placements.keys(), *pools, *owners], priority=PRIORITY_RESYNC)

    def wall_clock_set(self) -> None:
        """Queue every sandbox whose lifetime ends: waiting was for another wall clock."""
        self.wake(self._placements.mortal(), trigger="expiry")

    def wake(
        self, keys: Iterable[Key], *, priority: int = PRIORITY_CHANGE, trigger: str = ""
    ) -> None:
        """Queue those of *keys* this process works on; for *trigger* see `trigger.py`."""
        for key in keys:
            if self._is_wanted(key):
                queue = self._queues.get(key.kind, self._queue)
                queue.add(key, priority=priority, trigger=trigger)

    def observed(self, _host: str, uids: Collection[str], trigger: str) -> None:
        """Wake the sandboxes whose observation changed."""
        keys = (self._placements.key_of(uid) for uid in uids)
        self.wake((key for key in keys if key is not None), trigger=trigger)

    def changed(self, change: Change) -> None:
        """Wake what a change of the store matters to."""
        kind = change.entry.key.kind
        self.wake(map(owner_key, self._ownership.changed(change)))
        if kind == "Sandbox":
            self._sandbox_changed(change)
            self.wake(self._members.changed(change))
        elif kind == "Host":
            self._host_changed(change)
        elif kind in ("Profile", "Extension", POOL) and self._is_news(change):
            self.wake([change.entry.key])
            if kind == "Profile":
                keys = self._placements.with_profile(change.entry.key.name)
                self.wake(keys, trigger="profile")

    def _sandbox_changed(self, change: Change) -> None:
        key = change.entry.key
        if change.type == "DELETED":
            before = self._placements.remove(key)
            if before is not None and before.host:
                self._left(before.host)
            return
        placed = placed_from(key, change.entry.body)
        before = self._placements.put(placed)
        if before is None or _wish(before) != _wish(placed):
            self.wake([key], trigger=_trigger(before, placed))
        elif placed.next_moment is not None and self._is_wanted(key):
            left_s = (placed.next_moment - self._clock.now()).total_seconds()
            self._queue.add(key, after_s=max(0.0, left_s))
        if before is not None and before.host != placed.host:
            if before.host:
                self._left(before.host)
            if placed.host and self._placements.is_first_on(placed):
                # From now on a probe has to ask this extension too.
                self.wake([Key("Host", "", placed.host)])

    def _left(self, host: str) -> None:
        """There is room on a host: for those that wait, its own deletion, or the end of its drain."""
        self.wake(self._placements.seeking(), trigger="room")
        key = Key("Host", "", host)
        entry = self._store.entry(key)
        if entry is None:
            return
        if entry.deleting or (_is_drained(entry) and not self._placements.on_host(host)):
            self.wake([key])

    def _host_changed(self, change: Change) -> None:
        entry = change.entry
        name = entry.key.name
        if self._is_news(change):
            self.wake([entry.key])
        fingerprint = None if change.type == "DELETED" else _host_fingerprint(entry)
        if self._hosts.get(name) == fingerprint:
            return
        if fingerprint is None:
            del self._hosts[name]
        else:
            self._hosts[name] = fingerprint
        self.wake(self._placements.on_host(name), trigger="host")
        self.wake(self._placements.seeking(), trigger="host")

    def _is_wanted(self, key: Key) -> bool:
        """Tell whether this process works on a key: it wants it, or the pool that it belongs to."""
        if key.kind == OWNER:
            return self._wants(key) or any(map(self._wants, self._ownership.named_owners(key.name)))
        return self._wants(key) or any(map(self._wants, self._ownership.owners_of(key)))

    def _is_news(self, change: Change) -> bool:
        entry = change.entry
        known = self._generations.get(entry.key)
        if change.type == "DELETED":
            self._generations.pop(entry.key, None)
            return True
        self._generations[entry.key] = _generation(entry)
        return known != self._generations[entry.key]


def _wish(placed: Placed) -> tuple[str, int, bool]:
    return placed.uid, placed.generation, placed.deleting


def _trigger(before: Placed | None, placed: Placed) -> str:
    if before is None or before.uid != placed.uid:
        return "created"
    return "deletion" if placed.deleting else "spec"


def _generation(entry: Entry) -> tuple[str, int, bool]:
    return entry.uid, entry.generation, entry.deleting


def _is_drained(entry: Entry) -> bool:
    return bool(json.loads(entry.body)["spec"].get("drain", "Keep") != "Keep")


def _host_fingerprint(entry: Entry) -> object:
    """Return what of a host matters to sandboxes; its load and the time of a probe do not."""
    document = json.loads(entry.body)
    status = document.get("status", {})
    conditions = {c["type"]: c["status"] for c in status.get("conditions", ())}
    return entry.uid, entry.generation, dict(entry.labels), conditions, status.get("facts")
