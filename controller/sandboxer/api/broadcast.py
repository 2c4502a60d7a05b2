"""
One log of recent changes that all watches of the API read, each at its own pace.

A watch is a position in the log, so 500 of them cost no more memory than one, and a change is
encoded once for all that want it alike. One that stands still longer than the log reaches is ended
with `ExpiredError`; nobody waits for it. Who resumes from before the log reads what it missed from
the store.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

from sandboxer.store import Change, ExpiredError, Store

# Changes in the log: as many as the store keeps for resuming (`sandboxer.store.retention`).
MAX_CHANGES: Final = 10_000

# Bytes of documents in the log, and of encoded lines, for when they are large; those of 2 KB reach
# the other limits.
MAX_BYTES: Final = 64 * 1024 * 1024

# Encoded lines that are kept for the watches that have not sent them yet.
MAX_LINES: Final = 4096

# Part of the log that is dropped at a time: moving what is left costs once per so many changes.
_SPARE: Final = 1024


class Broadcast:
    """
    The changes of one store, from the moment this is made.

    Args:
        store: Open store; `close` must be called before its owner closes it.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.closed = False
        self._log: list[Change] = []
        self._dropped = 0
        self._bytes = 0
        self._floor = store.revision
        self._waiting: set[asyncio.Future[None]] = set()
        self._lines: dict[tuple[object, ...], bytes] = {}
        self._line_bytes = 0
        self._unsubscribe = store.subscribe(self._append)

    def close(self) -> None:
        """End all watches after what they have not sent yet."""
        if not self.closed:
            self.closed = True
            self._unsubscribe()
            self._wake()

    async def join(self, since: int) -> Position:
        """
        Return the position after revision *since*.

        Raises:
            ExpiredError: Changes after it were compacted away, or it is newer than the store.
        """
        missed: list[Change] = []
        if since < self._floor:
            # NOTE: up to here the store's own table has everything; the log takes over from there.
            reached = self.store.revision
            missed = await self._missed(since, reached)
            since = reached
            if since < self._floor:
                # While the table was read, so much was written that the log begins later now.
                raise ExpiredError("Changes went by while the watch began.")
        at = self._dropped + bisect_right(self._log, since, key=lambda change: change.revision)
        return Position(self, at, since, missed)

    def line(self, key: tuple[object, ...], encode: Callable[[], bytes]) -> bytes:
        """Return the encoded form of a change, made by whoever asks first."""
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = encode()
            self._line_bytes += len(line)
            while len(self._lines) > MAX_LINES or self._line_bytes > MAX_BYTES:
                self._line_bytes -= len(self._lines.pop(next(iter(self._lines))))
        return line

    async def _missed(self, since: int, reached: int) -> list[Change]:
        missed: list[Change] = []
        async with aclosing(self.store.watch(since)) as changes:  # type: ignore[type-var]  # an async generator in fact
            async for change in changes:
                missed.append(change)
                if change.revision >= reached:
                    break
        return missed

    def after(self, at: int) -> list[Change]:
        """
        Return what the log has from position *at* on.

        Raises:
            ExpiredError: The log has moved on without the reader.
        """
        if at < self._dropped:
            raise ExpiredError("The watch fell too far behind and was ended.")
        return self._log[at - self._dropped :]

    def expect(self, waiter: asyncio.Future[None]) -> None:
        """Have *waiter* done by the next change, or when all watches end."""
        self._waiting.add(waiter)

    def neglect(self, waiter: asyncio.Future[None]) -> None:
        """Forget a waiter that waits no more."""
        self._waiting.discard(waiter)

    def _append(self, change: Change) -> None:
        self._log.append(change)
        self._bytes += len(change.entry.body)
        if len(self._log) >= MAX_CHANGES + _SPARE or self._bytes > MAX_BYTES:
            self._shorten()
        self._wake()

    def _shorten(self) -> None:
        """Drop the oldest changes, more than needed so that it is rarely done; the newest stays."""
        drop = 0
        while drop < len(self._log) - 1 and (drop < _SPARE or self._bytes > MAX_BYTES):
            self._bytes -= len(self._log[drop].entry.body)
            drop += 1
        self._floor = self._log[drop - 1].revision if drop else self._floor
        del self._log[:drop]
        self._dropped += drop

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for waiter in waiting:
            _end(waiter)


class Position:
    """How far one watch has read; made by `Broadcast.join`."""

    def __init__(self, log: Broadcast, at: int, since: int, missed: list[Change]) -> None:
        self._log = log
        self._at = at
        self._since = since
        self._missed = missed
        self._alarm: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.revision = since
        """Every change up to here has been read."""

    def read(self) -> list[Change]:
        """
        Return what has not been read yet; empty when there is nothing.

        Raises:
            ExpiredError: The log has moved on without this reader.
        """
        missed, self._missed = self._missed, []
        fresh = self._log.after(self._at)
        self._at += len(fresh)
        if fresh:
            self.revision = max(self._since, fresh[-1].revision)
        # What is told late is in the log although the store's table had it already.
        return missed + [change for change in fresh if change.revision > self._since]

    @property
    def ended(self) -> bool:
        """Whether nothing will follow what has been read."""
        return self._log.closed

    async def wait(self, until_s: float) -> None:
        """
        Return when there is something to read, all watches end, or time is up.

        Args:
            until_s: By the clock of the event loop.
        """
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        # NOTE: one alarm for all waits until the same moment: a watch waits once for each change.
        if self._alarm is None or self._alarm.when() != until_s:
            self.close()
            self._alarm = loop.call_at(until_s, self._ring)
        self._log.expect(waiter)
        try:
            await waiter
        finally:
            self._log.neglect(waiter)

    def close(self) -> None:
        """Leave nothing behind in the event loop."""
        if self._alarm is not None:
            self._alarm.cancel()

    def _ring(self) -> None:
        self._alarm = None
        if self._waiter is not None:
            _end(self._waiter)


def _end(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
