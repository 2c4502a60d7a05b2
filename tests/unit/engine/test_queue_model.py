"""The queue against a model of what it promises, by random operations."""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sandboxer.engine.queue import Item, KeyedQueue
from sandboxer.kinds.meta import Key
from sandboxer.testing.clock import ManualClock

KEYS = st.sampled_from([Key("Sandbox", "default", name) for name in "abcde"])
PRIORITIES = st.sampled_from([-100, 0, 5])


class QueueMachine(RuleBasedStateMachine):
    """Keys that are due, with their priority; delayed ones; handed-out ones."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.queue = KeyedQueue(self.clock)
        self.due: dict[Key, int] = {}
        self.later: dict[Key, tuple[float, int]] = {}
        self.out: set[Key] = set()

    def teardown(self) -> None:
        """Close the loop."""
        self._in_loop(lambda: self.queue.shutdown(discard=True))
        self.loop.close()

    @rule(key=KEYS, priority=PRIORITIES)
    def add(self, key: Key, priority: int) -> None:
        """Ask for a key now: it is due, at its highest priority."""
        self._in_loop(lambda: self.queue.add(key, priority=priority))
        waiting = self.later.pop(key, (0.0, priority))
        self.due[key] = max(priority, waiting[1], self.due.get(key, priority))

    @rule(key=KEYS, priority=PRIORITIES, after_s=st.sampled_from([1.0, 2.5, 7.0]))
    def add_later(self, key: Key, priority: int, after_s: float) -> None:
        """Ask for a key later: the earlier time and the higher priority count."""
        self._in_loop(lambda: self.queue.add(key, priority=priority, after_s=after_s))
        if key in self.due:
            self.due[key] = max(priority, self.due[key])
            return
        when = self.clock.monotonic_s() + after_s
        known = self.later.get(key, (when, priority))
        self.later[key] = (min(when, known[0]), max(priority, known[1]))

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        """Let time pass: what has its time is due."""
        self.clock.advance(seconds)
        self._in_loop(self.queue.promote)
        for key, (when, priority) in list(self.later.items()):
            if when <= self.clock.monotonic_s():
                del self.later[key]
                self.due[key] = max(priority, self.due.get(key, priority))

    @precondition(lambda self: self.due.keys() - self.out)
    @rule()
    def get(self) -> None:
        """Take a key: one of the highest priority that nobody works on."""
        item = self.loop.run_until_complete(self.queue.get())
        free = {key: priority for key, priority in self.due.items() if key not in self.out}
        assert item is not None
        assert item.priority == max(free.values())
        assert item == Item(item.key, free[item.key])
        del self.due[item.key]
        self.out.add(item.key)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        """End a pass."""
        key = data.draw(st.sampled_from(sorted(self.out)))
        self._in_loop(lambda: self.queue.done(key))
        self.out.discard(key)

    @invariant()
    def counts_agree(self) -> None:
        """The queue knows as many keys of each sort as the model."""
        assert len(self.queue) == len(self.due)
        assert self.queue.delayed == len(self.later)
        assert self.queue.processing == len(self.out)

    def _in_loop(self, call: object) -> None:
        async def run() -> None:
            assert callable(call)
            call()

        self.loop.run_until_complete(run())


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
