"""The Profile: a named recipe that a Sandbox refers to, and that says which extensions can cook it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from sandboxer.kinds.meta import API_VERSION, Column, Model, Name, Resource, Status
from sandboxer.kinds.sandbox import Isolation, Lifetime, Placement, Resources, Selector
from sandboxer.units import Duration


class Candidate(Model):
    """One extension that can provide the profile; the first that fits is taken."""

    extension: Name
    """Name of the extension, for example `ext.compose-ssh`."""
    host_selector: Selector | None = None
    """Only Hosts with these labels, for this candidate."""
    inputs: dict[str, str | int | float | bool] = {}
    """Default inputs for this candidate, over the profile's own."""


class ProfileSpec(Model):
    """The recipe."""

    description: str = ""
    """What it is for, as a sentence."""
    candidates: Annotated[tuple[Candidate, ...], Field(min_length=1, max_length=16)]
    """Extensions to try, in order."""
    inputs: dict[str, str | int | float | bool] = {}
    """Default inputs; a Sandbox's own go over them."""
    inputs_schema: dict[str, Any] = {}
    """JSON Schema (draft 2020-12) the merged inputs must satisfy, besides the extension's own."""
    placement: Placement = Placement()
    """Used where the Sandbox leaves its placement free."""
    lifetime: Lifetime = Lifetime()
    """Used where the Sandbox names no end of its own."""
    resources: Resources = Resources()
    """Used for each limit the Sandbox does not name."""
    isolation: Isolation = Isolation()
    """The stronger of this and the Sandbox's own minimum holds."""
    ready_timeout: Duration | None = None
    """Used where the Sandbox does not name one."""


class ProfileStatus(Status):
    """Observed state. Conditions: Ready (valid, or why not)."""


class Profile(Resource):
    """A named recipe for sandboxes."""

    plural: ClassVar[str] = "profiles"
    short_names: ClassVar[tuple[str, ...]] = ("prof",)
    namespaced: ClassVar[bool] = False
    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="Extensions", json_path=".spec.candidates[*].extension"),
        Column(name="Ready", json_path='.status.conditions[?(@.type=="Ready")].status'),
        Column(name="Age", json_path=".metadata.creationTimestamp", type="date"),
        Column(name="Description", json_path=".spec.description", priority=1),
        Column(
            name="Message", json_path='.status.conditions[?(@.type=="Ready")].message', priority=1
        ),
    )

    api_version: Literal["sandboxer.dev/v1alpha1"] = API_VERSION
    kind: Literal["Profile"] = "Profile"
    spec: ProfileSpec
    status: ProfileStatus = ProfileStatus()
