"""
Who may work: one controller for each data directory, one process for each key.

One file; byte 0 is the controller's lock, a key's lock is the byte at the hash of its name. They
are open-file-description locks (fcntl(2), Linux 3.15): the kernel releases them when the process
dies, however it dies, so there is no lease that could be stale and no clock that matters. The
file's content means nothing and stays empty.

They hold on local file systems; on NFS they hold among the processes of one machine only if its
client says so (`local_lock`), so the data directory belongs on a local disk.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sandboxer.errors import TerminalError
from sandboxer.kinds.meta import Key

# struct flock on 64-bit Linux: l_type, l_whence, (padding) l_start, l_len, l_pid, (padding).
# Source: fcntl(2), <bits/fcntl.h>; the kernel demands l_pid = 0 for these locks.
_FLOCK: Final = struct.Struct("hhqqi0q")

_CONTROLLER_BYTE: Final = 0

# Stands for a closed file: its number may already belong to another one.
_CLOSED: Final = -1

# Offsets of keys: 1 to 2^62, below the largest off_t. Two of 100,000 keys share one with
# probability 1e-9, and then merely take turns.
_KEY_BYTES: Final = 2**62


class KeyLocks:
    """
    The locks of one data directory, as one process holds them.

    Two objects exclude each other like two processes do, also within one process.

    Args:
        path: Lock file; made with mode 0600 when it is missing.

    Raises:
        TerminalError: The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: set[int] = set()
        """Bytes locked by this object: the kernel would grant them to it again."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(path, error) from error

    def close(self) -> None:
        """Release everything; closing again does nothing."""
        if self._descriptor != _CLOSED:
            os.close(self._descriptor)
            self._descriptor = _CLOSED
            self._held.clear()

    def try_controller(self) -> bool:
        """Become the controller of this data directory until `close`; False when there is one."""
        return self._lock(_CONTROLLER_BYTE)

    def controller_running(self) -> bool:
        """Tell whether some process, this one included, is the controller."""
        if _CONTROLLER_BYTE in self._held:
            return True
        answer = self._fcntl(fcntl.F_OFD_GETLK, fcntl.F_WRLCK, _CONTROLLER_BYTE)
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)

    @contextmanager
    def try_key(self, key: Key) -> Iterator[bool]:
        """Hold the lock of *key* inside the block; yields False, at once, when somebody has it."""
        offset = _offset(key)
        locked = self._lock(offset)
        try:
            yield locked
        finally:
            if locked and offset in self._held:
                self._held.discard(offset)
                self._fcntl(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, offset)

    def _lock(self, offset: int) -> bool:
        if offset in self._held:
            return False
        if os.fstat(self._descriptor).st_nlink == 0:
            raise _removed(self._path)
        try:
            self._fcntl(fcntl.F_OFD_SETLK, fcntl.F_WRLCK, offset)
        except (BlockingIOError, PermissionError):
            # fcntl(2): EAGAIN or EACCES, both meaning that somebody else holds it.
            return False
        except OSError as error:
            raise _unusable(self._path, error) from error
        self._held.add(offset)
        return True

    def _fcntl(self, command: int, lock_type: int, offset: int) -> bytes:
        request = _FLOCK.pack(lock_type, os.SEEK_SET, offset, 1, 0)
        return fcntl.fcntl(self._descriptor, command, request)


def _offset(key: Key) -> int:
    digest = hashlib.sha256("\0".join(key).encode()).digest()
    return 1 + int.from_bytes(digest[:8], "big") % _KEY_BYTES


def _removed(path: Path) -> TerminalError:
    # A process that comes now makes another file, and the two would exclude each other no more.
    return TerminalError(
        f"Lock file {path} was removed while it was in use.",
        reason="LocksRemoved",
        remedy="The data directory must stay while sandboxer runs; restart this process.",
    )


def _unusable(path: Path, error: OSError) -> TerminalError:
    return TerminalError(
        f"Lock file {path} cannot be used ({error.strerror or error}).",
        reason="LocksUnavailable",
        remedy="Check that this user may write there and that it is on a local file system.",
    )
