"""
The number of commands that run at once on one machine.

`sshd` allows 10 sessions per connection unless told otherwise and refuses the next one at once, so
callers queue here. A server that allows fewer is learned from its first refusals; a refusal means
"busy", never "the machine is gone".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# Commands at once per connection: below `MaxSessions 10` of sshd_config(5) and the 8 of dropbear
# (measured, research of 2026), with room for sessions that are just being closed.
MAX_CHANNELS = 8

# Long-lived streams (exec, logs) at once, so that commands of passes always find a channel.
MAX_STREAMS = 5

# Seconds a stream waits for its place. The others may last for days, and whoever waits is a person
# who sees nothing meanwhile.
STREAM_PATIENCE_S = 10.0


class ChannelGate:
    """A counting gate whose limit can only shrink."""

    def __init__(self, limit: int = MAX_CHANNELS) -> None:
        self._limit = limit
        self._in_use = 0
        self._changed = asyncio.Condition()

    @property
    def limit(self) -> int:
        """How many may pass at once now."""
        return self._limit

    @asynccontextmanager
    async def enter(self, patience_s: float | None = None) -> AsyncIterator[None]:
        """
        Hold one place; waits until there is one.

        Raises:
            TimeoutError: There was none for *patience_s* seconds.
        """
        async with asyncio.timeout(patience_s), self._changed:
            await self._changed.wait_for(lambda: self._in_use < self._limit)
            self._in_use += 1
        try:
            yield
        finally:
            # NOTE: no await before the count is right, or a cancelled caller would keep its place.
            self._in_use -= 1
            await asyncio.shield(self._notify())

    async def give_way(self) -> bool:
        """
        Leave after a refusal by the server, lower the limit, and come in again when there is room.

        Returns:
            Whether it waited; False when nobody else is inside whose leaving could help.
        """
        others = self._in_use - 1
        if others < 1:
            return False
        self._limit = max(1, min(self._limit, others))
        self._in_use -= 1
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: self._in_use < self._limit)
        finally:
            # NOTE: also on cancellation; `enter` gives the place back.
            self._in_use += 1
        return True

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
