"""
One reading of a spec directory: every document in it, or what kept it from being read.

A snapshot is *complete* only when every file could be read, did not change meanwhile, parsed and
validated, and no object is described twice. Only a complete snapshot may be compared with what was
there before; "not in an incomplete snapshot" says nothing.

Files that count end in .yaml, .yml or .json. Hidden files and directories, and what editors leave
behind while they save, do not. A link may point inside the directory, never out of it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandboxer.sources.apply import key_of_resource
from sandboxer.sources.documents import Document, decode_documents
from sandboxer.sources.problems import DocumentError, Problem
from sandboxer.sources.values import MAX_TEXT_BYTES

_SUFFIXES = (".yaml", ".yml", ".json")

# A desired state of 100,000 sandboxes fits; a home directory given by mistake does not.
MAX_FILES = 20_000

# Readings of one file that changes while it is read; the next look comes anyway.
_MAX_READINGS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a directory held at one moment."""

    documents: tuple[Document, ...] = ()
    """In the order of paths; without those whose file has a problem."""
    problems: tuple[Problem, ...] = ()
    """Everything that is wrong, in the order of paths."""
    digest: str = ""
    """Of the objects described, wherever they stand: 16 hexadecimal digits."""

    @property
    def is_complete(self) -> bool:
        """Tell whether what is not in it is really not there."""
        return not self.problems


def read_snapshot(root: Path) -> Snapshot:
    """Read the directory; whatever goes wrong is in the snapshot, nothing is raised."""
    try:
        real_root = root.resolve(strict=True)
        paths = sorted(_manifest_paths(real_root))
    except OSError as error:
        return Snapshot(problems=(_problem(root, f"cannot be read: {error.strerror}"),))
    if len(paths) > MAX_FILES:
        message = f"holds more than {MAX_FILES} manifests; is it the right directory?"
        return Snapshot(problems=(_problem(root, message),))
    documents: list[Document] = []
    problems: list[Problem] = []
    for path in paths:
        shown = root / path.relative_to(real_root)
        found = _read(path, shown, real_root)
        (documents if isinstance(found, tuple) else problems).extend(found)  # type: ignore[arg-type] # each list gets its own kind
    problems.extend(_duplicates(documents))
    return Snapshot(documents=tuple(documents), problems=tuple(problems), digest=_digest(documents))


def _manifest_paths(real_root: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for directory, subdirectories, files in os.walk(real_root, onerror=fail):
        subdirectories[:] = sorted(name for name in subdirectories if not name.startswith("."))
        for name in files:
            if name.endswith(_SUFFIXES) and not name.startswith((".", "#")):
                yield Path(directory, name)


def _read(path: Path, shown: Path, real_root: Path) -> tuple[Document, ...] | list[Problem]:
    """Return the documents of one file as a tuple, or its problems as a list."""
    try:
        target = path.resolve(strict=True)
        if not target.is_relative_to(real_root):
            return [_problem(shown, "is a link that leads out of the directory")]
        data = _read_steadily(target)
    except OSError as error:
        return [_problem(shown, f"cannot be read: {error.strerror or error}")]
    try:
        return tuple(decode_documents(data, str(shown), namespace="default"))
    except DocumentError as error:
        return error.problems


def _read_steadily(path: Path) -> bytes:
    """
    Return a file's content that did not change while it was read.

    Raises:
        OSError: It cannot be read, is no regular file, or keeps changing.
    """
    for _ in range(_MAX_READINGS):
        before = path.stat()
        if not stat.S_ISREG(before.st_mode):
            raise OSError(0, "it is not a regular file")
        with path.open("rb") as file:
            # One byte more than is allowed, so that a file that is too large is seen to be.
            data = file.read(MAX_TEXT_BYTES + 1)
        after = path.stat()
        if _identity(before) == _identity(after):
            return data
    raise OSError(0, "it keeps changing while it is read")


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


def _digest(documents: list[Document]) -> str:
    lines = sorted(f"{key_of_resource(d.resource)}\0{document_digest(d)}" for d in documents)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def document_digest(document: Document) -> str:
    """Return the hash of what one document says: 16 hexadecimal digits."""
    text = document.resource.model_dump_json(by_alias=True, exclude={"status"})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _problem(path: Path, message: str) -> Problem:
    return Problem(origin=str(path), message=message)
