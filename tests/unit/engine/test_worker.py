"""Outcomes become delays in one place."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Self

import pytest

from sandboxer.engine.outcome import Done
from sandboxer.engine.queue import KeyedQueue
from sandboxer.engine.worker import BACKOFF_MAX_S, Workers, backoff_s
from sandboxer.errors import (
    ConflictError,
    InvalidSpecError,
    TerminalError,
    TransientError,
    Waiting,
)
from sandboxer.kinds.meta import Key
from sandboxer.store import KeyLocks
from sandboxer.testing.clock import ManualClock

HELLO = Key("Sandbox", "default", "hello")


class Script:
    """A pass that returns or raises what it is told, one after the other, then nothing more."""

    def __init__(self, *outcomes: Done | BaseException) -> None:
        self.outcomes = list(outcomes)
        self.passes = 0
        self.failures: list[TransientError] = []

    async def reconcile(self, _key: Key) -> Done:
        self.passes += 1
        outcome = self.outcomes.pop(0) if self.outcomes else Done()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def failed(self, _key: Key, error: TransientError) -> None:
        self.failures.append(error)


class Bench:
    """Workers over a scripted pass."""

    def __init__(self, script: Script, path: Path) -> None:
        self.clock = ManualClock()
        self.queue = KeyedQueue(self.clock)
        self.clock.on_advance(self.queue.promote)
        self.locks = KeyLocks(path / "locks")
        self.script = script
        self.workers = Workers(
            self.queue, {"Sandbox": script}, locks=self.locks, rng=random.Random(1), count=2
        )

    async def __aenter__(self) -> Self:
        self.running = asyncio.create_task(self.workers.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.workers.stop(budget_s=1.0)
        await self.running
        self.locks.close()

    async def settle(self) -> None:
        """Wait until nothing is due and nothing runs."""
        async with asyncio.timeout(60):
            while len(self.queue) or self.queue.processing:  # noqa: ASYNC110 - many small steps, no event
                await asyncio.sleep(0)


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    return lambda *outcomes: Bench(Script(*outcomes), tmp_path)


async def test_done_rests_until_something_changes(bench: Callable[..., Bench]) -> None:
    """A pass with nothing more to do is not repeated."""
    async with bench(Done()) as made:
        made.queue.add(HELLO)
        await made.settle()
        made.clock.advance(10_000)
        await made.settle()

    assert made.script.passes == 1


async def test_done_comes_back_in_time(bench: Callable[..., Bench]) -> None:
    """A pass that names a time is repeated then, and not before."""
    async with bench(Done(after_s=30)) as made:
        made.queue.add(HELLO)
        await made.settle()
        made.clock.advance(29)
        await made.settle()
        early = made.script.passes
        made.clock.advance(2)
        await made.settle()

    assert (early, made.script.passes) == (1, 2)


async def test_waiting_comes_back_after_its_time(bench: Callable[..., Bench]) -> None:
    """A planned wait is as long as the extension says."""
    async with bench(Waiting("Soon.", retry_after_s=5)) as made:
        made.queue.add(HELLO)
        await made.settle()
        made.clock.advance(5.1)
        await made.settle()

    assert made.script.passes == 2


async def test_conflict_comes_back_soon(bench: Callable[..., Bench]) -> None:
    """A pass that lost a race is run again without backoff."""
    async with bench(*[ConflictError("Changed.")] * 5) as made:
        made.queue.add(HELLO)
        for _ in range(6):
            await made.settle()
            made.clock.advance(0.2)
        await made.settle()

    assert made.script.passes == 6


@pytest.mark.parametrize("error", [TerminalError("No."), InvalidSpecError("Wrong.")])
async def test_final_errors_wait_for_a_change(
    bench: Callable[..., Bench], error: Exception
) -> None:
    """What a person must mend is not repeated by the clock."""
    async with bench(error) as made:
        made.queue.add(HELLO)
        await made.settle()
        made.clock.advance(10_000)
        await made.settle()

    assert made.script.passes == 1


async def test_backoff_is_reset_by_success_only(bench: Callable[..., Bench]) -> None:
    """The delay grows with failures in a row and starts anew after a pass that worked."""
    error = TransientError("Not now.")
    async with bench(error, error, error, error, Done(), error) as made:
        made.queue.add(HELLO)
        await made.settle()
        while made.script.passes < 5:
            made.clock.advance(1)
            await made.settle()
        made.queue.add(HELLO)
        await made.settle()
        made.clock.advance(1.01)
        await made.settle()

    assert made.script.passes == 7


async def test_bug_is_retried_and_told(bench: Callable[..., Bench]) -> None:
    """An error nobody expected is recorded with the object and tried again."""
    async with bench(ZeroDivisionError("oops")) as made:
        made.queue.add(HELLO)
        await made.settle()
        made.clock.advance(1.01)
        await made.settle()

    assert made.script.passes == 2
    assert [error.reason for error in made.script.failures] == ["UnexpectedError"]


async def test_cancelled_inside_is_no_end(bench: Callable[..., Bench]) -> None:
    """A pass in which something was cancelled does not take its worker along."""
    async with bench(
        asyncio.CancelledError(), asyncio.CancelledError(), asyncio.CancelledError()
    ) as made:
        made.queue.add(HELLO)
        for _ in range(20):
            await made.settle()
            made.clock.advance(10)
        await made.settle()

    assert made.script.passes == 4


async def test_key_of_another_process_is_left_to_it(
    bench: Callable[..., Bench], tmp_path: Path
) -> None:
    """A key another process works on is tried again later, not worked on by two."""
    other = KeyLocks(tmp_path / "locks")
    async with bench(Done()) as made:
        with other.try_key(HELLO) as locked:
            made.queue.add(HELLO)
            await made.settle()
            during = made.script.passes
        made.clock.advance(0.6)
        await made.settle()
    other.close()

    assert locked
    assert (during, made.script.passes) == (0, 1)


async def test_locks_that_fail_cost_no_worker(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the kernel refuses locks, passes are tried again and every worker goes on."""
    async with bench() as made:
        with monkeypatch.context() as broken:
            broken.setattr(made.locks, "try_key", _refused)
            for name in ("a", "b", "c"):
                made.queue.add(Key("Sandbox", "default", name))
            await made.settle()
        made.clock.advance(BACKOFF_MAX_S)
        await made.settle()

    assert made.script.passes == 3


def _refused(_key: Key) -> NoReturn:
    raise TerminalError("No locks available.", reason="LocksUnavailable")


async def test_key_of_an_unknown_kind_is_dropped(bench: Callable[..., Bench]) -> None:
    """A key nobody has a pass for is no error."""
    async with bench() as made:
        made.queue.add(Key("Event", "default", "e"))
        await made.settle()

    assert made.script.passes == 0


def test_backoff_is_bounded() -> None:
    """However many failures, the delay is a number between 0 and its bound (…RateLimiterOverFlow)."""
    rng = random.Random(2)

    delays = [backoff_s(failures, rng) for failures in (1, 2, 10, 1000, 10**9) for _ in range(50)]

    assert all(0 <= delay <= BACKOFF_MAX_S for delay in delays)
    assert max(delays[:50]) <= 1.0
    assert max(delays[-50:]) > 100
