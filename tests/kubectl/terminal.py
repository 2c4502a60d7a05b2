"""A terminal window that a program can be started in and that can be made larger."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


class Terminal:
    """What a person sees of a program, and what they type."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self._shown = bytearray()

    @property
    def shown(self) -> str:
        """Everything shown until now."""
        with suppress(BlockingIOError):
            self._shown += os.read(self._master, 65536)
        return self._shown.decode(errors="replace")

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def after_typing(self, text: str) -> str:
        """Press keys and return everything shown until now."""
        self.type(text)
        return self.shown

    def resize(self, *, rows: int, columns: int) -> None:
        """Change the size of the window; the kernel tells the program in it."""
        _resize(self._master, rows, columns)


@contextmanager
def in_terminal(
    argv: Sequence[str | Path], environment: dict[str, str], *, rows: int, columns: int
) -> Iterator[Terminal]:
    """Run a program in a window of this size inside the block."""
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    _resize(master, rows, columns)
    process = subprocess.Popen(
        argv, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        # Nothing else makes the window the terminal of a new session; the lambda takes no lock.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - as said above
    )  # fmt: skip
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def _resize(master: int, rows: int, columns: int) -> None:
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
