"""
Ending a stream whose client stands still, at the cost of one timer for the whole stream.

`asyncio.timeout` around each of thousands of short steps would cost more than most of the steps.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Patience:
    """
    A block that ends early, without an error, when one of its steps takes too long.

    Args:
        limit_s: Longest time of one step, in seconds; noticed within twice that.

    Attributes:
        ended: Whether it ended early.
    """

    def __init__(self, limit_s: float) -> None:
        self.ended = False
        self._limit_s = limit_s
        self._since_s: float | None = None

    def __enter__(self) -> Self:
        """Begin to look, in the running task."""
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None, "it surrounds part of a task"
        self._task = task
        self._look_again()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> bool:
        """Stop looking; the cancellation that was ours ends here."""
        self._timer.cancel()
        ours = self.ended and kind is not None and issubclass(kind, asyncio.CancelledError)
        return ours and self._task.uncancel() == 0

    def begin_step(self) -> None:
        """Begin to count."""
        self._since_s = self._loop.time()

    def end_step(self) -> None:
        """Stop counting."""
        self._since_s = None

    def _look(self) -> None:
        if self._since_s is None or self._loop.time() - self._since_s < self._limit_s:
            self._look_again()
            return
        self.ended = True
        self._task.cancel()

    def _look_again(self) -> None:
        self._timer = self._loop.call_later(self._limit_s, self._look)
