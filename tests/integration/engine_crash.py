"""Stopping a coroutine at its n-th suspension, as a process that dies there."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any


class CrashError(BaseException):
    """The process is gone: nothing that runs in it may catch this."""


class CrashAt:
    """
    Awaits a coroutine and kills it at its n-th suspension.

    Args:
        coroutine: What runs.
        suspension: Which suspension, counted from 0; one that is never reached kills nothing.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], suspension: int) -> None:
        self._coroutine = coroutine
        self._suspension = suspension

    def __await__(self) -> Generator[Any, Any, bool]:
        """Run to the end or to the crash; return whether the end was reached."""
        for _ in range(self._suspension):
            try:
                awaited = self._coroutine.send(None)
            except StopIteration:
                return True
            yield awaited
        try:
            # What is begun before this suspension happens; what would follow does not.
            awaited = self._coroutine.send(None)
        except StopIteration:
            return True
        yield awaited
        try:
            self._coroutine.throw(CrashError())
        except (CrashError, StopIteration):
            return False
        raise AssertionError("something survived a crash")
