"""
The workers: they take keys from the queue, run one pass each, and turn its outcome into a delay.

This is the only place where anybody waits to try again, and the only one that catches whatever a
pass may raise. The table:

    Done(after_s)                    after_s; None: when something changes
    Waiting                          its retry_after_s
    ConflictError, NotFoundError     as soon as the other's commit is seen
    TransientError, anything else    exponential with full jitter
    TerminalError, InvalidSpecError  when something changes
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Mapping
from typing import Protocol

from sandboxer.engine.outcome import Done
from sandboxer.engine.queue import Item, KeyedQueue
from sandboxer.engine.trigger import TRIGGER
from sandboxer.errors import ConflictError, NotFoundError, SandboxerError, TransientError, Waiting
from sandboxer.kinds.meta import Key
from sandboxer.store import KeyLocks

# Passes at the same time. A pass mostly waits for a host; beyond 8 commands per host the transport
# makes them wait anyway, so 16 keeps two hosts busy.
DEFAULT_WORKERS = 16

# Seconds; the first retry comes within this time. Actions take seconds, so milliseconds as for
# API objects would only hammer.
BACKOFF_BASE_S = 1.0

# Seconds; a sandbox that fails for hours is still tried twelve times an hour.
BACKOFF_MAX_S = 300.0

# Seconds; the store notices another process's commit within 0.1 s.
CONFLICT_DELAY_S = 0.1

# Seconds until a key is tried again that another process is working on.
LOCKED_DELAY_S = 0.5

_log = logging.getLogger(__name__)


class Pass(Protocol):
    """What one kind of object has done to it."""

    async def reconcile(self, key: Key) -> Done:
        """Do the one step that is due."""
        ...

    async def failed(self, key: Key, error: TransientError) -> None:
        """Record an error that nobody expected where a person will look for it."""
        ...


def backoff_s(failures: int, rng: random.Random) -> float:
    """Return the delay after that many failures in a row (1 or more): exponential, full jitter."""
    # NOTE: the exponent is bounded, for 2 to the power of a large count is no float any more.
    ceiling_s = min(BACKOFF_MAX_S, BACKOFF_BASE_S * 2.0 ** min(failures - 1, 32))
    return rng.uniform(0.0, ceiling_s)


class Workers:
    """
    A fixed number of workers over one queue.

    Args:
        queue: Where keys come from and go back to.
        passes: By kind; a key of another kind is dropped.
        locks: So that no other process works on the same key.
        rng: Jitter.
        count: Passes at the same time.
    """

    def __init__(
        self,
        queue: KeyedQueue,
        passes: Mapping[str, Pass],
        *,
        locks: KeyLocks,
        rng: random.Random,
        count: int = DEFAULT_WORKERS,
    ) -> None:
        self._queue = queue
        self._passes = passes
        self._locks = locks
        self._rng = rng
        self._count = count
        self._failures: dict[Key, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Work until the queue is shut down and nothing of it is left."""
        self._tasks = {asyncio.create_task(self._work()) for _ in range(self._count)}
        try:
            outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        except asyncio.CancelledError:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            raise
        for outcome in outcomes:
            # A worker cancelled by `stop` is no failure.
            if isinstance(outcome, Exception):
                raise outcome

    async def stop(self, *, budget_s: float) -> bool:
        """
        Hand out nothing more and let running passes finish; cancel what takes longer.

        Args:
            budget_s: Seconds the passes have. A pass that is cancelled leaves its intention.

        Returns:
            Whether all of them finished.
        """
        self._queue.shutdown(discard=True)
        if not self._tasks:
            return True
        _, running = await asyncio.wait(self._tasks, timeout=budget_s)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        return not running

    async def _work(self) -> None:
        while (item := await self._queue.get()) is not None:
            try:
                await self._pass(item)
            except asyncio.CancelledError:
                if _is_cancelled():
                    raise
                # Something inside the pass was cancelled, not this worker.
                self._again(item, self._failed(item.key))
            finally:
                self._queue.done(item.key)

    async def _pass(self, item: Item) -> None:
        try:
            TRIGGER.set(item.trigger)
            with self._locks.try_key(item.key) as mine:
                after_s = await self._run(item.key) if mine else LOCKED_DELAY_S
        except SandboxerError as unlockable:
            # Without the lock nothing was done, and there is no pass that could record it.
            after_s = self._log_retry(item.key, unlockable, {"object": str(item.key)})
        self._again(item, after_s)

    async def _run(self, key: Key) -> float | None:  # noqa: PLR0911 - a table, one return a row
        """Run one pass; return seconds until the next, None for none."""
        passes = self._passes.get(key.kind)
        if passes is None:
            return None
        fields = {"object": str(key), "pass_id": uuid.uuid4().hex[:12]}
        try:
            done = await passes.reconcile(key)
        except Waiting as waiting:
            self._failures.pop(key, None)
            _log.debug("pass waits", extra={**fields, "reason": waiting.reason})
            return waiting.retry_after_s
        except (ConflictError, NotFoundError):
            _log.debug("pass dropped: somebody else wrote first", extra=fields)
            return CONFLICT_DELAY_S
        except TransientError as error:
            return self._log_retry(key, error, fields)
        except SandboxerError as error:
            self._failures.pop(key, None)
            _log.warning("pass failed for good", extra={**fields, "error": str(error)})
            return None
        except Exception as bug:  # noqa: BLE001 - the one place that must survive every extension
            _log.exception("pass failed unexpectedly", extra=fields)
            return await self._record_bug(passes, key, bug)
        self._failures.pop(key, None)
        _log.debug("pass done", extra={**fields, "after_s": done.after_s})
        return done.after_s

    async def _record_bug(self, passes: Pass, key: Key, bug: Exception) -> float:
        error = TransientError(
            f"An unexpected {type(bug).__name__} stopped the pass over {key}: {bug}",
            reason="UnexpectedError",
            remedy="The log has the traceback; please report it.",
        )
        try:
            await passes.failed(key, error)
        except SandboxerError as unrecorded:
            _log.warning(
                "failure not recorded", extra={"object": str(key), "error": str(unrecorded)}
            )
        return self._failed(key)

    def _log_retry(self, key: Key, error: SandboxerError, fields: Mapping[str, str]) -> float:
        delay_s = self._failed(key)
        _log.info(
            "pass failed and is tried again",
            extra={**fields, "error": str(error), "after_s": round(delay_s, 3)},
        )
        return delay_s

    def _failed(self, key: Key) -> float:
        self._failures[key] = self._failures.get(key, 0) + 1
        return backoff_s(self._failures[key], self._rng)

    def _again(self, item: Item, after_s: float | None) -> None:
        if after_s is not None:
            trigger = "retry" if item.key in self._failures else item.trigger
            self._queue.add(item.key, priority=item.priority, after_s=after_s, trigger=trigger)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
