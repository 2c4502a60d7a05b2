"""What the engine needs of telemetry: the newest observation, a fresh look, and a probe."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from sandboxer.extension import Observation
from sandboxer.kinds.host import Host, HostFacts, HostLoad
from sandboxer.session import Session


class View(Protocol):
    """What is known of one sandbox without asking."""

    @property
    def observation(self) -> Observation | None:
        """The newest observation; None when nothing is known."""
        ...

    @property
    def unknown_reason(self) -> str:
        """Why nothing is known, as a sentence."""
        ...


class HostReport(Protocol):
    """What a probe found."""

    @property
    def facts(self) -> HostFacts:
        """What the machine is."""
        ...

    @property
    def load(self) -> HostLoad:
        """What it is doing."""
        ...

    @property
    def round_trip_ms(self) -> float:
        """Milliseconds the probe took as the controller saw it."""
        ...

    @property
    def host_key(self) -> str:
        """Public key the host showed; empty for the local machine."""
        ...

    @property
    def resources(self) -> int:
        """Number of things carrying our label that were seen."""
        ...

    @property
    def problems(self) -> Mapping[str, str]:
        """By extension, why it could not observe, as a sentence."""
        ...


class Observer(Protocol):
    """`sandboxer.telemetry.Telemetry`, as far as the engine uses it."""

    on_change: Callable[[str, Collection[str], str], None] | None
    """Called with a host's name, the uids whose observation changed, and `probe` or `events`."""

    def view(self, extension: str, host_name: str, uid: str, /) -> View:
        """Return what is known, from memory."""
        ...

    def boot_id(self, host_name: str, /) -> str:
        """Return the boot a host is in, from memory; empty when it was not probed yet."""
        ...

    def listed(self, extension: str, host_name: str, /) -> Collection[Observation] | None:
        """Return all of this installation that a probe has seen, from memory; None is unknown."""
        ...

    async def survey(
        self, extension: str, host: Host, /, environment: str | None = None, uid: str = ""
    ) -> Collection[Observation]:
        """Ask an extension now for everything there or one uid, and remember nothing of it."""
        ...

    async def refresh(self, extension: str, host: Host, uid: str, /) -> Observation:
        """Look at one sandbox now; raises UnreachableError."""
        ...

    async def session(self, host: Host, /) -> Session:
        """Return the way to the machine; raises UnreachableError."""
        ...

    async def probe(self, host: Host, /, *, extensions: Collection[str]) -> HostReport:
        """Probe the machine and everything of these extensions on it; raises UnreachableError."""
        ...

    async def forget(self, host_name: str, /) -> None:
        """Drop everything about a host that is gone, its connection included."""
        ...
