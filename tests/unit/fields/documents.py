"""Documents and moments for the tests of field ownership."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sandboxer import fields
from sandboxer.fields import FieldSet
from sandboxer.kinds.meta import API_VERSION
from sandboxer.kinds.sandbox import Sandbox

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)
WEB = {"name": "web", "containerPort": 80}
DEBUG = {"name": "debug", "containerPort": 90}

Document = dict[str, Any]


def sandbox(spec: Any = None, *, status: Any = None, **metadata: Any) -> Document:
    """Return a document of Sandbox `a`; nothing is filled in."""
    document: Document = {
        "apiVersion": API_VERSION,
        "kind": "Sandbox",
        "metadata": {"name": "a", **metadata},
    }
    if spec is not None:
        document["spec"] = spec
    if status is not None:
        document["status"] = status
    return document


def stored(document: Document) -> Document:
    """Return a document as the store holds it: validated, with its defaults."""
    return Sandbox.parse(document).to_document()


def applied(
    live: Document | None,
    config: Document,
    manager: str = "me",
    *,
    force: bool = False,
    **more: Any,
) -> Document:
    """Return what is stored after an apply."""
    more.setdefault("now", NOW)
    return stored(fields.apply(live, config, manager=manager, force=force, **more).document)


def written(live: Document | None, new: Document, manager: str = "me", **more: Any) -> Document:
    """Return what is stored after any other write."""
    more.setdefault("now", NOW)
    new = stored(new)
    owners = fields.update(live, new, manager=manager, **more)
    metadata = {k: v for k, v in new["metadata"].items() if k != "managedFields"}
    return stored({**new, "metadata": {**metadata, "managedFields": owners}})


def owned(document: Document, manager: str = "me", operation: str = "") -> set[str]:
    """Return the paths that a manager owns."""
    return {
        path
        for entry in document["metadata"].get("managedFields", [])
        if entry["manager"] == manager and operation in ("", entry["operation"])
        for path in FieldSet.from_json(entry["fieldsV1"]).texts()
    }


def managers(document: Document) -> list[tuple[str, str]]:
    """Return who owns anything: name and operation, in their order."""
    entries = document["metadata"].get("managedFields", [])
    return [(entry["manager"], entry["operation"]) for entry in entries]
