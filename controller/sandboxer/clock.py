"""
Time as a dependency, so that tests decide what time it is.

Wall-clock time (`now`) is for what people read and for expiry; it may jump.
Monotonic time (`monotonic_s`) is for delays and ages; it never runs backwards.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where every part of the controller reads the time from."""

    def now(self) -> datetime:
        """Return the wall-clock time as an aware UTC `datetime`, microseconds included."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never runs backwards; only differences mean anything."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """Return the current wall-clock time in UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Return the machine's monotonic clock in seconds."""
        return time.monotonic()
