"""
What a way to a machine can do: the interface that SSH and the local machine share.

A link is one connection. It never re-opens itself (`sandboxer.transport.connections` does) and
knows nothing of sandboxes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

from sandboxer.errors import TransientError, UnreachableError
from sandboxer.session import Completed, Connection, Copying, Streams, TerminalSize
from sandboxer.transport.channels import STREAM_PATIENCE_S, ChannelGate

# Bytes read from a stream at once.
CHUNK_BYTES = 64 * 1024


class ByteReader(Protocol):
    """The reading half of a byte stream; the shape of `asyncio.StreamReader`."""

    async def read(self, n: int = -1) -> bytes:
        """Return up to *n* bytes; empty means the end."""
        ...

    def at_eof(self) -> bool:
        """Tell whether everything was read and nothing will come."""
        ...


class ByteWriter(Protocol):
    """The writing half of a byte stream; the shape of `asyncio.StreamWriter`."""

    def write(self, data: bytes) -> None:
        """Queue *data*."""
        ...

    async def drain(self) -> None:
        """Wait until there is room again."""
        ...

    def close(self) -> None:
        """Close both halves."""
        ...


class Process(Protocol):
    """A running command whose streams are read and written piece by piece."""

    async def read(self) -> bytes:
        """Return the next bytes of stdout; empty means the end."""
        ...

    async def read_error(self) -> bytes:
        """Return the next bytes of stderr; empty means the end."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes to stdin; ignored when the command no longer reads."""
        ...

    def write_eof(self) -> None:
        """End stdin."""
        ...

    def resize(self, size: TerminalSize) -> None:
        """Tell the command's terminal its new size."""
        ...

    async def wait(self) -> int:
        """Return the exit status; UnreachableError when it was lost."""
        ...

    def kill(self) -> None:
        """End the command as far as that is possible, and close its streams."""
        ...


class Link(Protocol):
    """One open connection to one machine."""

    host: str
    target: str
    """`user@address:port`, empty for the local machine."""
    host_key: str
    """Public key the machine showed, `algorithm base64`; empty for the local machine."""

    @property
    def alive(self) -> bool:
        """Whether the link can still be used, as far as is known."""
        ...

    async def run(
        self, argv: Sequence[str], *, stdin: bytes, timeout_s: float, max_output_bytes: int
    ) -> Completed:
        """Run one command; see `sandboxer.session.Session.run`."""
        ...

    async def stream(self, argv: Sequence[str], streams: Streams) -> int:
        """Run one command with its streams connected."""
        ...

    async def upload(
        self, source: str, destination: str, *, copying: Copying, timeout_s: float
    ) -> None:
        """Make *destination* a copy of local *source*; see `sandboxer.session.Session.upload`."""
        ...

    async def open_socket(self, path: str) -> tuple[ByteReader, ByteWriter]:
        """Connect to the Unix socket *path* on the machine."""
        ...

    async def connect(self, address: str, port: int, *, timeout_s: float) -> Connection:
        """Connect to a TCP port; see `sandboxer.session.Session.connect`."""
        ...

    async def close(self) -> None:
        """Close the link; running commands are abandoned."""
        ...


async def connect_streams(process: Process, streams: Streams) -> int:
    """
    Move bytes between *process* and *streams* until it ends; return its exit status.

    A caller that goes away (cancellation, a failing callback) ends the process.
    """
    inputs = [
        asyncio.create_task(_feed(process, streams)),
        asyncio.create_task(_follow_resizes(process, streams)),
    ]
    try:
        async with asyncio.TaskGroup() as outputs:
            outputs.create_task(_copy(process.read, streams.stdout))
            outputs.create_task(_copy(process.read_error, streams.stderr))
        return await process.wait()
    except ExceptionGroup as group:
        raise group.exceptions[0] from group
    finally:
        process.kill()
        for task in inputs:
            task.cancel()
        await asyncio.gather(*inputs, return_exceptions=True)


async def _feed(process: Process, streams: Streams) -> None:
    try:
        if streams.stdin is not None:
            async for data in streams.stdin:
                await process.write(data)
    finally:
        process.write_eof()


async def _follow_resizes(process: Process, streams: Streams) -> None:
    if streams.resizes is not None:
        async for size in streams.resizes:
            process.resize(size)


async def _copy(
    read: Callable[[], Awaitable[bytes]], write: Callable[[bytes], Awaitable[None]]
) -> None:
    while data := await read():
        await write(data)


def unreachable(host: str, doing: str, why: object) -> UnreachableError:
    """Return the error for a machine that did not answer while *doing* something."""
    return UnreachableError(f"Host {host} did not answer while {doing}: {why or 'no answer'}.")


@asynccontextmanager
async def stream_place(gate: ChannelGate, host: str) -> AsyncIterator[None]:
    """
    Hold one place for a long-lived stream.

    Raises:
        TransientError: All of them stay taken.
    """
    async with AsyncExitStack() as place:
        try:
            await place.enter_async_context(gate.enter(STREAM_PATIENCE_S))
        except TimeoutError:
            raise TransientError(
                f"Host {host} already serves {gate.limit} streams (exec, logs), as many as it may.",
                reason="HostBusy",
                remedy="End one of them.",
            ) from None
        yield


def nothing_listens(host: str, address: str, port: int, why: object) -> TransientError:
    """Return the error for a port that takes no connection."""
    return TransientError(
        f"Nothing answers on port {port} of {address} on host {host}: {why or 'no answer'}.",
        reason="ConnectionRefused",
    )


def timed_out(host: str, program: str, timeout_s: float) -> UnreachableError:
    """Return the error for a command whose outcome is unknown because it took too long."""
    return UnreachableError(
        f"{program[:80]!r} on host {host} did not end within {timeout_s:g} s; it may still run.",
        reason="CommandTimeout",
    )


def too_much_output(host: str, program: str, limit_bytes: int) -> TransientError:
    """Return the error for a command that printed more than was allowed."""
    return TransientError(
        f"{program[:80]!r} on host {host} printed more than {limit_bytes} bytes.",
        reason="OutputTooLarge",
    )
