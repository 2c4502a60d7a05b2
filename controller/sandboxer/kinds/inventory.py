"""What a host is and what of ours is on it, as a look at it found: the answer of `hosts/NAME/inventory`."""

from __future__ import annotations

from typing import Literal

from sandboxer.kinds.host import HostFacts, HostLoad
from sandboxer.kinds.meta import API_VERSION, Model
from sandboxer.kinds.sandbox import ResourceSeen


class FoundSandbox(Model):
    """Everything on a host that carries the label of one sandbox."""

    uid: str
    namespace: str
    """As its label says; empty when that cannot be read back."""
    name: str
    state: str
    """The extension's word for it."""
    resources: tuple[ResourceSeen, ...] = ()
    owned: bool
    """Whether the store has a sandbox with this uid; if not, it is an orphan."""
    extension: str = ""
    """As its label says."""
    stale: Literal["", "NoSandbox", "PlacedElsewhere"] = ""
    """Why it should not be there: an orphan, or a copy of a sandbox that is elsewhere."""
    evidence: str = ""
    """What that follows from, as a sentence."""
    objection: str = ""
    """Why it is not removed nevertheless, as a sentence."""
    remembered: bool = True
    """Whether the store knows why it is there; if not, the controller leaves it alone."""


class Reaping(Model):
    """What became of one thing that was to be removed: the answer of `hosts/NAME/reap`."""

    api_version: Literal["sandboxer.dev/v1alpha1"] = API_VERSION
    kind: Literal["Reaping"] = "Reaping"
    uid: str
    removed: bool
    """Whether it was there, was stale, and is gone."""


class HostInventory(Model):
    """One look at one host."""

    api_version: Literal["sandboxer.dev/v1alpha1"] = API_VERSION
    kind: Literal["HostInventory"] = "HostInventory"
    round_trip_ms: float
    """Milliseconds the host took to answer."""
    facts: HostFacts
    load: HostLoad
    sandboxes: tuple[FoundSandbox, ...] = ()
    problems: dict[str, str] = {}
    """By extension, why it could not look, as a sentence."""
