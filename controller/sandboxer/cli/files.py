"""Reading the manifests of `-f`: files, directories, standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sandboxer.cli.printing import note
from sandboxer.errors import InvalidSpecError, NotFoundError
from sandboxer.kinds.meta import Resource

if TYPE_CHECKING:
    from sandboxer.sources.documents import Document

SUFFIXES = (".yaml", ".yml", ".json")

# Bytes read from one file or from standard input; the reader of documents has a lower limit of
# its own, this one keeps `-f /dev/zero` from filling the memory.
MAX_BYTES = 4 * 2**20


def read_manifests(filenames: Sequence[str], *, recursive: bool) -> list[Document]:
    """
    Return every document of the given paths, in order; all problems of all files at once.

    Files without any (all commented out) are no mistake, but a person is told.

    Raises:
        click.UsageError: No path was given, or it is a URL.
        NotFoundError: A path does not exist.
        InvalidSpecError: At least one document is wrong; the message lists file and line of each.
    """
    from sandboxer.sources.documents import DocumentError, read_documents

    if not filenames:
        raise click.UsageError("name a file, a directory or - with -f")
    documents: list[Document] = []
    problems: list[str] = []
    for origin, text in _texts(filenames, recursive=recursive):
        try:
            documents += read_documents(text, origin)
        except DocumentError as error:
            problems.append(error.message)
    if problems:
        raise InvalidSpecError("\n".join(problems))
    if not documents:
        note(f"note: there is no document in {', '.join(filenames)}")
    return documents


def _texts(filenames: Sequence[str], *, recursive: bool) -> list[tuple[str, str]]:
    return [
        (origin, _text(origin))
        for filename in filenames
        for origin in _files(filename, recursive=recursive)
    ]


def _files(filename: str, *, recursive: bool) -> list[str]:
    if filename == "-":
        return ["-"]
    if "://" in filename:
        raise click.UsageError(f"{filename}: URLs are not read; download it and look at it first")
    path = Path(filename)
    if not path.exists():
        raise NotFoundError(f"{filename}: no such file or directory.")
    if not path.is_dir():
        return [filename]
    found = sorted(path.rglob("*") if recursive else path.glob("*"))
    files = [str(p) for p in found if p.suffix in SUFFIXES and p.is_file() and p.name[0] != "."]
    if not files:
        raise NotFoundError(
            f"{filename}: no {', '.join(SUFFIXES)} files in this directory.",
            remedy="" if recursive else "Add -R to look in directories below it.",
        )
    return files


def _text(origin: str) -> str:
    try:
        if origin == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(origin).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise InvalidSpecError(f"{origin}: larger than {MAX_BYTES // 2**20} MiB.")
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidSpecError(f"{origin}: not UTF-8 text (byte {error.start}).") from error
    except OSError as error:
        raise NotFoundError(f"{origin}: cannot be read: {error.strerror}.") from error


def in_namespace(
    documents: Sequence[Document], namespace: str | None, default: str
) -> list[Resource]:
    """
    Return the resources, with a namespace where a namespaced one names none.

    Args:
        documents: As read.
        namespace: What `-n` says; must not contradict a document.
        default: For documents without namespace.

    Raises:
        InvalidSpecError: A document names another namespace than `-n`.
    """
    return [_placed(document, namespace, default) for document in documents]


def _placed(document: Document, namespace: str | None, default: str) -> Resource:
    resource = document.resource
    if not type(resource).namespaced:
        return resource
    own = resource.metadata.namespace
    if own is not None and namespace is not None and own != namespace:
        raise InvalidSpecError(
            f"{document.origin}:{document.line}: {resource.kind} {resource.metadata.name} is in "
            f"namespace {own}, and -n says {namespace}.",
            remedy="Leave one of them out.",
        )
    if own is not None:
        return resource
    metadata = resource.metadata.model_copy(update={"namespace": default})
    return resource.model_copy(update={"metadata": metadata})
