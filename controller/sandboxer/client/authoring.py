"""What of an object is its author's: the part that is sent when it is created or applied."""

from __future__ import annotations

from typing import Any

from sandboxer.kinds.meta import Resource

# What an author decides of an object's metadata; a manifest that was printed from a server carries
# the rest too, and means nothing by it.
_AUTHORED = ("name", "generateName", "namespace", "labels", "annotations", "ownerReferences")


def written(resource: Resource) -> dict[str, Any]:
    """Return the document of a resource as its author wrote it: fields never set are left out."""
    document: dict[str, Any] = resource.model_dump(mode="json", by_alias=True, exclude_unset=True)
    document.pop("status", None)
    metadata = {
        name: document["metadata"][name] for name in _AUTHORED if name in document["metadata"]
    }
    head = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
    return {**document, **head}
