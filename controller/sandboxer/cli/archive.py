"""
Tar archives as streams, of which nothing is kept in memory: reading one, and writing one.

`tarfile` reads headers of any length into memory, keeps every member, and takes an archive that
ends early for a whole one. So only its form of one header is used here; what is done with a member
that a sandbox sent is the matter of `sandboxer.cli.unpacking`.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from sandboxer.cli.exits import RefusedError
from sandboxer.cli.printing import safe_text

# Bytes read and written at once.
CHUNK_BYTES = 256 * 1024

# Bytes of a header that only describes the next member; its longest part is a path.
DESCRIPTION_MAX_BYTES = 64 * 1024

# Permission bits that are kept.
PERMISSIONS = 0o777

_END = bytes(tarfile.BLOCKSIZE)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_LONG = {tarfile.GNUTYPE_LONGNAME: b"path", tarfile.GNUTYPE_LONGLINK: b"linkpath"}
_DESCRIPTIONS = (*_PAX, *_LONG, tarfile.XGLTYPE)

_KINDS = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
}

Body = Iterator[bytes]
Extra = Mapping[bytes, bytes]


class CutOffError(RefusedError):
    """The archive ends before its end mark."""

    default_reason = "ArchiveCutOff"


def not_taken(why: str) -> RefusedError:
    """Return the error that ends a copy."""
    return RefusedError(
        f"The sandbox sent an archive that is not taken: {safe_text(why)[:300]}.",
        reason="ArchiveRefused",
        remedy="What came before it is here; nothing outside the destination was written.",
    )


def members(file: BinaryIO) -> Iterator[tuple[tarfile.TarInfo, Body]]:
    """
    Yield each member of an archive with its content, which may be left unread.

    Raises:
        CutOffError: It ends early.
        RefusedError: It is no archive, or one that no `tar` writes.
    """
    extra: dict[bytes, bytes] = {}
    while (header := _exactly(file, tarfile.BLOCKSIZE)) != _END:
        member = _member(header)
        if member.type in _DESCRIPTIONS:
            extra |= _description(member, file)
            continue
        _amend(member, extra)
        extra = {}
        body = _body(file, 0 if member.isdir() or member.issym() or member.islnk() else member.size)
        yield member, body
        deque(body, maxlen=0)
    # Whoever sends must not find the way closed; `tar` fills up to a round size.
    while file.read(CHUNK_BYTES):
        pass


def _member(header: bytes) -> tarfile.TarInfo:
    try:
        member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise not_taken(f"a header cannot be read ({error})") from error
    if member.size < 0 or member.type == tarfile.GNUTYPE_SPARSE:
        raise not_taken(f"{member.name} has a size that is not supported")
    return member


def _description(member: tarfile.TarInfo, file: BinaryIO) -> Extra:
    """Read what describes the next member: pax records, or one long name in GNU's form."""
    if member.size > DESCRIPTION_MAX_BYTES:
        raise not_taken(f"a header has {member.size} bytes")
    content = b"".join(_body(file, member.size))
    if member.type in _LONG:
        return {_LONG[member.type]: content.rstrip(b"\0")}
    return _records(content) if member.type in _PAX else {}


def _records(content: bytes) -> Extra:
    """Return the records `LENGTH KEY=VALUE` of a pax header, pax(1)."""
    found, at = {}, 0
    while at < len(content):
        digits = content[at : content.find(b" ", at)]
        length = int(digits) if digits.isdigit() and len(digits) <= 6 else 0  # noqa: PLR2004 - above DESCRIPTION_MAX_BYTES
        key, equals, value = content[at + len(digits) + 1 : at + length - 1].partition(b"=")
        # NOTE: a length that does not even cover itself would never come to an end.
        if not equals or not len(digits) < length <= len(content) - at:
            raise not_taken("a pax header cannot be read")
        found[key] = value
        at += length
    return found


def _amend(member: tarfile.TarInfo, extra: Extra) -> None:
    """Put what was described before into a member."""
    if any(key.startswith(b"GNU.sparse.") for key in extra):
        raise not_taken(f"{member.name} is a sparse file")
    if b"path" in extra:
        member.name = extra[b"path"].decode("utf-8", "surrogateescape")
    if b"linkpath" in extra:
        member.linkname = extra[b"linkpath"].decode("utf-8", "surrogateescape")
    size = extra.get(b"size", b"0")
    # Eighteen digits are an exabyte.
    if not size.isdigit() or len(size) > 18:  # noqa: PLR2004 - said above
        raise not_taken(f"{member.name} has a size that is not supported")
    member.size = int(size) if b"size" in extra else member.size


def _body(file: BinaryIO, size: int) -> Body:
    left = size
    while left:
        data = file.read(min(left, CHUNK_BYTES))
        if not data:
            raise _cut_off()
        left -= len(data)
        yield data
    _exactly(file, -size % tarfile.BLOCKSIZE)


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise _cut_off()
    return data


def _cut_off() -> CutOffError:
    return CutOffError(
        "The copy ended early.", remedy="What is complete until then is here; copy again."
    )


def pack(file: BinaryIO, source: Path, name: str) -> list[str]:
    """
    Write a file or a directory with all below it as an archive.

    Links below *source* stay links; names of one file become files. Permissions and times are kept,
    owners are not: what `tar` writes as root there is root's.

    Args:
        file: Takes the archive.
        source: File or directory, no link.
        name: What the archive calls it; `.` for a directory whose content is meant.

    Returns:
        What was left out: sockets, pipes, devices.

    Raises:
        OSError: Something cannot be read, or *file* takes no more.
    """
    left_out: list[str] = []
    # The last one first: `tar` takes the rights to a directory away once it is through with it.
    waiting = [(source, name)]
    while waiting:
        path, called = waiting.pop()
        status = path.lstat()
        if not (kind := _KINDS.get(stat.S_IFMT(status.st_mode))):
            left_out.append(str(path))
            continue
        member = _described(path, called, kind, status)
        if kind == tarfile.REGTYPE:
            _add_file(file, path, member)
        else:
            file.write(_header(member))
        if kind == tarfile.DIRTYPE:
            entries = sorted(path.iterdir(), reverse=True)
            waiting.extend((below, f"{called}/{below.name}") for below in entries)
    file.write(_END * 2)
    return left_out


def _described(path: Path, name: str, kind: bytes, status: os.stat_result) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.mode = status.st_mode & PERMISSIONS
    member.mtime = int(status.st_mtime)
    if kind == tarfile.SYMTYPE:
        member.linkname = str(path.readlink())
    return member


def _header(member: tarfile.TarInfo) -> bytes:
    # GNU's form, as busybox does not understand the long names of the other one.
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _add_file(file: BinaryIO, path: Path, member: tarfile.TarInfo) -> None:
    """Write one file; as many bytes as it had when it was opened, however it changes meanwhile."""
    with path.open("rb") as content:
        left = member.size = os.fstat(content.fileno()).st_size
        file.write(_header(member))
        while left:
            data = content.read(min(left, CHUNK_BYTES))
            if not data:
                raise OSError(errno.EIO, "it became shorter while it was read", str(path))
            file.write(data)
            left -= len(data)
    file.write(bytes(-member.size % tarfile.BLOCKSIZE))
