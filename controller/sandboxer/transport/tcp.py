"""
A connection to a TCP port of a machine: over its SSH link (direct-tcpip), or made here.

Such channels do not count against sshd's session limit, so they do not queue with the commands.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

import asyncssh

from sandboxer.errors import TerminalError
from sandboxer.transport.link import CHUNK_BYTES, nothing_listens, unreachable


class _Reader(Protocol):
    async def read(self, n: int = -1, /) -> bytes: ...


class _Writer(Protocol):
    def write(self, data: bytes, /) -> None: ...
    async def drain(self) -> None: ...
    def write_eof(self) -> None: ...
    def close(self) -> None: ...


class TCPConnection:
    """
    Implements `sandboxer.session.Connection` over the streams of asyncio or asyncssh.

    Args:
        reader: What the other side sends.
        writer: What we send.
        host: Name of the Host object.
        alive: Whether the way to the machine still holds.
    """

    def __init__(
        self, reader: _Reader, writer: _Writer, *, host: str, alive: Callable[[], bool]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host
        self._alive = alive

    async def read(self, limit: int = CHUNK_BYTES) -> bytes:
        """Return up to *limit* bytes; empty means that the other side has ended, or reset it."""
        data = b""
        with contextlib.suppress(OSError, asyncssh.Error):
            data = await self._reader.read(limit)
        if not data:
            self._require_link()
        return data

    async def write(self, data: bytes) -> None:
        """Send *data*; waits while the other side does not take it."""
        with contextlib.suppress(OSError, asyncssh.Error):
            self._writer.write(data)
            await self._writer.drain()
        self._require_link()

    def write_eof(self) -> None:
        """End what we send."""
        with contextlib.suppress(OSError, asyncssh.Error):
            self._writer.write_eof()

    def close(self) -> None:
        """End both directions."""
        self._writer.close()

    def _require_link(self) -> None:
        # NOTE: asyncssh ends the streams of a lost link like those of a program that has ended.
        if not self._alive():
            raise unreachable(self._host, "forwarding a port", "the connection was lost")


async def connect_here(host: str, address: str, port: int, *, timeout_s: float) -> TCPConnection:
    """Connect from this machine; see `sandboxer.session.Session.connect`."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(address, port)
    except OSError as err:
        raise nothing_listens(host, address, port, err.strerror or err) from err
    return TCPConnection(reader, writer, host=host, alive=lambda: True)


async def connect_over(
    connection: asyncssh.SSHClientConnection,
    host: str,
    address: str,
    port: int,
    *,
    timeout_s: float,
) -> TCPConnection:
    """Connect from the machine at the other end; see `sandboxer.session.Session.connect`."""

    def alive() -> bool:
        return not connection.is_closed()

    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await connection.open_connection(address, port, encoding=None)
    except asyncssh.ChannelOpenError as err:
        if err.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
            raise _forbidden(host) from err
        if not alive():
            raise unreachable(host, f"connecting to port {port}", err.reason) from err
        raise nothing_listens(host, address, port, err.reason) from err
    except TimeoutError as err:
        raise nothing_listens(host, address, port, f"no answer in {timeout_s:g} s") from err
    except (OSError, asyncssh.Error) as err:
        raise unreachable(host, f"connecting to port {port}", err) from err
    return TCPConnection(reader, writer, host=host, alive=alive)


def _forbidden(host: str) -> TerminalError:
    return TerminalError(
        f"The SSH server of host {host} does not connect us to ports there.",
        reason="ForwardingForbidden",
        remedy="Set AllowTcpForwarding yes in its sshd_config.",
    )
