"""
This process's own input, output and terminal, as the streams of a command inside a sandbox.

Bytes pass as they come. With a terminal the local one is put into raw mode, so that keys such as
Ctrl-C reach the program inside, and its size follows the window.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from sandboxer.cli.exits import RefusedError
from sandboxer.session import Streams, TerminalSize

# Bytes read from stdin at once: the size of a Linux pipe, pipe(7).
CHUNK_BYTES = 64 * 1024


def stdin_is_terminal() -> bool:
    """Tell whether a person sits at stdin."""
    return sys.stdin.isatty()


@contextmanager
def connected(*, interactive: bool, terminal: bool) -> Iterator[Streams]:
    """
    Return streams that are this process's own, and put its terminal back afterwards.

    Args:
        interactive: Pass stdin on; otherwise the command's input is empty.
        terminal: Give the command a terminal of the size of ours.
    """
    before = termios.tcgetattr(sys.stdin.fileno()) if terminal else None
    if terminal:
        # NOTE: the default would throw away what was typed ahead.
        tty.setraw(sys.stdin.fileno(), termios.TCSADRAIN)
    try:
        yield Streams(
            stdout=_Writer(sys.stdout.fileno()),
            stderr=_Writer(sys.stderr.fileno()),
            stdin=_input(sys.stdin.fileno()) if interactive else None,
            terminal=_size() if terminal else None,
            resizes=_resizes() if terminal else None,
        )
    finally:
        if before is not None:
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)


class _Writer:
    """Writes bytes to a file descriptor without blocking the loop for long outputs."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def __call__(self, data: bytes) -> None:
        await asyncio.to_thread(self._write, data)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]


async def _input(descriptor: int) -> AsyncIterator[bytes]:
    """
    Yield what arrives on a descriptor until its end.

    Raises:
        RefusedError: It cannot be read, as when it is a directory.
    """
    read = _read_when_ready if _can_be_awaited(descriptor) else _read_in_thread
    try:
        while data := await read(descriptor):
            yield data
    except OSError as error:
        raise RefusedError(
            f"Standard input cannot be read: {error.strerror or error}.", reason="CannotRead"
        ) from error


def _can_be_awaited(descriptor: int) -> bool:
    """Tell whether it may be silent for long; everything else, such as a file, never is."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)


async def _read_in_thread(descriptor: int) -> bytes:
    # NOTE: epoll refuses files, and devices such as /dev/null: EPERM, epoll_ctl(2).
    return await asyncio.to_thread(os.read, descriptor, CHUNK_BYTES)


async def _read_when_ready(descriptor: int) -> bytes:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, CHUNK_BYTES)


def _size() -> TerminalSize:
    size = shutil.get_terminal_size()
    return TerminalSize(columns=size.columns, rows=size.lines)


async def _resizes() -> AsyncIterator[TerminalSize]:
    """Yield the size of the window each time it changes."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    loop.add_signal_handler(signal.SIGWINCH, changed.set)
    try:
        while True:
            await changed.wait()
            changed.clear()
            yield _size()
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)
