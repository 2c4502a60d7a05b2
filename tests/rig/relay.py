"""
A TCP relay with faults: delay, and cuts after an exact number of bytes.

It stands between a client and a host where packets themselves cannot be delayed or cut (not every
kernel has netem). Each connection is treated alike.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field
from typing import Literal, Self

Direction = Literal["up", "down", "both"]
# Large enough that a full TCP window passes in one read.
_CHUNK_BYTES = 65536


@dataclass(slots=True)
class Relay:
    """
    Forwards 127.0.0.1:`port` to a target; `async with Relay("10.0.0.1", 22) as relay:`.

    The byte counts are per connection, in the counted direction; None means never.
    """

    target: str
    target_port: int
    delay_s: float = 0.0
    """Added to each direction."""
    rst_after: int | None = None
    """Bytes after which both ends get a TCP reset."""
    hole_after: int | None = None
    """Bytes after which nothing is forwarded any more, and both ends stay open."""
    eof_after: int | None = None
    """Bytes after which both ends are closed in an orderly way."""
    counted: Direction = "down"
    """`down` is what the target sends."""
    port: int = 0
    """Port it listens on, known once it is open."""
    _server: asyncio.Server | None = field(default=None, repr=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, repr=False)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def sever(self) -> None:
        """Break every connection there is; new ones can be made."""
        for task in tuple(self._tasks):
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            far_reader, far_writer = await asyncio.open_connection(self.target, self.target_port)
        except OSError:
            writer.transport.abort()
            return
        ends = (writer, far_writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward(reader, far_writer, ends, "up"))
                group.create_task(self._forward(far_reader, writer, ends, "down"))
        except* OSError:
            pass
        finally:
            for end in ends:
                end.transport.abort()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
        ends: tuple[asyncio.StreamWriter, ...], direction: Direction,
    ) -> None:  # fmt: skip
        limit = self._limit() if self.counted in (direction, "both") else None
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send(queue, writer))
            seen = 0
            while data := await reader.read(_CHUNK_BYTES):
                data = data if limit is None else data[: limit - seen]
                seen += len(data)
                queue.put_nowait((asyncio.get_running_loop().time() + self.delay_s, data))
                if limit is not None and seen >= limit:
                    await queue.join()
                    await self._break(ends)
            queue.put_nowait((asyncio.get_running_loop().time() + self.delay_s, b""))

    async def _send(
        self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
            queue.task_done()

    def _limit(self) -> int | None:
        limits = (self.rst_after, self.hole_after, self.eof_after)
        return next((limit for limit in limits if limit is not None), None)

    async def _break(self, ends: tuple[asyncio.StreamWriter, ...]) -> None:
        if self.hole_after is not None:
            await asyncio.Event().wait()  # until the relay is closed
        for end in ends:
            if self.rst_after is not None:
                # Zero linger turns the close into a reset.
                zero_linger = struct.pack("ii", 1, 0)
                connection: socket.socket = end.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, zero_linger)
            else:
                end.close()
        raise ConnectionResetError
