"""The engine as one thing: queue, passes, wake-ups and workers, put together and run."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial

from sandboxer.clock import Clock
from sandboxer.engine.breaker import Breakers
from sandboxer.engine.catalog import ExtensionPass, ProfilePass
from sandboxer.engine.clockwatch import CLOCK_WATCH, ClockWatch
from sandboxer.engine.collecting import Collector
from sandboxer.engine.disk import DiskRoom
from sandboxer.engine.hosts import HostPass
from sandboxer.engine.journal import Journal
from sandboxer.engine.leasing import Leasing
from sandboxer.engine.members import POOL, Members
from sandboxer.engine.newhosts import NewHosts
from sandboxer.engine.observer import Observer
from sandboxer.engine.orphans import Orphans
from sandboxer.engine.ownership import OWNER, Ownership
from sandboxer.engine.placements import Placements
from sandboxer.engine.pools import PoolPass
from sandboxer.engine.queue import KeyedQueue
from sandboxer.engine.reconcile import Reconciler
from sandboxer.engine.stale import Reaper
from sandboxer.engine.switch import Switches
from sandboxer.engine.wakeups import RESYNC, Resync, Wakeups
from sandboxer.engine.worker import DEFAULT_WORKERS, Workers
from sandboxer.kinds.meta import Key
from sandboxer.registry import Registry
from sandboxer.store import EventRecorder, KeyLocks, Store

# Seconds running passes have at shutdown; below the 30 s after which supervisors kill.
DEFAULT_BUDGET_S = 20.0

# Probes at the same time, apart from other passes: a host that swallows packets holds a worker
# until its connection times out, and must not keep sandboxes of living hosts waiting.
HOST_WORKERS = 16

# Passes over pools and owners at the same time. They only write to the store, a few milliseconds
# each, and must not wait behind sandboxes that take minutes to provision.
OWNER_WORKERS = 2


class Engine:
    """
    Reconciles every object of one store.

    Args:
        store: The documents.
        observer: The hosts, seen through telemetry.
        registry: The extensions.
        locks: Shared with other processes on the same store.
        clock: Time.
        default_host: Host for sandboxes that name none.
        wants: Keys this engine works on; a command that waits wants its own only.
        workers: Passes at the same time.
        orphan_grace_s: Seconds after which orphans are reaped; None leaves them, and hosts with a
            full disk, to the controller.
    """

    def __init__(
        self,
        store: Store,
        observer: Observer,
        *,
        registry: Registry,
        locks: KeyLocks,
        clock: Clock,
        default_host: str | None = None,
        wants: Callable[[Key], bool] = lambda _key: True,
        workers: int = DEFAULT_WORKERS,
        orphan_grace_s: float | None = None,
    ) -> None:
        rng = random.Random()  # noqa: S311 - jitter is no secret
        events = EventRecorder(store, clock)
        self.queue = KeyedQueue(clock)
        self.host_queue = KeyedQueue(clock)
        self.owner_queue = KeyedQueue(clock)
        self.placements = Placements()
        ownership, members = Ownership(), Members()
        breakers = Breakers(clock=clock)
        switches = Switches(store=store, placements=self.placements, reach=observer.session)
        silent: set[str] = set()
        self.reconciler = Reconciler(
            store=store,
            observer=observer,
            extensions=registry.extensions,
            leasing=Leasing(
                store=store,
                placements=self.placements,
                breakers=breakers,
                locks=locks,
                default_host=default_host,
            ),
            new_hosts=NewHosts(store=store, events=events),
            breakers=breakers,
            silent=silent,
            switches=switches,
            journal=Journal(store=store, events=events, clock=clock),
            clock=clock,
        )
        self.wakeups = Wakeups(
            self.queue,
            store,
            host_queue=self.host_queue,
            owner_queue=self.owner_queue,
            observer=observer,
            placements=self.placements,
            ownership=ownership,
            members=members,
            clock=clock,
            wants=wants,
        )
        breakers.on_change = lambda host: self.wakeups.wake([Key("Host", "", host)])
        hosts = HostPass(
            store=store,
            observer=observer,
            placements=self.placements,
            breakers=breakers,
            silent=silent,
            switches=switches,
            events=events,
            wake=partial(self.wakeups.wake, trigger="host"),
            clock=clock,
            rng=rng,
        )
        if orphan_grace_s is not None:
            hosts.room = DiskRoom(
                observer=observer, extensions=registry.extensions, events=events, clock=clock
            )
            reaper = Reaper(
                store, observer, extensions=registry.extensions, locks=locks, events=events
            )
            hosts.orphans = Orphans(
                store=store,
                observer=observer,
                extensions=registry.extensions,
                placements=self.placements,
                reaper=reaper,
                events=events,
                clock=clock,
                grace_s=orphan_grace_s,
            )
        self.workers = Workers(
            self.queue,
            {
                "Sandbox": self.reconciler,
                "Profile": ProfilePass(store=store, registry=registry, events=events, clock=clock),
                "Extension": ExtensionPass(
                    store=store, registry=registry, events=events, clock=clock
                ),
                RESYNC.kind: Resync(self.wakeups),
                CLOCK_WATCH.kind: ClockWatch(clock, self.wakeups.wall_clock_set),
            },
            locks=locks,
            rng=rng,
            count=workers,
        )
        self.host_workers = Workers(
            self.host_queue, {"Host": hosts}, locks=locks, rng=rng, count=HOST_WORKERS
        )
        self.pools = PoolPass(store=store, members=members, events=events, clock=clock)
        collector = Collector(store=store, ownership=ownership, events=events, clock=clock)
        self.owner_workers = Workers(
            self.owner_queue,
            {POOL: self.pools, OWNER: collector},
            locks=locks,
            rng=rng,
            count=OWNER_WORKERS,
        )

    @property
    def queues(self) -> tuple[KeyedQueue, ...]:
        """All queues, each with workers of its own."""
        return self.queue, self.host_queue, self.owner_queue

    @property
    def idle(self) -> bool:
        """Whether nothing is due and nothing is being worked on."""
        return not any(len(queue) or queue.processing for queue in self.queues)

    @property
    def _all_workers(self) -> tuple[Workers, ...]:
        return self.workers, self.host_workers, self.owner_workers

    async def run(self) -> None:
        """Reconcile until `stop`; also ends when it is cancelled, abandoning running passes."""
        self.wakeups.start()
        try:
            await asyncio.gather(*(workers.run() for workers in self._all_workers))
        finally:
            self.wakeups.stop()
            for queue in self.queues:
                queue.shutdown(discard=True)

    async def stop(self, *, budget_s: float = DEFAULT_BUDGET_S) -> bool:
        """
        End `run`: let running passes finish within *budget_s* seconds, then cancel them.

        Returns:
            Whether all of them finished; the others have left their intention.
        """
        self.wakeups.stop()
        finished = await asyncio.gather(
            *(workers.stop(budget_s=budget_s) for workers in self._all_workers)
        )
        return all(finished)
