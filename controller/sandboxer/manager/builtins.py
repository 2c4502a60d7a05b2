"""
The objects every installation has: the Host `local`, the shipped profiles, the loaded extensions.

They are ordinary objects, written at the start of whoever reconciles. What carries our annotation
is kept equal to what this version ships; an object of the same name without it belongs to a user
and is left alone. Deleted ones come back at the next start.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sandboxer.errors import ConflictError, SandboxerError
from sandboxer.kinds.host import LOCAL_HOST, Host, HostSpec
from sandboxer.kinds.meta import GROUP, ObjectMeta, Resource
from sandboxer.kinds.registration import Extension
from sandboxer.registry import Registry
from sandboxer.sources.builtin import builtin_profiles
from sandboxer.store import Create, Store, Update

SOURCE_ANNOTATION = f"{GROUP}/source"
BUILTIN = "builtin"


def _metadata(name: str) -> ObjectMeta:
    return ObjectMeta(name=name, annotations={SOURCE_ANNOTATION: BUILTIN})


def builtin_resources(registry: Registry) -> list[Resource]:
    """Return what should exist: the local Host, each extension known by name, each profile."""
    names = sorted({*registry.extensions, *registry.problems})
    return [
        Host(metadata=_metadata(LOCAL_HOST), spec=HostSpec(transport="local")),
        *(Extension(metadata=_metadata(name)) for name in names),
        *(_marked(profile) for profile in builtin_profiles()),
    ]


def _marked(resource: Resource) -> Resource:
    annotations = {**resource.metadata.annotations, SOURCE_ANNOTATION: BUILTIN}
    metadata = resource.metadata.model_copy(update={"annotations": annotations})
    return resource.model_copy(update={"metadata": metadata})


async def register_builtins(store: Store, registry: Registry) -> None:
    """
    Create or update our objects, in one transaction.

    Raises:
        SandboxerError: The store refused one for another reason than that somebody was quicker.
    """
    operations = list(_operations(store, builtin_resources(registry)))
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
        elif found.metadata.annotations.get(SOURCE_ANNOTATION) == BUILTIN and _differs(
            found, resource
        ):
            metadata = found.metadata.model_copy(update={"labels": resource.metadata.labels})
            spec = getattr(resource, "spec", None)
            yield Update(found.model_copy(update={"metadata": metadata, "spec": spec}))


def _differs(found: Resource, wanted: Resource) -> bool:
    same_labels = found.metadata.labels == wanted.metadata.labels
    return not same_labels or getattr(found, "spec", None) != getattr(wanted, "spec", None)
