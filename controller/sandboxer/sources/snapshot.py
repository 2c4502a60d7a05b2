"""
One reading of a spec directory: every document in it, or what kept it from being read.

A snapshot is *complete* only when every file could be read, did not change meanwhile, parsed and
validated, and no object is described twice. Only a complete snapshot may be compared with what was
there before; "not in an incomplete snapshot" says nothing.

Files that count end in .yaml, .yml or .json. Hidden files and directories, and what editors leave
behind while they save, do not. A link to a file may point inside the directory, never out of it; a
link to a directory is refused rather than ignored, because what lies behind it would seem missing.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from sandboxer.sources.apply import key_of_resource
from sandboxer.sources.documents import Document, decode_documents
from sandboxer.sources.problems import DocumentError, Problem
from sandboxer.values import MAX_TEXT_BYTES

_SUFFIXES = (".yaml", ".yml", ".json")

# A desired state of 100,000 sandboxes fits; a home directory given by mistake does not.
MAX_FILES = 20_000

# Bytes of all files together; 100,000 full manifests are 80 MB. Everything read is kept until it
# is applied, so without a bound many large files would fill the memory.
MAX_TREE_BYTES = 128 * 2**20

# Readings of one file that changes while it is read; the next look comes anyway.
_MAX_READINGS = 3


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """What one file's content came to."""

    content_hash: bytes
    documents: tuple[Document, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a directory held at one moment."""

    documents: tuple[Document, ...] = ()
    """In the order of paths; without those whose file has a problem or that another describes too."""
    problems: tuple[Problem, ...] = ()
    """Everything that is wrong, in the order of paths."""
    digest: str = ""
    """Of the objects described, wherever they stand: 16 hexadecimal digits."""
    files: Mapping[Path, ParsedFile] = field(default_factory=dict, repr=False)
    """By path behind links; of the files without problems."""

    @property
    def is_complete(self) -> bool:
        """Tell whether what is not in it is really not there."""
        return not self.problems


def read_snapshot(root: Path, previous: Mapping[Path, ParsedFile] | None = None) -> Snapshot:
    """
    Read the directory; whatever goes wrong is in the snapshot, nothing is raised.

    Args:
        root: The directory.
        previous: `files` of an earlier snapshot; what has the same content is not parsed again,
            which is nine tenths of the work of a look.
    """
    try:
        real_root = _behind_links(root)
        paths = sorted(islice(_manifest_paths(real_root), MAX_FILES + 1))
    except OSError as error:
        where = _printable(Path(error.filename or root))
        return Snapshot(problems=(_problem(root, f"cannot be read: {where}: {error.strerror}"),))
    if len(paths) > MAX_FILES:
        message = f"holds more than {MAX_FILES} manifests; is it the right directory?"
        return Snapshot(problems=(_problem(root, message),))
    return _read_all(root, real_root, paths, previous or {})


def _read_all(
    root: Path, real_root: Path, paths: Sequence[Path], previous: Mapping[Path, ParsedFile]
) -> Snapshot:
    files: dict[Path, ParsedFile] = {}
    problems: list[Problem] = []
    left_bytes = MAX_TREE_BYTES
    for path in paths:
        shown = _printable(root / path.relative_to(real_root))
        try:
            data = _data(path, real_root)
            left_bytes -= len(data)
            if left_bytes < 0:
                problems.append(_problem(root, f"holds more than {MAX_TREE_BYTES >> 20} MiB"))
                break
            files[path] = _parsed(data, shown, previous.get(path))
        except OSError as error:
            problems.append(Problem(origin=shown, message=f"cannot be read: {error.strerror}"))
        except DocumentError as error:
            problems += error.problems
    documents = [document for file in files.values() for document in file.documents]
    problems += _duplicates(documents)
    return Snapshot(
        documents=tuple(_described_once(documents)),
        problems=tuple(problems),
        digest=_digest(documents),
        files=files,
    )


def _parsed(data: bytes, shown: str, before: ParsedFile | None) -> ParsedFile:
    content_hash = hashlib.sha256(data).digest()
    if before is not None and before.content_hash == content_hash:
        return before
    return ParsedFile(content_hash, tuple(decode_documents(data, shown, namespace="default")))


def _manifest_paths(real_root: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for directory, subdirectories, files in os.walk(real_root, onerror=fail):
        subdirectories[:] = sorted(name for name in subdirectories if not name.startswith("."))
        links = [name for name in subdirectories if Path(directory, name).is_symlink()]
        manifests = [
            name for name in files if name.endswith(_SUFFIXES) and not name.startswith((".", "#"))
        ]
        # A link to a directory counts as a manifest that cannot be read, see `_data`.
        yield from (Path(directory, name) for name in (*links, *manifests))


def _data(path: Path, real_root: Path) -> bytes:
    """
    Return a manifest's content that did not change while it was read.

    Raises:
        OSError: It cannot be read, leads out of the directory, is no regular file, or keeps
            changing.
    """
    target = _behind_links(path)
    if not target.is_relative_to(real_root):
        raise OSError(0, "it is a link that leads out of the directory")
    if target.is_dir():
        raise OSError(0, "links to directories are not followed; move the files here")
    for _ in range(_MAX_READINGS):
        data, before = _read_once(target)
        if _identity(before) == _identity(target.stat()):
            return data
    raise OSError(0, "it keeps changing while it is read")


def _behind_links(path: Path) -> Path:
    # Not Path.resolve: for a loop of links it raises RuntimeError before Python 3.13.
    return Path(os.path.realpath(path, strict=True))


def _read_once(path: Path) -> tuple[bytes, os.stat_result]:
    # O_NONBLOCK: opening a named pipe would wait for its writer for ever.
    # O_NOFOLLOW: the path was resolved, so a link here was put there since.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "it is not a regular file")
        # One byte more than is allowed, so that a file that is too large is seen to be.
        return file.read(MAX_TEXT_BYTES + 1), status


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _duplicates(documents: list[Document]) -> list[Problem]:
    """Return a problem for each object that is described in two files, naming both."""
    first: dict[object, Document] = {}
    problems = []
    for document in documents:
        key = key_of_resource(document.resource)
        other = first.setdefault(key, document)
        if other is not document:
            message = f"describes {key}, which {other.place} describes too; remove one of them"
            problems.append(Problem(origin=document.origin, line=document.line, message=message))
    return problems


def _described_once(documents: list[Document]) -> list[Document]:
    """Return the documents whose object no other one describes; which one is right is not ours to say."""
    counts = Counter(key_of_resource(document.resource) for document in documents)
    return [d for d in documents if counts[key_of_resource(d.resource)] == 1]


def _digest(documents: list[Document]) -> str:
    lines = sorted(f"{key_of_resource(d.resource)}\0{document_digest(d)}" for d in documents)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def document_digest(document: Document) -> str:
    """Return the hash of what one document says: 16 hexadecimal digits."""
    # A default that is written out is owned, so it is not the same as one left out.
    text = document.resource.model_dump_json(by_alias=True, exclude_unset=True, exclude={"status"})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _problem(path: Path, message: str) -> Problem:
    return Problem(origin=_printable(path), message=message)


def _printable(path: Path) -> str:
    """Return a path as it may be shown and stored; names of files can hold any byte."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(path))
