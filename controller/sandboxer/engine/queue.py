"""
The queue of keys: what has to be looked at, in which order, and not before when.

It holds keys, each with a word for the record that says what woke it, and nothing else: no payload,
no task or timer per key. One key is worked on by one worker at a time; asked for again meanwhile, it
comes back once, afterwards.

Design notes:

* The rules are client-go's (`util/workqueue`: dirty and processing sets) joined with those of
  controller-runtime's priority queue: one item per key; asked for twice, the higher priority and
  the earlier time win; a key raised to a higher priority goes to the end of that level.
* Only asyncio, no threads: no method but `get` and `drain` awaits, so no lock is needed.
* Delayed keys share one heap and one timer. An entry of the heap that was overtaken stays there
  until its time and is then recognised as stale, which is cheaper than removing it. When the
  stale ones outnumber the others the heap is built anew, so a far expiry costs no memory.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from typing import NamedTuple

from sandboxer.clock import Clock
from sandboxer.engine.trigger import stronger
from sandboxer.kinds.meta import Key

PRIORITY_CHANGE = 0
"""Somebody changed something, or a host saw something change."""
PRIORITY_RESYNC = -100
"""Initial list and resync, as controller-runtime's `handler.LowPriority`: never before a change."""

# Entries of the heap; beyond these, and twice the keys that wait, stale ones are thrown out at once.
STALE_ALLOWED = 1024


class Item(NamedTuple):
    """A key that was handed out, with the priority it had."""

    key: Key
    priority: int
    trigger: str = ""
    """What woke it, for the record; nothing is decided by it."""


class KeyedQueue:
    """
    Keys to be worked on: deduplicated, by priority, some of them later.

    Args:
        clock: Monotonic time of the delays.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Priority of each key that needs work, whether it is queued or being worked on.
        self._dirty: dict[Key, int] = {}
        self._processing: set[Key] = set()
        self._triggers: dict[Key, str] = {}
        # First come, first served within a level. A key may have stale entries here; it is queued
        # at the level that `_dirty` names.
        self._levels: dict[int, deque[Key]] = {}
        self._order: list[int] = []
        self._delayed: dict[Key, tuple[float, int]] = {}
        self._heap: list[tuple[float, Key]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._getters: deque[asyncio.Future[None]] = deque()
        self._drained: asyncio.Event = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        """Return the number of keys that could be handed out now or after their present pass."""
        return len(self._dirty)

    @property
    def delayed(self) -> int:
        """Number of keys whose time has not come."""
        return len(self._delayed)

    @property
    def processing(self) -> int:
        """Number of keys handed out and not yet done."""
        return len(self._processing)

    def add(
        self,
        key: Key,
        *,
        priority: int = PRIORITY_CHANGE,
        after_s: float = 0.0,
        trigger: str = "",
    ) -> None:
        """
        Ask for *key* to be worked on.

        Args:
            key: Which object.
            priority: Higher is handed out first.
            after_s: Seconds from now before which it is not handed out; 0 or less means now.
            trigger: What woke it, see `trigger.py`; of several the strongest is kept.
        """
        if self._closed:
            return
        if trigger:
            # What only waits for its time is overtaken by what is due now.
            waits = after_s <= 0 and key in self._delayed
            before = "" if waits else self._triggers.get(key, "")
            self._triggers[key] = stronger(before, trigger)
        if after_s > 0:
            self._delay(key, priority, after_s)
            return
        if self._delayed:
            waiting = self._delayed.pop(key, None)
            if waiting is not None and waiting[1] > priority:
                priority = waiting[1]
        known = self._dirty.get(key)
        if known is not None and known >= priority:
            return
        self._dirty[key] = priority
        if key not in self._processing:
            self._enqueue(key, priority)

    async def get(self) -> Item | None:
        """Return the next key, waiting for one; None once the queue is shut down and empty."""
        while True:
            if self._dirty:
                item = self._pop()
                if item is not None:
                    return item
            if self._closed:
                return None
            getter = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                # NOTE: a wake-up that this getter received and cannot use belongs to the next one.
                if getter.done() and not getter.cancelled():
                    self._wake_one()
                raise
            finally:
                if not getter.done() or getter.cancelled():
                    self._forget_getter(getter)

    def done(self, key: Key) -> None:
        """Say that the pass over *key* has ended; asked for meanwhile, it is queued again."""
        self._processing.discard(key)
        priority = self._dirty.get(key)
        if priority is not None:
            self._enqueue(key, priority)
        elif self._closed and not self._processing and not self._dirty:
            self._drained.set()

    def shutdown(self, *, discard: bool = False) -> None:
        """
        Take no more keys; hand out what is queued, then None.

        Args:
            discard: Hand out nothing more: the next process finds the same work in the store.
        """
        self._closed = True
        self._delayed.clear()
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if discard:
            self._dirty.clear()
            self._triggers.clear()
            self._levels.clear()
            self._order.clear()
        if not self._processing and not self._dirty:
            self._drained.set()
        while self._getters:
            self._wake_one()

    async def drain(self) -> None:
        """Wait until nothing is queued and every key handed out is done; only after `shutdown`."""
        await self._drained.wait()

    def promote(self) -> None:
        """Queue the delayed keys whose time has come, and set the timer for the next one."""
        now = self._clock.monotonic_s()
        while self._heap and self._heap[0][0] <= now:
            deadline, key = heapq.heappop(self._heap)
            waiting = self._delayed.get(key)
            if waiting is not None and waiting[0] == deadline:
                del self._delayed[key]
                self.add(key, priority=waiting[1])
        self._set_timer(now)

    def _delay(self, key: Key, priority: int, after_s: float) -> None:
        known = self._dirty.get(key)
        if known is not None:
            # Already due: the earlier time wins, and the higher priority.
            self.add(key, priority=priority)
            return
        now = self._clock.monotonic_s()
        deadline = now + after_s
        earlier = self._delayed.get(key)
        if earlier is not None:
            priority = max(priority, earlier[1])
            if earlier[0] <= deadline:
                self._delayed[key] = (earlier[0], priority)
                return
        self._delayed[key] = (deadline, priority)
        if len(self._heap) > STALE_ALLOWED + 2 * len(self._delayed):
            self._heap = [(waiting[0], key) for key, waiting in self._delayed.items()]
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, (deadline, key))
        if self._heap[0][1] is key:
            self._set_timer(now)

    def _set_timer(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            delay_s = max(0.0, self._heap[0][0] - now)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self.promote)

    def _enqueue(self, key: Key, priority: int) -> None:
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = deque()
            self._order = sorted(self._levels, reverse=True)
        level.append(key)
        if self._getters:
            self._wake_one()

    def _pop(self) -> Item | None:
        dirty = self._dirty
        for priority in self._order:
            level = self._levels[priority]
            while level:
                key = level.popleft()
                if dirty.get(key) == priority and key not in self._processing:
                    del dirty[key]
                    self._processing.add(key)
                    return Item(key, priority, self._triggers.pop(key, ""))
        return None

    def _wake_one(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    def _forget_getter(self, getter: asyncio.Future[None]) -> None:
        if getter in self._getters:
            self._getters.remove(getter)
