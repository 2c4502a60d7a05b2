"""
One pass over one Host: probe it, say what was found, come back after its interval.

One probe feeds all sandboxes of a host. Its status is rewritten only when something that matters
changed, for a write per host and probe would be most of what an idle controller does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sandboxer.clock import Clock
from sandboxer.engine.breaker import ACTIONS_FAIL, Breakers
from sandboxer.engine.conditions import Fact, stated
from sandboxer.engine.disk import DISK_PRESSURE, DiskRoom, pressure
from sandboxer.engine.observer import HostReport, Observer
from sandboxer.engine.orphans import Orphans
from sandboxer.engine.outcome import Done
from sandboxer.engine.placements import Placements
from sandboxer.engine.sight import CANNOT_OBSERVE
from sandboxer.engine.story import host_news
from sandboxer.engine.switch import Switches
from sandboxer.errors import (
    InvalidSpecError,
    SandboxerError,
    TerminalError,
    TransientError,
    UnreachableError,
)
from sandboxer.kinds.host import Host, HostStatus
from sandboxer.kinds.meta import FINALIZER, Key
from sandboxer.store import EventRecorder, Store

# Time after which load and time of the last probe are written although nothing else changed.
STATUS_INTERVAL = timedelta(minutes=5)

# Share of the probe interval by which probes are spread, so that hosts applied together do not
# stay in step.
JITTER = 0.1

# Names of sandboxes in a message.
MAX_NAMES = 5


DRAINED = "Drained"
"""Condition of a Host that is drained or given up: whether no sandbox is left on it."""


@dataclass(kw_only=True)
class HostPass:
    """Probes hosts."""

    store: Store
    observer: Observer
    placements: Placements
    breakers: Breakers
    switches: Switches
    silent: set[str]
    """Names of hosts that did not answer, kept up to date here."""
    events: EventRecorder
    wake: Callable[[Iterable[Key]], None]
    """Takes the sandboxes of a host when it is first seen, or seen again."""
    clock: Clock
    rng: random.Random
    orphans: Orphans | None = None
    """Reaped after probes; None leaves them to the controller."""
    room: DiskRoom | None = None
    """Made after probes; likewise."""
    _last: dict[str, tuple[bool, frozenset[str], frozenset[str]]] = field(default_factory=dict)
    """By host: whether it answered this process, for which extensions, and which of them fail."""
    _answered_at: dict[str, datetime] = field(default_factory=dict)
    """By host: when it last answered this process; the status is not written that often."""
    _generations: dict[str, int] = field(default_factory=dict)
    """By host: generation of its document when it last answered."""
    _not_renewed: dict[str, str] = field(default_factory=dict)
    """By host: why the lease of its switches could not be renewed, as it was said."""

    async def reconcile(self, key: Key) -> Done:
        """Probe a host, or let go of one that is being deleted and carries nothing."""
        host = self.store.get(Host, key.name)
        if host is None:
            await self._forget(key.name)
            return Done()
        placed = self.placements.on_host(key.name)
        if host.metadata.deletion_timestamp is not None and not placed:
            await self._set_finalizers(host, held=False)
            return Done()
        if host.metadata.deletion_timestamp is None and FINALIZER not in host.metadata.finalizers:
            host = await self._set_finalizers(host, held=True)
        extensions = frozenset(self.placements.extensions_on(key.name))
        try:
            report = await self.observer.probe(host, extensions=extensions)
        except (TransientError, TerminalError, InvalidSpecError) as error:
            answered = False
            self.silent.add(key.name)
            self._generations.pop(key.name, None)
            self._lose_orphans(key.name)
            status = self._unreachable(host, error)
        else:
            answered = True
            self.silent.discard(key.name)
            self._note_generation(host)
            status = self._reachable(host, report, await self._orphans(host, extensions, report))
        await self._write(host, status)
        if answered:
            self.wake(await self._renewed(host))
        known = (answered, extensions, frozenset(self.breakers.objections(key.name)))
        if self._last.get(key.name) != known:
            # NOTE: after the write, so that a sandbox's pass reads the host as it is now.
            self._last[key.name] = known
            self.wake(placed)
        if answered and self.orphans is not None:
            await self.orphans.clean(host, in_use=extensions)
        if answered and self.room is not None:
            await self.room.make(host.model_copy(update={"status": status}), report.load)
        interval_s = host.spec.probe_interval.seconds
        return Done(after_s=interval_s * self.rng.uniform(1 - JITTER, 1 + JITTER))

    async def _forget(self, name: str) -> None:
        """Drop everything about a host that is gone."""
        for known in (self._last, self._answered_at, self._generations, self._not_renewed):
            known.pop(name, None)
        self.silent.discard(name)
        self.switches.forget(name)
        self.breakers.forget(name)
        if self.room is not None:
            self.room.forget(name)
        self._lose_orphans(name)
        await self.observer.forget(name)

    async def _renewed(self, host: Host) -> Collection[Key]:
        """Renew the lease of its dead-man's switches; it is tried again with the next probe."""
        name = host.metadata.name
        try:
            wanted = await self.switches.renew(host)
        except SandboxerError as error:
            if self._not_renewed.get(name) != error.reason:
                self._not_renewed[name] = error.reason
                await self.events.record(host, error.reason, str(error), type="Warning")
            return ()
        self._not_renewed.pop(name, None)
        return wanted

    async def failed(self, key: Key, error: TransientError) -> None:
        """Record an error nobody expected as a host that does not answer."""
        host = self.store.get(Host, key.name)
        if host is not None:
            await self._write(host, self._unreachable(host, error))

    async def _orphans(
        self, host: Host, in_use: frozenset[str], report: HostReport
    ) -> Mapping[str, Fact]:
        if self.orphans is None:
            return {}
        return await self.orphans.note(host, in_use=in_use, problems=report.problems)

    def _note_generation(self, host: Host) -> None:
        """Let one sandbox try at once where others fail, if the host is back or its document new."""
        name, generation = host.metadata.name, host.metadata.generation
        if self._generations.get(name) != generation:
            self._generations[name] = generation
            self.breakers.try_now(name)

    def _lose_orphans(self, host_name: str) -> None:
        if self.orphans is not None:
            self.orphans.forget(host_name)

    def _reachable(self, host: Host, report: HostReport, orphans: Mapping[str, Fact]) -> HostStatus:
        now = self._answered_at[host.metadata.name] = self.clock.now()
        status = host.status.model_copy(
            update={
                "facts": report.facts,
                "host_key": report.host_key or host.status.host_key,
                "sandboxes": len(self.placements.on_host(host.metadata.name)),
            }
        )
        facts = {
            "Reachable": Fact("True", "Answers", "The last probe succeeded."),
            "Ready": self._readiness(host, report),
            DISK_PRESSURE: pressure(host, report.load),
            **self._drained(host),
            **orphans,
        }
        status = stated(status, facts, generation=host.metadata.generation, now=now)
        last = host.status.last_probe_time
        if status == host.status and last is not None and abs(now - last) < STATUS_INTERVAL:
            return status
        return status.model_copy(
            update={
                "load": report.load,
                "resources": report.resources,
                "last_probe_time": now.replace(microsecond=0),
                "round_trip_ms": round(report.round_trip_ms, 1),
            }
        )

    def _unreachable(
        self, host: Host, error: TransientError | TerminalError | InvalidSpecError
    ) -> HostStatus:
        """Say that it does not answer; what was last known of it stays."""
        heard_at = self._answered_at.get(host.metadata.name) or host.status.last_probe_time
        last = f" It last answered at {heard_at:%Y-%m-%dT%H:%M:%SZ}." if heard_at else ""
        cannot_be_used = not isinstance(error, UnreachableError | TerminalError)
        answer = "Its answer cannot be used. " if cannot_be_used else ""
        facts = {
            "Reachable": Fact("False", error.reason, f"{answer}{error}{last}"),
            "Ready": Fact("False", error.reason, f"{error}{last}"),
            **self._drained(host),
        }
        here = len(self.placements.on_host(host.metadata.name))
        status = host.status.model_copy(
            update={
                "sandboxes": here,
                "last_probe_time": heard_at.replace(microsecond=0) if heard_at else None,
            }
        )
        return stated(status, facts, generation=host.metadata.generation, now=self.clock.now())

    def _drained(self, host: Host) -> Mapping[str, Fact]:
        """Say how far a drain has come; nothing of a host that was never drained."""
        if host.spec.drain == "Keep":
            kept = Fact("False", "NotDrained", "It keeps what it has.")
            return {} if host.status.condition(DRAINED) is None else {DRAINED: kept}
        placed = sorted(map(str, self.placements.on_host(host.metadata.name)))
        if not placed:
            return {DRAINED: Fact("True", "Empty", "No sandbox is left here.")}
        message = f"Still here: {len(placed)} sandboxes ({_listed(placed)})."
        return {DRAINED: Fact("False", "Draining", message)}

    def _readiness(self, host: Host, report: HostReport) -> Fact:
        if report.problems:
            evidence = " ".join(f"{name}: {why}" for name, why in sorted(report.problems.items()))
            return Fact("False", CANNOT_OBSERVE, evidence)
        placed = sorted(map(str, self.placements.on_host(host.metadata.name)))
        if host.metadata.deletion_timestamp is not None:
            return Fact(
                "False",
                "InUse",
                f"It is to be deleted and carries {len(placed)} sandboxes ({_listed(placed)}). "
                "Delete or drain them first.",
            )
        failing = self.breakers.objections(host.metadata.name)
        if failing:
            evidence = " ".join(f"{name}: {why}" for name, why in sorted(failing.items()))
            return Fact("False", ACTIONS_FAIL, evidence)
        if not host.spec.takes_new:
            return Fact("False", "Unschedulable", "Nothing new is placed here.")
        return Fact("True", "Ready", "Sandboxes can be placed here.")

    async def _set_finalizers(self, host: Host, *, held: bool) -> Host:
        others = tuple(f for f in host.metadata.finalizers if f != FINALIZER)
        finalizers = (*others, FINALIZER) if held else others
        metadata = host.metadata.model_copy(update={"finalizers": finalizers})
        return await self.store.update(host.model_copy(update={"metadata": metadata}))

    async def _write(self, host: Host, status: HostStatus) -> None:
        if status == host.status:
            return
        stored = await self.store.update_status(host.model_copy(update={"status": status}))
        for item in host_news(host, status):
            await self.events.record(stored, item.reason, item.message, type=item.type)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:MAX_NAMES]) + (", …" if len(names) > MAX_NAMES else "")
