"""
What comes out of a sandbox, written below one directory and nowhere else.

Design notes:

* Every directory is entered by its descriptor and no link is followed, neither one of the archive
  nor one that was there before.
* A symbolic link is made only where it cannot lead out: `..` counts at its beginning alone, and
  not above the copy. Elsewhere `a/..` need not be where it looks, as `a` may be a link itself.
* The filters of `tarfile` judge by the text of names, and Python 3.11 has them from 3.11.4 on.
* A file appears under its name when it is whole.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import tarfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO

from sandboxer.cli.archive import CHUNK_BYTES, PERMISSIONS, Body, members, not_taken
from sandboxer.cli.exits import RefusedError
from sandboxer.cli.printing import safe_text

# Bytes of a name: PATH_MAX of Linux.
NAME_MAX_BYTES = 4096

# Names of what was left out that a message shows.
SHOWN = 10

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Unpacker:
    """
    Writes members into one directory and nowhere else.

    Args:
        root: Descriptor of the directory; stays open.

    Attributes:
        left_out: The first few members that were not written, each with the reason.
        left_out_count: How many there were.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self.left_out: list[str] = []
        self.left_out_count = 0

    def unpack(self, file: BinaryIO) -> None:
        """
        Write every member of an archive.

        Raises:
            RefusedError: See `members`; a name leads out; something here is in the way.
        """
        for member, body in members(file):
            parts = _parts(member.name)
            with _named(member.name):
                self._take(parts, member, body)

    def _take(self, parts: Sequence[str], member: tarfile.TarInfo, body: Body) -> None:
        if member.isdir():
            with self._entered(parts, member.mode):
                return
        if not parts:
            raise not_taken("something that is no directory has no name")
        if member.issym() and not _stays(member.linkname, len(parts) - 1):
            self._leave_out(f"{member.name} (a link to {member.linkname}, outside the copy)")
        elif not (member.isreg() or member.issym() or member.islnk()):
            self._leave_out(f"{member.name} (neither a file nor a directory nor a link)")
        else:
            with self._entered(parts[:-1]) as directory:
                self._write(directory, parts[-1], member, body)

    def _write(self, directory: int, name: str, member: tarfile.TarInfo, body: Body) -> None:
        if member.issym():
            with _placed(directory, name) as new:
                os.symlink(member.linkname, new, dir_fd=directory)
        elif member.islnk():
            self._write_same(directory, name, _parts(member.linkname))
        else:
            write_file(directory, name, member, body)

    def _write_same(self, directory: int, name: str, other: Sequence[str]) -> None:
        """Give a file that is here another name; a link must not get one at another depth."""
        if not other:
            raise not_taken(f"{name} is another name of nothing")
        with self._entered(other[:-1]) as origin, _placed(directory, name) as new:
            if not stat.S_ISREG(os.lstat(other[-1], dir_fd=origin).st_mode):
                raise not_taken(f"{name} is another name of {other[-1]}, which is no file")
            os.link(other[-1], new, src_dir_fd=origin, dst_dir_fd=directory, follow_symlinks=False)

    @contextmanager
    def _entered(self, parts: Sequence[str], mode: int = PERMISSIONS) -> Iterator[int]:
        """Open a directory, made where it is missing; its owner may always enter it."""
        at = os.dup(self._root)
        try:
            for part in parts:
                below = enter(at, part, mode & PERMISSIONS | stat.S_IRWXU)
                os.close(at)
                at = below
            yield at
        finally:
            os.close(at)

    def _leave_out(self, what: str) -> None:
        self.left_out_count += 1
        if len(self.left_out) < SHOWN:
            self.left_out.append(safe_text(what)[:300])


def unpack_file(file: BinaryIO, directory: int, name: str) -> None:
    """
    Write the only member of an archive, which must be a file, under a name of our own.

    Raises:
        RefusedError: See `members`; it is something else, or there are more.
    """
    written = False
    for member, body in members(file):
        if written or not member.isreg():
            raise not_taken(f"{member.name} was not asked for")
        with _named(name):
            write_file(directory, name, member, body)
        written = True


def write_file(directory: int, name: str, member: tarfile.TarInfo, body: Body) -> None:
    """Write a file below an open directory: its permissions less our umask, its time."""
    with _placed(directory, name) as new:
        descriptor = os.open(new, _NEW_FILE, member.mode & PERMISSIONS, dir_fd=directory)
        with os.fdopen(descriptor, "wb", CHUNK_BYTES) as file:
            for data in body:
                file.write(data)
        # A time that no file can have is not worth an error.
        with suppress(OverflowError, ValueError):
            os.utime(new, (member.mtime, member.mtime), dir_fd=directory, follow_symlinks=False)


def enter(directory: int, name: str, mode: int = PERMISSIONS) -> int:
    """
    Return a descriptor of a directory below an open one, made when it is missing.

    Raises:
        RefusedError: A link or something else has that name.
    """
    try:
        with suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=directory)
        return os.open(name, _DIRECTORY, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        raise RefusedError(
            f"{safe_text(name)} is in the way: it is no directory, and links are not followed.",
            reason="InTheWay",
            remedy="Move it away, or copy to another place.",
        ) from error


@contextmanager
def _placed(directory: int, name: str) -> Iterator[str]:
    """Yield a new name for something that takes its real name once it is whole."""
    new = f".sandboxer-{secrets.token_hex(8)}"
    try:
        yield new
        os.rename(new, name, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        # NOTE: also after a rename: one between two names of the same file does nothing, rename(2).
        with suppress(FileNotFoundError):
            os.unlink(new, dir_fd=directory)


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise RefusedError(
            f"Cannot write {safe_text(name)[:300]}: {why}.",
            reason="CannotWrite",
            remedy="What came before it is here.",
        ) from error


def _parts(name: str) -> list[str]:
    """Return the parts of a member's name; one that leads out is never written."""
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise not_taken(f"the name {name} leads outside")
    if len(os.fsencode(name)) > NAME_MAX_BYTES:
        raise not_taken(f"a name has more than {NAME_MAX_BYTES} bytes")
    return [part for part in parts if part not in ("", ".")]


def _stays(target: str, depth: int) -> bool:
    """Tell whether a link cannot lead out of the copy; it lies in *depth* real directories."""
    parts = [part for part in target.split("/") if part not in ("", ".")]
    down = deque(parts)
    while down and down[0] == "..":
        down.popleft()
    plain = target and not target.startswith("/") and "\0" not in target
    return bool(plain) and ".." not in down and len(parts) - len(down) <= depth
