"""
The controller's own machine, with the same methods as a machine reached over SSH.

Every command gets a session of its own, so a timeout ends it together with its children.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import struct
import termios
from asyncio.subprocess import PIPE
from collections.abc import Sequence

from sandboxer.session import Completed, Connection, Copying, Streams, TerminalSize
from sandboxer.transport import rsync
from sandboxer.transport.channels import MAX_CHANNELS, ChannelGate
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
from sandboxer.transport.processes import (
    CannotStartError,
    kill_group,
    reap_process,
    start_process,
)
from sandboxer.transport.quoting import check_arguments
from sandboxer.transport.tcp import connect_here

# Long-lived streams at once; no server limits them here, only what processes and terminals cost.
MAX_STREAMS_HERE = 64


class LocalLink:
    """The local machine; always alive."""

    target = ""
    host_key = ""
    alive = True

    def __init__(self, host: str) -> None:
        self.host = host
        self._commands = ChannelGate(MAX_CHANNELS)
        self._streams = ChannelGate(MAX_STREAMS_HERE)

    async def run(
        self, argv: Sequence[str], *, stdin: bytes, timeout_s: float, max_output_bytes: int
    ) -> Completed:
        """Run one command; see `sandboxer.session.Session.run`."""
        check_arguments(argv)
        async with self._commands.enter():
            try:
                process = await start_process(argv, PIPE)
            except CannotStartError as err:
                return Completed(exit_status=err.exit_status, stdout=b"", stderr=err.text)
            try:
                async with asyncio.timeout(timeout_s):
                    return await _communicate(self.host, argv[0], process, stdin, max_output_bytes)
            except TimeoutError:
                raise timed_out(self.host, argv[0], timeout_s) from None
            finally:
                await reap_process(process)

    async def stream(self, argv: Sequence[str], streams: Streams) -> int:
        """Run one command with its streams connected, on a terminal of its own if one is asked."""
        check_arguments(argv)
        async with stream_place(self._streams, self.host):
            try:
                process = await _start(argv, streams.terminal)
            except CannotStartError as err:
                await streams.stderr(err.text)
                return err.exit_status
            try:
                return await connect_streams(process, streams)
            finally:
                await process.reap()

    async def upload(
        self, source: str, destination: str, *, copying: Copying, timeout_s: float
    ) -> None:
        """Make *destination* a copy of *source*; see `sandboxer.session.Session.upload`."""
        argv = rsync.client_command(source, destination, copying)
        try:
            completed = await rsync.run_client(self, argv, copying, timeout_s)
        except TimeoutError:
            raise timed_out(self.host, "rsync", timeout_s) from None
        rsync.judge(self.host, destination, completed, completed)

    async def open_socket(self, path: str) -> tuple[ByteReader, ByteWriter]:
        """Connect to the Unix socket *path*."""
        try:
            return await asyncio.open_unix_connection(path)
        except OSError as err:
            raise unreachable(self.host, f"connecting to {path}", err) from err

    async def connect(self, address: str, port: int, *, timeout_s: float) -> Connection:
        """Connect to a TCP port; see `sandboxer.session.Session.connect`."""
        return await connect_here(self.host, address, port, timeout_s=timeout_s)

    async def close(self) -> None:
        """Nothing is kept open."""


class LocalProcess:
    """A local command with pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def read(self) -> bytes:
        """Return the next bytes of stdout."""
        return await _reader(self._process.stdout).read(CHUNK_BYTES)

    async def read_error(self) -> bytes:
        """Return the next bytes of stderr."""
        return await _reader(self._process.stderr).read(CHUNK_BYTES)

    async def write(self, data: bytes) -> None:
        """Send bytes to stdin."""
        writer = _writer(self._process.stdin)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            writer.write(data)
            await writer.drain()

    def write_eof(self) -> None:
        """End stdin."""
        _writer(self._process.stdin).close()

    def resize(self, size: TerminalSize) -> None:
        """Pipes have no size."""

    async def wait(self) -> int:
        """Return the exit status, minus the number of the signal that ended it."""
        return await self._process.wait()

    def kill(self) -> None:
        """End the command and its children."""
        kill_group(self._process)

    async def reap(self) -> None:
        """Make sure that nothing of the command is left open."""
        await reap_process(self._process)


class LocalTerminal:
    """A local command on a pseudo-terminal."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        master: int,
        reader: asyncio.StreamReader,
        transport: asyncio.ReadTransport,
    ) -> None:
        self._process = process
        self._master = master
        self._reader = reader
        self._transport = transport

    async def read(self) -> bytes:
        """Return the next bytes the terminal shows."""
        try:
            return await self._reader.read(CHUNK_BYTES)
        except OSError:
            # EIO is how Linux says that the last process closed the terminal, see pty(7).
            return b""

    async def read_error(self) -> bytes:
        """Return nothing: on a terminal stderr is stdout."""
        return b""

    async def write(self, data: bytes) -> None:
        """Type *data*."""
        while data:
            try:
                data = data[os.write(self._master, data) :]
            except BlockingIOError:
                await _writable(self._master)
            except OSError:
                return

    def write_eof(self) -> None:
        """Type the end-of-file character."""
        with contextlib.suppress(OSError):
            os.write(self._master, b"\x04")

    def resize(self, size: TerminalSize) -> None:
        """Set the terminal's size; the kernel tells the command with SIGWINCH."""
        with contextlib.suppress(OSError):
            _set_size(self._master, size)

    async def wait(self) -> int:
        """Return the exit status."""
        return await self._process.wait()

    def kill(self) -> None:
        """End the command and its children."""
        kill_group(self._process)

    async def reap(self) -> None:
        """Make sure that nothing of the command is left open."""
        self._transport.close()
        await reap_process(self._process)


async def _start(
    argv: Sequence[str], terminal: TerminalSize | None
) -> LocalProcess | LocalTerminal:
    if terminal is None:
        return LocalProcess(await start_process(argv, PIPE))
    return await _spawn_on_terminal(argv, terminal)


async def _spawn_on_terminal(argv: Sequence[str], size: TerminalSize) -> LocalTerminal:
    master, slave = pty.openpty()
    try:
        _set_size(master, size)
        # Taking it makes the terminal the controlling one: Ctrl-C and SIGWINCH arrive.
        process = await start_process(argv, slave, preexec_fn=_take_terminal)
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(master, "rb", buffering=0)
    )
    return LocalTerminal(process, master, reader, transport)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _set_size(terminal: int, size: TerminalSize) -> None:
    # struct winsize of ioctl_tty(2): rows, columns, and two unused pixel counts.
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))


async def _writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(descriptor, ready.set_result, None)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


async def _communicate(
    host: str, program: str, process: asyncio.subprocess.Process, stdin: bytes, limit_bytes: int
) -> Completed:
    async def feed() -> None:
        running = LocalProcess(process)
        await running.write(stdin)
        running.write_eof()

    async def collect(reader: asyncio.StreamReader) -> bytes:
        collected = bytearray()
        while data := await reader.read(CHUNK_BYTES):
            collected += data
            if len(collected) > limit_bytes:
                raise too_much_output(host, program, limit_bytes)
        return bytes(collected)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(feed())
            stdout = group.create_task(collect(_reader(process.stdout)))
            stderr = group.create_task(collect(_reader(process.stderr)))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    exit_status = await process.wait()
    return Completed(exit_status=exit_status, stdout=stdout.result(), stderr=stderr.result())


def _reader(stream: asyncio.StreamReader | None) -> asyncio.StreamReader:
    assert stream is not None, "spawned with pipes"
    return stream


def _writer(stream: asyncio.StreamWriter | None) -> asyncio.StreamWriter:
    assert stream is not None, "spawned with pipes"
    return stream
