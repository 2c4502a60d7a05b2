"""
A stream of bytes between a command inside a sandbox and a thread of this process.

One end of a socket pair is asynchronous and belongs to the websocket; at the other end a thread
reads or writes an archive. Whichever side is slower holds the other one back, and each ends when
the other one fails.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from sandboxer.cli.archive import CutOffError
from sandboxer.cli.exits import RefusedError
from sandboxer.cli.printing import safe_text
from sandboxer.errors import NotFoundError, SandboxerError, TerminalError
from sandboxer.session import Streams

if TYPE_CHECKING:
    from sandboxer.client.server import Server

T = TypeVar("T")
Write = Callable[[bytes], Awaitable[None]]

# Bytes read at once.
CHUNK_BYTES = 64 * 1024

# Bytes of what a command says about its failure.
SAID_BYTES = 4096

# How our scripts and `tar` end: 66 of sysexits.h, 126 and 127 of sh(1).
NO_INPUT = 66
CANNOT_RUN = (126, 127)

# Seconds between two looks of a person at the progress.
SHOW_INTERVAL_S = 0.2


@dataclass(kw_only=True)
class Inside:
    """Commands inside one container of one sandbox, and how much has passed."""

    server: Server
    path: str
    """Of the Sandbox in the API."""
    name: str
    container: str = ""
    """Compose service; empty means the first one."""
    passed_bytes: int = field(default=0, init=False)

    async def ask(self, argv: Sequence[str], path: str) -> str:
        """
        Run a command and return the beginning of what it printed, without newline.

        Raises:
            SandboxerError: See `run`.
        """
        said = bytearray()
        await self.run(argv, path, stdout=_kept(said))
        return said.decode("utf-8", "replace").strip()

    async def run(
        self,
        argv: Sequence[str],
        path: str,
        *,
        stdout: Write | None = None,
        stdin: AsyncIterator[bytes] | None = None,
    ) -> None:
        """
        Run a command that must succeed.

        Args:
            argv: Program and arguments.
            path: What it works on, for messages.
            stdout: Takes its output; without it, that is dropped.
            stdin: Its input; without it, that is empty.

        Raises:
            NotFoundError: There is no *path*.
            TerminalError: There is no `tar`.
            RefusedError: It failed otherwise.
        """
        from sandboxer.client.streams import execute

        said = bytearray()
        streams = Streams(
            stdout=self._counted(stdout or _kept(bytearray())),
            stderr=_kept(said),
            stdin=stdin and self._counted_input(stdin),
        )
        status = await execute(self.server, self.path, argv, streams, container=self.container)
        if status:
            raise self._failure(status, safe_text(said.decode("utf-8", "replace")).strip(), path)

    async def send(self, argv: Sequence[str], path: str, produce: Callable[[BinaryIO], T]) -> T:
        """
        Run a command that reads what *produce* writes, in a thread; return what that returns.

        Raises:
            SandboxerError: See `run`; or it ended well before it had all of it.
            OSError: Of *produce*; the command is ended then.
        """
        here, there = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=here)
        running = asyncio.create_task(self._run_to_the_end(argv, path, reader))
        with there:
            producing = asyncio.create_task(asyncio.to_thread(_produced, there, produce))
            try:
                await asyncio.wait({running, producing}, return_when=asyncio.FIRST_COMPLETED)
                if running.done():
                    # Why it ended says more than why nothing can be written any more.
                    running.result()
                # NOTE: an end of input only after all of it; a command would take half for all.
                produced = await producing
                there.shutdown(socket.SHUT_WR)
                await running
            finally:
                running.cancel()
                writer.close()
                await asyncio.gather(running, producing, return_exceptions=True)
        return produced

    async def _run_to_the_end(
        self, argv: Sequence[str], path: str, reader: asyncio.StreamReader
    ) -> None:
        """Run a command, and read what it leaves; whoever writes that waits until it is read."""
        await self.run(argv, path, stdin=_chunks(reader))
        async for data in _chunks(reader):
            # `tar` may stop at the end mark, which is zeros.
            if data.strip(b"\0"):
                raise self._failure(0, "the command there ended before it had read all", path)

    async def fetch(self, argv: Sequence[str], path: str, consume: Callable[[BinaryIO], T]) -> T:
        """
        Run a command whose output *consume* reads, in a thread; return what that returns.

        Raises:
            SandboxerError: See `run`; or of *consume*.
        """
        here, there = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=here)

        async def pass_on(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        consuming = asyncio.create_task(asyncio.to_thread(_consumed, there, consume))
        failure: Exception | None = None
        try:
            await self.run(argv, path, stdout=pass_on)
        except (ConnectionError, SandboxerError) as error:
            failure = error
        finally:
            writer.close()
            await asyncio.gather(consuming, return_exceptions=True)
        problem = consuming.exception()
        # A copy that was cut off was so by the failure; anything else came first.
        if failure is not None and (problem is None or isinstance(problem, CutOffError)):
            raise failure
        return consuming.result()

    @contextmanager
    def visible(self, doing: str) -> Iterator[None]:
        """Show how much has passed, if stderr is a terminal."""
        if not sys.stderr.isatty():
            yield
            return
        from rich.console import Console

        with Console(stderr=True).status("") as status:
            showing = asyncio.ensure_future(self._show(doing, status.update))
            try:
                yield
            finally:
                showing.cancel()

    async def _show(self, doing: str, update: Callable[[str], None]) -> None:
        from rich.markup import escape

        loop = asyncio.get_running_loop()
        started = loop.time()
        while True:
            mebibytes = self.passed_bytes / 2**20
            rate = mebibytes / max(loop.time() - started, SHOW_INTERVAL_S)
            update(escape(f"{safe_text(doing)}: {mebibytes:.1f} MiB, {rate:.1f} MiB/s"))
            await asyncio.sleep(SHOW_INTERVAL_S)

    def _counted(self, write: Write) -> Write:
        async def counted(data: bytes) -> None:
            self.passed_bytes += len(data)
            await write(data)

        return counted

    async def _counted_input(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for data in chunks:
            self.passed_bytes += len(data)
            yield data

    def _failure(self, status: int, said: str, path: str) -> SandboxerError:
        if status == NO_INPUT:
            return NotFoundError(f"There is no {path} in sandbox {self.name}.")
        if status in CANNOT_RUN:
            return TerminalError(
                f"There is no `tar`, or no shell, in sandbox {self.name}, and a copy needs both"
                + (f": {said}" if said else "."),
                reason="NoTar",
                remedy="Install them there, or name another service with -c.",
            )
        return RefusedError(
            f"Copying {path} failed in sandbox {self.name}: {said or f'exit status {status}'}",
            reason="CopyFailed",
            remedy="What was copied until then is there.",
        )


def _kept(collected: bytearray) -> Write:
    async def keep(data: bytes) -> None:
        collected.extend(data[: SAID_BYTES - len(collected)])

    return keep


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while data := await reader.read(CHUNK_BYTES):
        yield data


def _produced(there: socket.socket, produce: Callable[[BinaryIO], T]) -> T:
    with there.makefile("wb") as file:
        return produce(file)


def _consumed(there: socket.socket, consume: Callable[[BinaryIO], T]) -> T:
    with there, there.makefile("rb") as file:
        return consume(file)
