"""
Noticing that the wall clock was set, or that the machine slept.

Waiting is done by the monotonic clock, which stands still while a machine sleeps and knows nothing
of an administrator; lifetimes end by the wall clock. When the two part, every sandbox with a
lifetime is looked at again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sandboxer.clock import Clock
from sandboxer.engine.outcome import Done
from sandboxer.errors import TransientError
from sandboxer.kinds.meta import Key

CLOCK_WATCH: Final = Key("ClockWatch", "", "all")
"""No object: the key whose pass compares the clocks."""

# Seconds between two comparisons: how late an expiry can be after the clock was set forward.
CLOCK_WATCH_S: Final = 5.0

# Seconds; more than the two part by being read one after the other, or by NTP slewing in 5 s.
_JUMP_S: Final = 1.0


class ClockWatch:
    """
    A pass over no object: it compares the clocks, and comes back.

    Args:
        clock: Both of them.
        on_jump: Called after the wall clock was set.
    """

    def __init__(self, clock: Clock, on_jump: Callable[[], None]) -> None:
        self._clock = clock
        self._on_jump = on_jump
        self._apart_s = self._difference_s()

    async def reconcile(self, _key: Key) -> Done:
        """Compare."""
        apart_s = self._difference_s()
        if abs(apart_s - self._apart_s) > _JUMP_S:
            self._on_jump()
            self._apart_s = apart_s
        return Done(after_s=CLOCK_WATCH_S)

    async def failed(self, _key: Key, _error: TransientError) -> None:
        """Record nothing; the worker has logged it."""

    def _difference_s(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic_s()
