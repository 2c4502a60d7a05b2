"""The Extension kind: the registration of a backend, and whether it could be loaded."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from sandboxer.kinds.meta import API_VERSION, Column, Model, Name, Resource, Status


class ExtensionSpec(Model):
    """How a backend is found."""

    entry_point: Name | None = None
    """Name in the entry point group `sandboxer.extensions`; absent means the object's own name."""


class ExtensionStatus(Status):
    """Observed state. Conditions: Ready (loaded, or why not)."""

    version: str = ""
    """Version of the distribution that provides it."""
    distribution: str = ""
    """Name of that distribution."""
    capabilities: tuple[str, ...] = ()
    """Optional abilities: `exec`, `logs`, `suspend`, …"""
    inputs_schema: dict[str, Any] = {}
    """JSON Schema of the inputs it takes."""


class Extension(Resource):
    """The registration of a backend."""

    plural: ClassVar[str] = "extensions"
    short_names: ClassVar[tuple[str, ...]] = ("ext",)
    namespaced: ClassVar[bool] = False
    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="Ready", json_path='.status.conditions[?(@.type=="Ready")].status'),
        Column(name="Version", json_path=".status.version"),
        Column(name="Capabilities", json_path=".status.capabilities"),
        Column(name="Age", json_path=".metadata.creationTimestamp", type="date"),
        Column(
            name="Message", json_path='.status.conditions[?(@.type=="Ready")].message', priority=1
        ),
    )

    api_version: Literal["sandboxer.dev/v1alpha1"] = API_VERSION
    kind: Literal["Extension"] = "Extension"
    spec: ExtensionSpec = ExtensionSpec()
    status: ExtensionStatus = ExtensionStatus()
