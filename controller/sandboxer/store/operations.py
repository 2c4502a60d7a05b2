"""The four writes, as values, so that many can go into one transaction (`Store.write`)."""

from __future__ import annotations

from dataclasses import dataclass

from sandboxer.kinds.meta import Key, Resource

DEFAULT_NAMESPACE = "default"
"""Where a namespaced object lives when its document names none."""


@dataclass(frozen=True, slots=True)
class Create:
    """Store a new object; its `status` starts at the kind's default whatever *obj* holds."""

    obj: Resource


@dataclass(frozen=True, slots=True)
class Update:
    """
    Replace everything but `status` and the store's own metadata; compare-and-set.

    Of metadata that is labels, annotations, finalizers, ownerReferences and managedFields.
    """

    obj: Resource


@dataclass(frozen=True, slots=True)
class UpdateStatus:
    """Replace `status` and nothing else; compare-and-set."""

    obj: Resource


@dataclass(frozen=True, slots=True)
class Delete:
    """Ask for deletion; with finalizers left the object stays until they are gone."""

    model: type[Resource]
    name: str
    namespace: str = ""
    uid: str = ""
    """Only this object, not a namesake made since; empty means whichever is there."""
    resource_version: str = ""
    """Only if unchanged since; empty means at any version."""


Operation = Create | Update | UpdateStatus | Delete


def key_of(model: type[Resource], name: str, namespace: str = "") -> Key:
    """Return the key of an object; a cluster-scoped kind has no namespace, whatever is given."""
    kind = str(model.model_fields["kind"].default)
    return Key(kind, (namespace or DEFAULT_NAMESPACE) if model.namespaced else "", name)
