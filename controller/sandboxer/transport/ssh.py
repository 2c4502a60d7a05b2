"""
One kept SSH connection to one machine: commands, streams, sockets and rsync over it.

Design notes:

* asyncssh ends a command of a lost connection *normally*, with no exit status and no output. Here
  that is always `UnreachableError`: the outcome is unknown.
* Commands over the server's session limit queue (`sandboxer.transport.channels`). Sockets
  (streamlocal channels) do not count against that limit.
* A command that ran out of time may still run: sshd does not end it when its channel closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import asyncssh

from sandboxer.errors import TransientError
from sandboxer.session import Completed, Connection, Copying, Streams, TerminalSize
from sandboxer.transport import rsync
from sandboxer.transport.channels import MAX_CHANNELS, MAX_STREAMS, ChannelGate
from sandboxer.transport.link import (
    CHUNK_BYTES,
    ByteReader,
    ByteWriter,
    connect_streams,
    stream_place,
    timed_out,
    too_much_output,
    unreachable,
)
from sandboxer.transport.local import LocalLink
from sandboxer.transport.quoting import remote_line
from sandboxer.transport.tcp import connect_over

# asyncssh logs every command at INFO; commands of users do not belong into our log.
asyncssh.set_log_level(logging.WARNING)

# Attempts to open a channel nobody else can make room for. Each costs a round trip, in which sshd
# frees the sessions that have just ended.
_OPEN_ATTEMPTS = 5

# What sshd answers when MaxSessions is met ("open failed"), and what others do.
_BUSY_CODES = (asyncssh.OPEN_CONNECT_FAILED, asyncssh.OPEN_RESOURCE_SHORTAGE)

# Seconds a local rsync may take to end once the remote one has.
_RSYNC_GRACE_S = 10.0


class SSHLink:
    """
    An authenticated connection; made by `sandboxer.transport.login.open_ssh`.

    Args:
        connection: Authenticated, its host key checked.
        host: Name of the Host object.
        target: `user@address:port`.
        host_key: Public key the machine showed, `algorithm base64`.
    """

    def __init__(
        self, connection: asyncssh.SSHClientConnection, *, host: str, target: str, host_key: str
    ) -> None:
        self.host = host
        self.target = target
        self.host_key = host_key
        self._connection = connection
        self._commands = ChannelGate(MAX_CHANNELS)
        self._streams = ChannelGate(MAX_STREAMS)

    @property
    def alive(self) -> bool:
        """Whether the connection is open, as far as is known."""
        return not self._connection.is_closed()

    async def run(
        self, argv: Sequence[str], *, stdin: bytes, timeout_s: float, max_output_bytes: int
    ) -> Completed:
        """Run one command; see `sandboxer.session.Session.run`."""
        line = remote_line(argv)
        doing = f"running {argv[0][:80]!r}"
        command = _Command(max_output_bytes)
        try:
            async with asyncio.timeout(timeout_s), self._commands.enter():
                channel = await self._open(doing, lambda: self._create(lambda: command, line))
                await _talk(cast("asyncssh.SSHClientChannel[bytes]", channel), command, stdin)
        except TimeoutError:
            raise timed_out(self.host, argv[0], timeout_s) from None
        if command.overflow:
            raise too_much_output(self.host, argv[0], max_output_bytes)
        if command.exit_status is None:
            raise unreachable(self.host, doing, command.why or "the connection was lost")
        return Completed(
            exit_status=command.exit_status,
            stdout=bytes(command.stdout),
            stderr=bytes(command.stderr),
        )

    async def stream(self, argv: Sequence[str], streams: Streams) -> int:
        """Run one command with its streams connected."""
        async with (
            stream_place(self._streams, self.host),
            self._process(argv, streams.terminal) as process,
        ):
            return await connect_streams(process, streams)

    async def upload(
        self, source: str, destination: str, *, copying: Copying, timeout_s: float
    ) -> None:
        """Make *destination* a copy of *source*; see `sandboxer.session.Session.upload`."""
        rsync.check_paths(source, destination)
        if shutil.which("rsync") is None:
            raise rsync.rsync_missing("the controller's machine")
        with tempfile.TemporaryDirectory(prefix="sandboxer-") as directory:
            bridge = _Bridge(self, destination, Path(directory) / "rsync")
            try:
                async with asyncio.timeout(timeout_s):
                    local, remote = await bridge.copy(source, copying, timeout_s)
            except TimeoutError:
                raise timed_out(self.host, "rsync", timeout_s) from None
        rsync.judge(self.host, destination, local, remote)

    async def open_socket(self, path: str) -> tuple[ByteReader, ByteWriter]:
        """Connect to the Unix socket *path* on the machine."""
        try:
            reader, writer = await self._connection.open_unix_connection(path, encoding=None)
        except (OSError, asyncssh.Error) as err:
            raise unreachable(self.host, f"connecting to {path}", err) from err
        stream = _SocketStream(reader, writer)
        return stream, stream

    async def connect(self, address: str, port: int, *, timeout_s: float) -> Connection:
        """Connect to a TCP port from the machine; see `sandboxer.session.Session.connect`."""
        return await connect_over(self._connection, self.host, address, port, timeout_s=timeout_s)

    async def close(self) -> None:
        """Close the connection; running commands are abandoned."""
        self._connection.abort()
        await self._connection.wait_closed()

    @asynccontextmanager
    async def _process(
        self, argv: Sequence[str], terminal: TerminalSize | None
    ) -> AsyncIterator[SSHProcess]:
        line = remote_line(argv)
        doing = f"running {argv[0][:80]!r}"
        size = (terminal.columns, terminal.rows) if terminal else None
        async with self._commands.enter():
            process = await self._open(
                doing,
                lambda: self._connection.create_process(
                    cast("str", line),
                    encoding=None,
                    request_pty="force" if terminal else False,
                    term_type="xterm-256color" if terminal else None,
                    term_size=size or (0, 0),
                ),
            )
            running = SSHProcess(process, self.host, doing, terminal=terminal is not None)
            try:
                yield running
            finally:
                running.kill()

    async def _create(self, factory: Callable[[], _Command], line: bytes) -> Any:
        channel, _ = await self._connection.create_session(
            # asyncssh encodes text itself and takes bytes as they are.
            cast("Any", factory),
            cast("str", line),
            encoding=None,
        )
        return channel

    async def _open(self, doing: str, create: Callable[[], Any]) -> Any:
        """Return what *create* opens; queue again when the server's session limit was met."""
        attempts = 0
        while attempts < _OPEN_ATTEMPTS:
            try:
                return await _open_or_abandon(create())
            except asyncssh.ChannelOpenError as err:
                if not self.alive:
                    raise unreachable(self.host, doing, err.reason) from err
                if err.code == asyncssh.OPEN_REQUEST_SESSION_FAILED:
                    raise _unanswered(self.host, doing) from err
                if err.code not in _BUSY_CODES:
                    raise _refused(self.host, doing, err.reason) from err
                attempts += not await self._commands.give_way()
            except (OSError, asyncssh.Error) as err:
                raise unreachable(self.host, doing, err) from err
        raise _refused(self.host, doing, "too many sessions are open")


class SSHProcess:
    """A remote command whose streams are read and written piece by piece."""

    def __init__(
        self,
        process: asyncssh.SSHClientProcess[bytes],
        host: str,
        doing: str,
        *,
        terminal: bool,
    ) -> None:
        self._process = process
        self._host = host
        self._doing = doing
        self._terminal = terminal

    async def read(self) -> bytes:
        """Return the next bytes of stdout."""
        return await self._read(self._process.stdout)

    async def read_error(self) -> bytes:
        """Return the next bytes of stderr."""
        return await self._read(self._process.stderr)

    async def write(self, data: bytes) -> None:
        """Send bytes to stdin."""
        with contextlib.suppress(OSError, asyncssh.Error):
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    def write_eof(self) -> None:
        """End stdin; on a terminal by its end-of-file character, so that it can still be resized."""
        with contextlib.suppress(OSError, asyncssh.Error):
            if self._terminal:
                self._process.stdin.write(b"\x04")
            else:
                self._process.stdin.write_eof()

    def resize(self, size: TerminalSize) -> None:
        """Tell the remote terminal its new size."""
        with contextlib.suppress(OSError, asyncssh.Error):
            self._process.change_terminal_size(size.columns, size.rows)

    async def wait(self) -> int:
        """Return the exit status; UnreachableError when it was lost."""
        await self._process.wait_closed()
        if (named := self._process.exit_signal) is not None:
            return _signal_status(named[0])
        status = self._process.exit_status
        if status is None:
            raise unreachable(self._host, self._doing, "the connection was lost")
        return status

    def kill(self) -> None:
        """Close the channel; ask for the end of a command that still runs."""
        if self._process.exit_status is None and not self._process.is_closing():
            with contextlib.suppress(OSError, asyncssh.Error):
                self._process.terminate()
        self._process.close()

    async def _read(self, reader: asyncssh.SSHReader[bytes]) -> bytes:
        try:
            return await reader.read(CHUNK_BYTES)
        except (OSError, asyncssh.Error) as err:
            raise unreachable(self._host, self._doing, err) from err


class _SocketStream:
    """Both halves of a remote Unix socket; a lost link is a `ConnectionError` as it is locally."""

    def __init__(
        self, reader: asyncssh.SSHReader[bytes], writer: asyncssh.SSHWriter[bytes]
    ) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, n: int = -1) -> bytes:
        """Return up to *n* bytes; empty means the end."""
        with _as_connection_error():
            return await self._reader.read(n)

    def at_eof(self) -> bool:
        """Tell whether nothing will come any more."""
        return self._reader.at_eof() or self._writer.is_closing()

    def write(self, data: bytes) -> None:
        """Queue *data*."""
        with _as_connection_error():
            self._writer.write(data)

    async def drain(self) -> None:
        """Wait until there is room again."""
        with _as_connection_error():
            await self._writer.drain()

    def close(self) -> None:
        """Close both halves."""
        self._writer.close()


@contextmanager
def _as_connection_error() -> Iterator[None]:
    try:
        yield
    except asyncssh.Error as err:
        raise ConnectionError(str(err)) from err


class _Command(asyncssh.SSHClientSession[bytes]):
    """Collects what one command prints, up to a limit for each stream."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.exit_status: int | None = None
        self.overflow = False
        self.why: Exception | None = None
        self.ended = asyncio.Event()

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        collected = self.stderr if datatype == asyncssh.EXTENDED_DATA_STDERR else self.stdout
        if len(collected) + len(data) > self._limit_bytes:
            self.overflow = True
            assert self._channel is not None, "data comes after connection_made"
            self._channel.abort()
            return
        collected += data

    def exit_status_received(self, status: int) -> None:
        self.exit_status = status

    def exit_signal_received(self, signal: str, *_details: object) -> None:
        self.exit_status = _signal_status(signal)

    def connection_lost(self, exc: Exception | None) -> None:
        self.why = exc
        self.ended.set()


class _Bridge:
    """One rsync: the local client, our socket, and the receiving rsync on the machine."""

    def __init__(self, link: SSHLink, destination: str, path: Path) -> None:
        self._link = link
        self._destination = destination
        self._path = path
        self._remote: asyncio.Task[Completed] | None = None

    async def copy(
        self, source: str, copying: Copying, timeout_s: float
    ) -> tuple[Completed, Completed]:
        """Run both halves; return how the local and the remote one ended."""
        server = await asyncio.start_unix_server(self._accept, self._path)
        argv = rsync.bridged_command(source, self._destination, str(self._path), copying)
        try:
            local = await rsync.run_client(LocalLink("local"), argv, copying, timeout_s)
            if self._remote is None:
                return local, local
            async with asyncio.timeout(_RSYNC_GRACE_S):
                return local, await self._remote
        finally:
            server.close()
            if self._remote is not None:
                self._remote.cancel()
                await asyncio.gather(self._remote, return_exceptions=True)
            await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._remote = asyncio.create_task(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Completed:
        """Give the bridge's bytes to the remote rsync and back."""
        messages = bytearray()

        async def to_client(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        async def keep(data: bytes) -> None:
            messages.extend(data[: rsync.MAX_OUTPUT_BYTES - len(messages)])

        async def from_client() -> AsyncIterator[bytes]:
            while data := await reader.read(CHUNK_BYTES):
                yield data

        try:
            command = json.loads(await reader.readline())
            argv = rsync.guarded(self._destination, command)
            async with self._link._process(argv, None) as process:  # noqa: SLF001 - half of SSHLink
                status = await connect_streams(
                    process, Streams(stdin=from_client(), stdout=to_client, stderr=keep)
                )
            return Completed(exit_status=status, stdout=b"", stderr=bytes(messages))
        finally:
            writer.close()


async def _talk(channel: asyncssh.SSHClientChannel[bytes], command: _Command, stdin: bytes) -> None:
    """Send the input and wait for the end; close the channel however this is left."""
    try:
        with contextlib.suppress(OSError, asyncssh.Error):
            if stdin:
                channel.write(stdin)
            channel.write_eof()
        await command.ended.wait()
    finally:
        if not command.ended.is_set():
            channel.abort()


async def _open_or_abandon(opening: Coroutine[Any, Any, Any]) -> Any:
    """
    Await a channel; when the caller goes away first, close it as soon as it is open.

    asyncssh would keep such a channel open, and with it one of the server's few sessions.
    """
    task = asyncio.ensure_future(opening)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_close_unwanted)
        raise


def _close_unwanted(task: asyncio.Future[Any]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _refused(host: str, doing: str, why: str) -> TransientError:
    return TransientError(
        f"Host {host} refused a session while {doing}: {why}.",
        reason="HostBusy",
        remedy="Raise MaxSessions in its sshd_config or close other sessions.",
    )


def _unanswered(host: str, doing: str) -> TransientError:
    # asyncssh tells a refusal from a session that was closed without an answer by nothing.
    return TransientError(
        f"Host {host} closed the session while {doing}, before it said that the command runs. "
        "The command may run.",
        reason="HostBusy",
        remedy=(
            "Try again. Dropbear 2022.82 to 2024.85 does this now and then when another command "
            "ends at that moment: update it on the host."
        ),
    )


def _signal_status(name: str) -> int:
    """Return minus the number of the signal called *name* (without SIG); -1 for an unknown one."""
    known = signal.Signals.__members__.get(f"SIG{name}")
    return -known.value if known else -1
