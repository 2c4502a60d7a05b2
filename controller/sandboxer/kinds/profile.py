"""The Profile: a named recipe that a Sandbox refers to, and that says which extensions can cook it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from sandboxer.kinds.meta import API_VERSION, Column, Model, Name, Resource, Status, rule
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


class DeadMansSwitch(Model):
    """Lets the host itself take an expired sandbox away when no controller comes by any more."""

    lease_duration: Duration = Duration("10m")
    """
    Time without a controller after which the host acts; at least three probe intervals of the host.
    A controller renews the lease with every probe, and takes expired sandboxes away itself.
    """


class ProfileSpec(Model):
    """The recipe."""

    model_config = ConfigDict(
        json_schema_extra=rule(
            "self.candidates.all(c, self.candidates.exists_one(d, d.extension == c.extension))",
            "candidates must name each extension at most once",
        )
    )

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
    dead_mans_switch: DeadMansSwitch | None = None
    """Whether hosts take expired sandboxes away without a controller; absent means they do not."""
    resources: Resources = Resources()
    """Used for each limit the Sandbox does not name."""
    isolation: Isolation = Isolation()
    """The stronger of this and the Sandbox's own minimum holds."""
    ready_timeout: Duration | None = None
    """Used where the Sandbox does not name one."""

    @model_validator(mode="after")
    def _extensions_differ(self) -> ProfileSpec:
        # A sandbox keeps which extension was chosen, and its candidate is found again by that name.
        names = [candidate.extension for candidate in self.candidates]
        if len(names) != len(set(names)):
            msg = "candidates must name each extension at most once"
            raise ValueError(msg)
        return self


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
