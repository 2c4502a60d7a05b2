"""What an apply would change, as the unified diff of two YAML documents."""

from __future__ import annotations

import difflib

from sandboxer.cli.printing import to_yaml
from sandboxer.kinds.meta import Resource

# What an author decides of the metadata, in the order it is shown.
_SHOWN = ("name", "namespace", "labels", "annotations", "ownerReferences")


def unified(live: Resource | None, merged: Resource) -> str:
    """Return the diff from what is stored to what would be; empty when they are equal."""
    before, after = (_visible(live) if live is not None else ""), _visible(merged)
    if before == after:
        return ""
    key = merged.key
    name = f"{key.kind.lower()}/{key.namespace}/{key.name}".replace("//", "/")
    return "".join(
        difflib.unified_diff(
            before.splitlines(keepends=True),
            after.splitlines(keepends=True),
            f"stored/{name}" if before else "/dev/null",
            f"manifest/{name}",
        )
    )


def _visible(resource: Resource) -> str:
    """Return the part of an object that authors write, as YAML."""
    document = resource.to_document()
    metadata = {
        name: document["metadata"][name] for name in _SHOWN if document["metadata"].get(name)
    }
    head = {"apiVersion": document["apiVersion"], "kind": document["kind"], "metadata": metadata}
    return to_yaml({**head, "spec": document.get("spec", {})})
