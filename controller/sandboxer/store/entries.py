"""
An object as the store holds it: the encoded document and the few fields that select and order.

Documents stay bytes until somebody asks for them: 100,000 decoded models take 1.3 GB and make
every full garbage collection last seconds (`benchmarks/README.md`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json

from sandboxer.errors import TerminalError
from sandboxer.kinds.meta import Key, Resource

R = TypeVar("R", bound=Resource)

ChangeType = Literal["ADDED", "MODIFIED", "DELETED"]
Document = dict[str, Any]
"""A decoded JSON document with camelCase keys, as `Resource.to_document` returns it."""


class Entry(NamedTuple):
    """One object, undecoded."""

    key: Key
    uid: str
    revision: int
    """`metadata.resourceVersion` as a number."""
    generation: int
    labels: Mapping[str, str]
    deleting: bool
    """Whether deletion was asked for."""
    body: bytes
    """The JSON document in UTF-8."""


class Change(NamedTuple):
    """One committed change, in the order of commits."""

    type: ChangeType
    entry: Entry
    """The object after the change; for `DELETED` the last there was of it."""
    revision: int


def entry_of(key: Key, document: Document, body: bytes) -> Entry:
    """Return the entry of a document that was encoded as *body*."""
    metadata = document["metadata"]
    return Entry(
        key=key,
        uid=metadata["uid"],
        revision=int(metadata["resourceVersion"]),
        generation=metadata["generation"],
        labels=metadata["labels"],
        deleting="deletionTimestamp" in metadata,
        body=body,
    )


def change_of(type_: ChangeType, key: Key, body: bytes) -> Change:
    """Return the change that left *body* behind, as read back from the table of changes."""
    entry = entry_of(key, from_json(body), body)
    return Change(type_, entry, entry.revision)


def decode(model: type[R], key: Key, body: bytes) -> R:
    """
    Return the object of a stored document.

    Raises:
        TerminalError: This version of sandboxer cannot read it.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        field, message = first_problem(error)
        raise TerminalError(
            f"{key} is stored in a form this version cannot read: {field}: {message}.",
            reason="StoredUnreadable",
            remedy="Use the version of sandboxer that wrote it, or delete the object.",
        ) from error


def first_problem(error: ValidationError) -> tuple[str, str]:
    """Return dotted path and message of the first problem, without the offending value."""
    first = error.errors(include_url=False, include_input=False)[0]
    return ".".join(str(part) for part in first["loc"]), first["msg"]
