"""
Text to validated resources, or every problem in it with file, line and column.

`read_documents` takes multi-document YAML, JSON, and `kind: List`. It decides what a manifest is
(apiVersion, kind, a declarable kind, the namespace it lands in); the shape of a kind is decided by
its model, whose errors are put into the words of the document here. Limits and syntax are
`sandboxer.values`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from sandboxer import values
from sandboxer.kinds import catalog, meta
from sandboxer.kinds.meta import Key, Resource
from sandboxer.kinds.mistakes import MAX_SHOWN_CHARS, called, mistakes_of, shown
from sandboxer.sources.problems import DocumentError, Problem
from sandboxer.values import FieldPath, Tree

__all__ = [
    "Document",
    "DocumentError",
    "Problem",
    "decode_documents",
    "read_documents",
]

# Deep fields are at 60; a hostile key may be as long as a document.
_MAX_FIELD_CHARS = 200


@dataclass(frozen=True, slots=True)
class Document:
    """One manifest, and where it was found."""

    origin: str
    """File as the user named it."""
    line: int
    """Where it begins, counted from 1."""
    resource: Resource

    @property
    def place(self) -> str:
        """`file:line`."""
        return f"{self.origin}:{self.line}"


@dataclass(frozen=True, slots=True)
class _Manifest:
    """One value that should be a resource, and how its fields are found in the text."""

    origin: str
    tree: Tree
    prefix: FieldPath
    value: Any

    def problem(self, path: FieldPath, message: str) -> Problem:
        line, column = self.tree.place((*self.prefix, *path))
        return Problem(
            origin=self.origin, line=line, column=column, field=_dotted(path), message=message
        )


def decode_documents(data: bytes, origin: str, *, namespace: str | None = None) -> list[Document]:
    """
    Return the documents of a file's content, which must be UTF-8 (a byte order mark is allowed).

    Raises:
        DocumentError: See `read_documents`.
    """
    if len(data) > values.MAX_TEXT_BYTES:
        raise DocumentError([Problem(origin=origin, message=values.TOO_LARGE)])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        message = f"is not UTF-8 text ({err.reason}); save the file as UTF-8"
        raise DocumentError([Problem(origin=origin, line=line, message=message)]) from err
    return read_documents(text, origin, namespace=namespace)


def read_documents(text: str, origin: str, *, namespace: str | None = None) -> list[Document]:
    """
    Return the documents of *text* in their order; empty documents and comments are none.

    Args:
        text: YAML (several documents) or JSON; a `kind: List` stands for its items.
        origin: Name of the file, repeated in messages.
        namespace: Where namespaced resources land that name no namespace; None leaves it open.

    Raises:
        DocumentError: Anything is wrong; it lists every problem that could be found in one go, of
            each document at most 100.
    """
    trees, findings = values.parse_text(text)
    problems = [
        Problem(
            origin=origin, line=found.line, column=found.column,
            field=_dotted(found.path), message=found.message,
        )
        for found in findings
    ]  # fmt: skip
    documents: list[Document] = []
    for tree in trees:
        for manifest in _manifests(_Manifest(origin, tree, (), tree.value)):
            found_here = _resource(manifest, namespace)
            if isinstance(found_here, Resource):
                line = tree.place(manifest.prefix)[0]
                documents.append(Document(origin, line, found_here))
            else:
                problems.extend(found_here)
    problems.extend(duplicate_problems(documents))
    if problems:
        raise DocumentError(sorted(problems, key=lambda problem: (problem.line, problem.column)))
    return documents


def duplicate_problems(documents: Sequence[Document]) -> list[Problem]:
    """Return a problem for each document whose object another one describes before it."""
    first: dict[Key, Document] = {}
    problems: list[Problem] = []
    for document in documents:
        key = document.resource.key
        known = first.setdefault(key, document)
        if known is not document:
            message = f"{key} is described twice; the other place is {known.place}"
            problems.append(Problem(origin=document.origin, line=document.line, message=message))
    return problems


def _manifests(manifest: _Manifest) -> Iterator[_Manifest]:
    """Yield the manifest itself, or the items of a `kind: List`."""
    value = manifest.value
    is_list = isinstance(value, dict) and value.get("kind") == "List"
    if not is_list or not isinstance(value.get("items"), list):
        yield manifest
        return
    for index, item in enumerate(value["items"]):
        yield _Manifest(manifest.origin, manifest.tree, ("items", index), item)


def _resource(manifest: _Manifest, namespace: str | None) -> Resource | list[Problem]:
    value = manifest.value
    if not isinstance(value, dict):
        message = "a manifest is a mapping with apiVersion, kind, metadata and spec"
        return [manifest.problem((), f"{message}; this is {called(value)}")]
    kind = value.get("kind")
    model = catalog.KINDS.get(kind) if isinstance(kind, str) else None
    if problems := _wrong_type(manifest, value, kind):
        return problems
    assert model is not None
    if problem := _wrong_scope(manifest, value, model):
        return [problem]
    try:
        return model.parse(_in_namespace(value, namespace) if model.namespaced else value)
    except ValidationError as err:
        return _validation_problems(manifest, model, err)


def _wrong_type(manifest: _Manifest, value: dict[str, Any], kind: Any) -> list[Problem]:
    problems: list[Problem] = []
    version = value.get("apiVersion")
    if kind is None:
        problems.append(manifest.problem(("kind",), "is missing; a manifest names its kind"))
    elif kind not in catalog.DECLARABLE_KINDS:
        problems.append(manifest.problem(("kind",), _unknown_kind(kind)))
    if version is None:
        problems.append(manifest.problem(("apiVersion",), f"is missing; write {meta.API_VERSION}"))
    elif version != meta.API_VERSION and not problems:
        message = f"{shown(version)} is not known; write {meta.API_VERSION}"
        problems.append(manifest.problem(("apiVersion",), message))
    return problems


def _unknown_kind(kind: Any) -> str:
    if kind == "Event":
        return "events are recorded by the controller, a manifest cannot hold one"
    known = catalog.DECLARABLE_KINDS
    near = difflib.get_close_matches(str(kind)[:MAX_SHOWN_CHARS], known, n=1)
    rest = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(known)}"
    return f"{shown(kind)} is not a known kind; {rest}"


def _wrong_scope(
    manifest: _Manifest, value: dict[str, Any], model: type[Resource]
) -> Problem | None:
    metadata = value.get("metadata")
    if model.namespaced or not isinstance(metadata, dict) or not metadata.get("namespace"):
        return None
    message = f"a {value['kind']} belongs to no namespace; remove this line"
    return manifest.problem(("metadata", "namespace"), message)


def _in_namespace(value: dict[str, Any], namespace: str | None) -> dict[str, Any]:
    metadata = value.get("metadata")
    if namespace is None or not isinstance(metadata, dict) or metadata.get("namespace"):
        return value
    return {**value, "metadata": {**metadata, "namespace": namespace}}


def _validation_problems(
    manifest: _Manifest, model: type[Resource], err: ValidationError
) -> list[Problem]:
    found = mistakes_of(err, model)
    return [manifest.problem(mistake.path, mistake.message) for mistake in found]


def _dotted(path: FieldPath) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    dotted = "".join(parts).removeprefix(".")[:_MAX_FIELD_CHARS]
    # Keys are somebody else's text; a terminal must not obey them.
    return "".join(letter if letter.isprintable() else "?" for letter in dotted)
