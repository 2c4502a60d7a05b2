"""The Namespace: a name that groups objects; it need not be made before it is used."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sandboxer.kinds.meta import Column, Model, Resource


class NamespaceSpec(Model):
    """Desired state."""

    finalizers: Annotated[tuple[str, ...], Field(max_length=16)] = ()
    """Kept as clients write it; nothing waits for it."""


class NamespaceStatus(Model):
    """Observed state."""

    phase: Literal["Active", "Terminating"] = "Active"
    """Always `Active`: deleting a namespace forgets the name and leaves the objects in it."""


class Namespace(Resource):
    """A name that groups objects, in the shape of Kubernetes' core/v1."""

    plural: ClassVar[str] = "namespaces"
    short_names: ClassVar[tuple[str, ...]] = ("ns",)
    namespaced: ClassVar[bool] = False
    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="Status", json_path=".status.phase"),
        Column(name="Age", json_path=".metadata.creationTimestamp", type="date"),
    )

    api_version: Literal["v1"] = "v1"
    kind: Literal["Namespace"] = "Namespace"
    spec: NamespaceSpec = NamespaceSpec()
    status: NamespaceStatus = NamespaceStatus()
