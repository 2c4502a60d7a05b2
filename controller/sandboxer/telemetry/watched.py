"""Everything telemetry remembers of one host; lives as long as the Host leads to the same machine."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from sandboxer.kinds.host import Host, HostFacts, HostLoad, HostSpec
from sandboxer.telemetry.follower import Follower
from sandboxer.telemetry.inventory import Inventory
from sandboxer.transport import HostSession
from sandboxer.transport.link import Link
from sandboxer.transport.rest import RestEngine

# Seconds between two readings of the facts when nothing suggests that they changed, and while an
# engine or a compose tool is missing that somebody may be installing just now.
FACTS_INTERVAL_S = 3600.0
INCOMPLETE_FACTS_INTERVAL_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """What a probe found."""

    facts: HostFacts
    load: HostLoad
    host_key: str
    """Public key the host showed; empty for the local machine."""
    round_trip_ms: float
    """Milliseconds the pulse took as the controller saw it."""
    resources: int = 0
    """Things carrying our label seen there."""
    problems: dict[str, str] = field(default_factory=dict)
    """By extension: why it could not observe, as a sentence."""


@dataclass(slots=True)
class Facts:
    """The facts with what they depend on."""

    facts: HostFacts
    link: Link
    spec: HostSpec
    read_at_s: float
    """Monotonic."""

    def due(self, link: Link, spec: HostSpec, *, boot_id: str, now_s: float) -> bool:
        """Tell whether the machine must be asked again what it is."""
        facts = self.facts
        complete = facts.engine and facts.engine_socket and facts.compose_command
        interval_s = FACTS_INTERVAL_S if complete else INCOMPLETE_FACTS_INTERVAL_S
        return (
            self.link is not link
            or facts.boot_id != boot_id
            or (self.spec.work_root, self.spec.compose_command)
            != (spec.work_root, spec.compose_command)
            or now_s - self.read_at_s >= interval_s
        )


@dataclass(slots=True)
class Probing:
    """A probe under way."""

    task: asyncio.Task[HostReport]
    spec: HostSpec
    extensions: frozenset[str]


@dataclass(slots=True)
class WatchedHost:
    """The state of one host."""

    identity: tuple[object, ...]
    host: Host
    """The newest document of it."""
    facts: Facts | None = None
    session: HostSession | None = None
    engine: RestEngine | None = None
    probing: Probing | None = None
    inventories: dict[str, Inventory] = field(default_factory=dict)
    followers: dict[str, Follower] = field(default_factory=dict)

    async def stop(self) -> None:
        """End what runs for this host."""
        for follower in self.followers.values():
            await follower.stop()
        if self.probing is not None:
            self.probing.task.cancel()
            await asyncio.gather(self.probing.task, return_exceptions=True)
        if self.engine is not None:
            await self.engine.close()


def identity(host: Host) -> tuple[object, ...]:
    """Return what says that a Host still means the same machine and the same place on it."""
    spec = host.spec
    return (
        host.metadata.uid,
        spec.transport,
        spec.address,
        spec.ssh_alias,
        spec.port,
        spec.user,
        spec.work_root,
    )
