"""Stopping a coroutine at its n-th suspension, as a process that dies there, and what it told."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any

from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Store


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


async def check_story(store: Store, uid: str) -> None:
    """See that what was told of `hello` leads to what is, step by step, wherever somebody died."""
    found = store.get(Sandbox, "hello")
    story, stones = await store.transitions(uid), await store.tombstones(uid=uid)
    phases = [each.after for each in story]
    # Several things can be told of one write, which has one phase before it.
    written = [t for t, next_ in zip(story, [*story[1:], None], strict=True)
               if next_ is None or (next_.before, next_.after) != (t.before, t.after)]  # fmt: skip
    assert [t.before for t in written] == ["", *(t.after for t in written[:-1])]
    assert phases[-1] == ("" if found is None else found.status.phase)
    assert [stone.uid for stone in stones] == ([uid] if found is None else [])
