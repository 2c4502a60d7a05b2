"""
The objects every installation has: the Host `local`, the shipped profiles, the loaded extensions.

They are ordinary objects, written at the start of whoever reconciles. An object that still is what
an earlier version of ours wrote (the digest in its annotation says so) is brought up to date. One
that was changed since, or never was ours, belongs to a user and is left alone. Deleted ones come
back at the next start.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from pydantic import JsonValue

from sandboxer.errors import ConflictError, SandboxerError
from sandboxer.kinds.host import LOCAL_HOST, Host, HostSpec
from sandboxer.kinds.meta import GROUP, ManagedFieldsEntry, ObjectMeta, Resource
from sandboxer.kinds.registration import Extension
from sandboxer.registry import Registry
from sandboxer.sources.builtin import builtin_profiles
from sandboxer.store import Create, Store, Update

SOURCE_ANNOTATION = f"{GROUP}/source"
DIGEST_ANNOTATION = f"{GROUP}/builtin-digest"
"""Digest of the spec as we wrote it; a spec that does not fit it was changed by a user."""
BUILTIN = "builtin"

MANAGER = "sandboxer-builtin"
"""Owner of our annotations."""


def builtin_resources(registry: Registry) -> list[Resource]:
    """Return what should exist: the local Host, each extension known by name, each profile."""
    names = sorted({*registry.extensions, *registry.problems})
    bare: list[Resource] = [
        Host(metadata=ObjectMeta(name=LOCAL_HOST), spec=HostSpec(transport="local")),
        *(Extension(metadata=ObjectMeta(name=name)) for name in names),
        *builtin_profiles(),
    ]
    return [marked(resource) for resource in bare]


def marked(resource: Resource) -> Resource:
    """Return a resource with the annotations that say it is ours and unchanged."""
    ours = {SOURCE_ANNOTATION: BUILTIN, DIGEST_ANNOTATION: _digest(resource)}
    metadata = resource.metadata.model_copy(
        update={
            "annotations": {**resource.metadata.annotations, **ours},
            "managed_fields": (_owned(resource, ours),),
        }
    )
    return resource.model_copy(update={"metadata": metadata})


def _owned(resource: Resource, annotations: Iterable[str]) -> ManagedFieldsEntry:
    """
    Say that we own our annotations and nothing else, so that whoever applies a spec of their own
    meets no conflict: what ships is a default. An object without owners would belong to the
    manager `before-first-apply` as a whole.
    """
    fields: dict[str, JsonValue] = {f"f:{name}": {} for name in annotations}
    return ManagedFieldsEntry(
        manager=MANAGER,
        operation="Update",
        api_version=resource.api_version,
        fields_v1={"f:metadata": {"f:annotations": fields}},
    )


def _digest(resource: Resource) -> str:
    spec = resource.to_document().get("spec", {})
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]


async def register_builtins(store: Store, wanted: Sequence[Resource]) -> None:
    """
    Create or update our objects, in one transaction.

    Args:
        store: Where they belong.
        wanted: From `builtin_resources`.

    Raises:
        SandboxerError: The store refused one for another reason than that somebody was quicker.
    """
    operations = list(_operations(store, wanted))
    if not operations:
        return
    for result in await store.write(operations):
        # Two commands that start together write the same; the slower one finds it done.
        if isinstance(result, SandboxerError) and not isinstance(result, ConflictError):
            raise result


def _operations(store: Store, wanted: Sequence[Resource]) -> Iterable[Create | Update]:
    for resource in wanted:
        found = store.get(type(resource), resource.metadata.name)
        if found is None:
            yield Create(resource)
        elif _is_unchanged(found) and _is_outdated(found, resource):
            owners = found.metadata.managed_fields or resource.metadata.managed_fields
            annotations = {**found.metadata.annotations, **resource.metadata.annotations}
            metadata = found.metadata.model_copy(
                update={"annotations": annotations, "managed_fields": owners}
            )
            spec = getattr(resource, "spec", None)
            yield Update(found.model_copy(update={"metadata": metadata, "spec": spec}))


def _is_outdated(found: Resource, resource: Resource) -> bool:
    return _digest(found) != _digest(resource) or not found.metadata.managed_fields


def _is_unchanged(found: Resource) -> bool:
    """Tell whether an object is ours and still as we wrote it."""
    annotations = found.metadata.annotations
    ours = annotations.get(SOURCE_ANNOTATION) == BUILTIN
    return ours and annotations.get(DIGEST_ANNOTATION) == _digest(found)
