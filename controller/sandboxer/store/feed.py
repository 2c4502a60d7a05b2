"""
Who is told about changes: callbacks on the event loop, and watches that resume from any revision.

A watch reads what it missed from the table of changes and goes on with what is committed from
then on. One that cannot keep up is ended with `ExpiredError` instead of being fed from an ever
longer queue; its reader lists again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

from sandboxer.store import history
from sandboxer.store.cache import Cache
from sandboxer.store.database import Database
from sandboxer.store.entries import Change
from sandboxer.store.failures import ExpiredError

# Changes one watch may lag behind; with documents of 2 KB about 20 MB, mostly shared with the
# cache. A reader this far behind is faster served by a new list.
MAX_LAG: Final = 10_000

Callback = Callable[[Change], object]
_Watch = asyncio.Queue[Change | ExpiredError | None]


class Feed:
    """
    Args:
        database: Where missed changes are read.
        cache: Says up to which revision changes have been announced.
    """

    def __init__(self, database: Database, cache: Cache) -> None:
        self._database = database
        self._cache = cache
        self._callbacks: list[Callback] = []
        self._watches: set[_Watch] = set()

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call back on the event loop for each change from now on; returns how to stop it."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def announce(self, changes: Iterable[Change]) -> None:
        """Tell everybody; the cache must have the changes already."""
        loop = asyncio.get_running_loop()
        for change in changes:
            for callback in self._callbacks:
                # Apart from each other: one that fails must not keep the others from hearing it.
                loop.call_soon(callback, change)
            for watch in list(self._watches):
                if watch.qsize() < MAX_LAG:
                    watch.put_nowait(change)
                else:
                    self._end(watch, ExpiredError("The watch fell too far behind and was ended."))

    def interrupt(self) -> None:
        """End all watches because changes were missed that cannot be told one by one."""
        for watch in list(self._watches):
            self._end(watch, ExpiredError("Changes were compacted away before they were read."))

    def close(self) -> None:
        """End all watches after what was announced."""
        for watch in list(self._watches):
            self._end(watch, None)

    async def watch(self, since: int) -> AsyncIterator[Change]:
        """Yield every change after *since*; see `Store.watch`."""
        watch: _Watch = asyncio.Queue()
        self._watches.add(watch)
        try:
            # NOTE: no await between joining and this line, or a change is in neither half.
            reached = self._cache.revision
            if since != reached:
                for change in await asyncio.to_thread(self._missed, since, reached):
                    yield change
            while (item := await watch.get()) is not None:
                if isinstance(item, ExpiredError):
                    raise item
                if item.revision > since:
                    yield item
        finally:
            self._watches.discard(watch)

    def _missed(self, since: int, reached: int) -> list[Change]:
        with (
            self._database.connect("reading changes") as connection,
            history.snapshot(connection),
        ):
            return history.read_changes(connection, since, reached)

    def _end(self, watch: _Watch, last: ExpiredError | None) -> None:
        self._watches.discard(watch)
        watch.put_nowait(last)
