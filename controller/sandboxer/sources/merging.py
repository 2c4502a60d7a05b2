"""
A manifest and the stored object become one document, by field ownership (`sandboxer.fields`).

Only what the author wrote is applied and owned: defaults that a model fills in are nobody's, so
that somebody else may set them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from sandboxer import fields
from sandboxer.errors import InvalidSpecError
from sandboxer.kinds.meta import GROUP, LABEL_SOURCE, Key, Resource
from sandboxer.kinds.mistakes import mistakes_of
from sandboxer.store import Entry

Document = dict[str, Any]

# Annotation in which versions before 0.2 noted what an apply had set; dropped where it is met.
_FORMER_NOTE = f"{GROUP}/last-applied"


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who applies."""

    manager: str
    """Name under which the fields are owned."""
    source: str
    """Id of the source, empty for a person's own apply."""
    force: bool
    """Take fields that others own."""
    now: datetime
    """Time of the apply."""


def document_of(entry: Entry) -> Document:
    """Return the stored document of an entry."""
    document: Document = from_json(entry.body)
    return document


def merge(live: Document | None, manifest: Resource, key: Key, author: Author) -> Resource | None:
    """
    Return the stored object with what the manifest says; None when nothing changes.

    Raises:
        InvalidSpecError: The result is not valid, or others own what would change.
    """
    known = live if live is None else _with_owner(_without_former_note(live), author)
    try:
        document, is_changed = fields.apply(
            known, _config(manifest, key, author.source), manager=author.manager,
            force=author.force, now=author.now,
        )  # fmt: skip
    except fields.FieldConflictError as error:
        raise InvalidSpecError(
            f"{key} was not applied: {error.message}.", reason=error.reason, remedy=error.remedy
        ) from error
    if not is_changed and known is live:
        return None
    return _parsed(type(manifest), key, document)


def looks_same(live: Document, stored: Resource) -> bool:
    """Tell whether nothing but owners and status differs between two versions of an object."""
    before, after = live["metadata"], stored.metadata
    return (
        bool(before["generation"] == after.generation)
        and bool(before.get("labels", {}) == after.labels)
        and bool(before.get("annotations", {}) == after.annotations)
    )


def _config(manifest: Resource, key: Key, source: str) -> Document:
    """Return what the manifest's author wrote, of what an apply may set."""
    written = manifest.model_dump(
        mode="json", by_alias=True, exclude_unset=True, exclude={"metadata", "status"}
    )
    metadata: Document = {"name": key.name}
    if key.namespace:
        metadata["namespace"] = key.namespace
    # A manifest that was printed from the store carries our marks; they are not its author's.
    labels = _without(manifest.metadata.labels, LABEL_SOURCE)
    if source:
        labels[LABEL_SOURCE] = source
    if labels:
        metadata["labels"] = labels
    if annotations := _without(manifest.metadata.annotations, _FORMER_NOTE):
        metadata["annotations"] = annotations
    return {
        "apiVersion": manifest.api_version, "kind": manifest.kind, "metadata": metadata, **written
    }  # fmt: skip


def _with_owner(live: Document, author: Author) -> Document:
    """
    Return *live* as if *author* had applied its spec, when nobody noted who owns what.

    It was made by the controller itself, or by a version that knew no owners; then an apply
    replaced the whole spec, and so does this one.
    """
    if live["metadata"].get("managedFields"):
        return live
    config: Document = {name: live[name] for name in ("apiVersion", "kind", "spec") if name in live}
    config["metadata"] = {"name": live["metadata"]["name"]}
    applied = fields.apply(None, config, manager=author.manager, force=True, now=author.now)
    owners = applied.document["metadata"].get("managedFields", [])
    return {**live, "metadata": {**live["metadata"], "managedFields": owners}}


def _without_former_note(live: Document) -> Document:
    metadata = live["metadata"]
    if _FORMER_NOTE not in metadata.get("annotations", {}):
        return live
    annotations = _without(metadata["annotations"], _FORMER_NOTE)
    return {**live, "metadata": {**metadata, "annotations": annotations}}


def _without(mapping: dict[str, str], name: str) -> dict[str, str]:
    return {known: value for known, value in mapping.items() if known != name}


def _parsed(model: type[Resource], key: Key, document: Document) -> Resource:
    try:
        # As `Resource.parse`, with the faster of two writers: this is most of an apply's work.
        return model.model_validate_json(to_json(document), by_alias=True, by_name=False)
    except ValidationError as error:
        mistake = mistakes_of(error, model)[0]
        field = ".".join(map(str, mistake.path))
        raise InvalidSpecError(
            f"{key} is not valid together with what others set: {field}: {mistake.message}.",
            field=field,
        ) from error
