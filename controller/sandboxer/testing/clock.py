"""A clock whose time moves only when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

EPOCH = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
"""Where a manual clock starts: a round moment, so that expected times are easy to read."""


class ManualClock:
    """
    A `sandboxer.clock.Clock` that stands still until it is advanced.

    Args:
        start: Wall-clock time to begin with.
    """

    def __init__(self, start: datetime = EPOCH) -> None:
        self._now = start
        self._monotonic_s = 1000.0
        self._listeners: list[Callable[[], None]] = []

    def now(self) -> datetime:
        """Return the wall-clock time, aware and in UTC."""
        return self._now

    def monotonic_s(self) -> float:
        """Return the monotonic time in seconds."""
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Move both clocks forward and tell the listeners."""
        self._now += timedelta(seconds=seconds)
        self._monotonic_s += seconds
        for listener in self._listeners:
            listener()

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator would; monotonic time stays."""
        self._now += timedelta(seconds=seconds)

    def on_advance(self, listener: Callable[[], None]) -> None:
        """Have *listener* called after each advance, for instance `KeyedQueue.promote`."""
        self._listeners.append(listener)
