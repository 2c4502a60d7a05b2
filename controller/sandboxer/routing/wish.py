"""
The wish: what one sandbox asks for, once its profile has been merged in.

It is what routing decides by, and what the engine turns into the `Instance` of the extension that
was chosen. It names no host and no extension that was chosen; that is a `Choice`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sandboxer.extension import Extension, Inputs
from sandboxer.kinds.sandbox import IsolationLevel, Placement, Port, Resources, Selector


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One extension the profile offers, with the inputs it would get."""

    name: str
    """Name of the extension."""
    extension: Extension | None = None
    """None when no extension of that name is loaded."""
    inputs: Inputs | None = None
    """Merged and validated; None when the extension cannot take them."""
    objection: str = ""
    """Why `extension` or `inputs` is missing, as a sentence."""
    host_selector: Selector | None = None
    """Only hosts with these labels."""
    host: str = ""
    """Name of the one Host the inputs name; empty for any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a sandbox asks for."""

    candidates: tuple[Candidate, ...]
    """In the profile's order."""
    placement: Placement = field(default_factory=Placement)
    """Where it may run; what the sandbox leaves free is the profile's."""
    minimum_isolation: IsolationLevel = "none"
    """The stronger of the sandbox's and the profile's."""
    resources: Resources = field(default_factory=Resources)
    """Limits; what the sandbox leaves free is the profile's."""
    ports: tuple[Port, ...] = ()
    """Ports to lease on the host."""
    suspended: bool = False
    """It is to be suspended now, so the extension must be able to."""
    expires_at: datetime | None = None
    """End of its lifetime, in whole seconds."""
    switch_lease_s: float | None = None
    """Seconds without a controller after which its host takes it away, once it has expired; None is never."""
    ready_timeout_s: float = 300.0
    """Seconds from provisioning until it is called stalled."""

    def candidate(self, name: str) -> Candidate | None:
        """Return the candidate whose extension has that name."""
        return next((c for c in self.candidates if c.name == name), None)
