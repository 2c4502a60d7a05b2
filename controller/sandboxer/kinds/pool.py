"""
The SandboxPool: as many sandboxes of one template as `spec.replicas` says, kept ready.

It is to Sandboxes what a ReplicaSet is to Pods. Which sandboxes are its own is said by their
ownerReferences and by nothing else; the labels it gives them are for people and for `/scale`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sandboxer.kinds.meta import (
    API_VERSION,
    GROUP,
    Column,
    LabelKey,
    LabelValue,
    Model,
    Resource,
    ScalePaths,
    Status,
)
from sandboxer.kinds.sandbox import SandboxSpec

LABEL_POOL = f"{GROUP}/pool"
"""On each sandbox of a pool: the pool's name."""

LABEL_TEMPLATE = f"{GROUP}/template"
"""On each sandbox of a pool: hash of the template it was made from."""


class TemplateMeta(Model):
    """What a sandbox of the pool has in its metadata, besides what the pool itself puts there."""

    labels: dict[LabelKey, LabelValue] = {}
    """For selecting and grouping."""
    annotations: dict[LabelKey, str] = {}
    """Notes for people and tools."""


class SandboxTemplate(Model):
    """What each sandbox of the pool is made from."""

    metadata: TemplateMeta = TemplateMeta()
    """Labels and annotations of each."""
    spec: SandboxSpec = SandboxSpec()
    """As the `spec` of a Sandbox."""


class SandboxPoolSpec(Model):
    """Desired state."""

    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """How many sandboxes there are to be."""
    template: SandboxTemplate = SandboxTemplate()
    """What they are made from; left out, they are canaries."""
    update_policy: Literal["Replace", "OnDelete"] = "Replace"
    """`Replace` exchanges sandboxes of another template, at most one unavailable at a time; `OnDelete` leaves them."""


class SandboxPoolStatus(Status):
    """Observed state. Conditions: Ready, Reconciling, Stalled."""

    replicas: int = 0
    """Sandboxes of the pool that are not being deleted."""
    ready_replicas: int = 0
    """Those of them that are Ready."""
    updated_replicas: int = 0
    """Those of them that were made from the present template."""
    failed_replicas: int = 0
    """Those of them that are Stalled: trying again cannot help."""
    selector: str = ""
    """Label selector that finds them, as text."""


class SandboxPool(Resource):
    """A number of sandboxes kept ready."""

    plural: ClassVar[str] = "sandboxpools"
    short_names: ClassVar[tuple[str, ...]] = ("sbxpool",)
    scale: ClassVar[ScalePaths | None] = ScalePaths()
    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="Desired", json_path=".spec.replicas", type="integer"),
        Column(name="Current", json_path=".status.replicas", type="integer"),
        Column(name="Ready", json_path=".status.readyReplicas", type="integer"),
        Column(name="Age", json_path=".metadata.creationTimestamp", type="date"),
        Column(name="Updated", json_path=".status.updatedReplicas", type="integer", priority=1),
        Column(name="Failed", json_path=".status.failedReplicas", type="integer", priority=1),
        Column(name="Profile", json_path=".spec.template.spec.profile", priority=1),
        Column(
            name="Message", json_path='.status.conditions[?(@.type=="Ready")].message', priority=1
        ),
    )

    api_version: Literal["sandboxer.dev/v1alpha1"] = API_VERSION
    kind: Literal["SandboxPool"] = "SandboxPool"
    spec: SandboxPoolSpec = SandboxPoolSpec()
    status: SandboxPoolStatus = SandboxPoolStatus()
