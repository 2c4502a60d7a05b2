"""
Files that only their owner reads: replaced as a whole, and by one process at a time.

Keys, token hashes and the kubeconfig are written this way.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandboxer.errors import TerminalError


def make_private_directory(path: Path) -> None:
    """Make a directory of mode 0700, and its parents; one that exists is left as it is."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_private(path: Path, content: bytes) -> None:
    """
    Replace a file by one of mode 0600; a reader finds the old content or the new, never a part.

    Raises:
        TerminalError: The file cannot be written.
    """
    try:
        # NOTE: mkstemp makes the file 0600 before it has any content.
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink()
            raise
    except OSError as error:
        raise TerminalError(
            f"cannot write {path}: {error.strerror}.", reason="FileNotWritable"
        ) from error


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory: who reads, changes and writes a file in it does so alone."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
