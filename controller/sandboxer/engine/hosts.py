"""
One pass over one Host: probe it, say what was found, come back after its interval.

One probe feeds all sandboxes of a host. Its status is rewritten only when something that matters
changed, for a write per host and probe would be most of what an idle controller does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from sandboxer.clock import Clock
from sandboxer.engine.conditions import Fact, stated
from sandboxer.engine.observer import HostReport, Observer
from sandboxer.engine.orphans import Orphans
from sandboxer.engine.outcome import Done
from sandboxer.engine.placements import Placements
from sandboxer.engine.sight import CANNOT_OBSERVE
from sandboxer.engine.story import host_news
from sandboxer.errors import InvalidSpecError, TerminalError, TransientError, UnreachableError
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


@dataclass(kw_only=True)
class HostPass:
    """Probes hosts."""

    store: Store
    observer: Observer
    placements: Placements
    events: EventRecorder
    wake: Callable[[Iterable[Key]], None]
    """Takes the sandboxes of a host when it is first seen, or seen again."""
    clock: Clock
    rng: random.Random
    orphans: Orphans | None = None
    """Reaped after probes; None leaves them to the controller."""
    _last: dict[str, tuple[bool, frozenset[str]]] = field(default_factory=dict)
    """By host: whether it answered this process, and for which extensions."""

    async def reconcile(self, key: Key) -> Done:
        """Probe a host, or let go of one that is being deleted and carries nothing."""
        host = self.store.get(Host, key.name)
        if host is None:
            self._last.pop(key.name, None)
            self._lose_orphans(key.name)
            await self.observer.forget(key.name)
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
            self._lose_orphans(key.name)
            status = self._unreachable(host, error)
        else:
            answered = True
            status = self._reachable(host, report, await self._orphans(host, extensions, report))
        await self._write(host, status)
        if self._last.get(key.name) != (answered, extensions):
            # NOTE: after the write, so that a sandbox's pass reads the host as it is now.
            self._last[key.name] = (answered, extensions)
            self.wake(placed)
        if answered and self.orphans is not None:
            await self.orphans.clean(host, in_use=extensions)
        interval_s = host.spec.probe_interval.seconds
        return Done(after_s=interval_s * self.rng.uniform(1 - JITTER, 1 + JITTER))

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

    def _lose_orphans(self, host_name: str) -> None:
        if self.orphans is not None:
            self.orphans.forget(host_name)

    def _reachable(self, host: Host, report: HostReport, orphans: Mapping[str, Fact]) -> HostStatus:
        now = self.clock.now()
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
        if isinstance(error, UnreachableError | TerminalError):
            reachable = Fact("False", error.reason, str(error))
        else:
            reachable = Fact("False", error.reason, f"Its answer cannot be used. {error}")
        return stated(
            host.status,
            {"Reachable": reachable, "Ready": Fact("False", error.reason, str(error))},
            generation=host.metadata.generation,
            now=self.clock.now(),
        )

    def _readiness(self, host: Host, report: HostReport) -> Fact:
        if report.problems:
            evidence = " ".join(f"{name}: {why}" for name, why in sorted(report.problems.items()))
            return Fact("False", CANNOT_OBSERVE, evidence)
        placed = sorted(map(str, self.placements.on_host(host.metadata.name)))
        if host.metadata.deletion_timestamp is not None:
            names = ", ".join(placed[:MAX_NAMES]) + (", …" if len(placed) > MAX_NAMES else "")
            return Fact(
                "False",
                "InUse",
                f"It is to be deleted and carries {len(placed)} sandboxes ({names}). "
                "Delete them first.",
            )
        if host.spec.unschedulable:
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
