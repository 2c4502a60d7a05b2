"""The engine as one thing: queue, passes, wake-ups and workers, put together and run."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from sandboxer.clock import Clock
from sandboxer.engine.catalog import ExtensionPass, ProfilePass
from sandboxer.engine.hosts import HostPass
from sandboxer.engine.journal import Journal
from sandboxer.engine.leasing import Leasing
from sandboxer.engine.observer import Observer
from sandboxer.engine.placements import Placements
from sandboxer.engine.queue import KeyedQueue
from sandboxer.engine.reconcile import Reconciler
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
    ) -> None:
        rng = random.Random()  # noqa: S311 - jitter is no secret
        events = EventRecorder(store, clock)
        self.queue = KeyedQueue(clock)
        self.host_queue = KeyedQueue(clock)
        self.placements = Placements()
        self.reconciler = Reconciler(
            store=store,
            observer=observer,
            extensions=registry.extensions,
            leasing=Leasing(
                store=store, placements=self.placements, locks=locks, default_host=default_host
            ),
            journal=Journal(store=store, events=events, clock=clock),
            clock=clock,
        )
        self.wakeups = Wakeups(
            self.queue,
            store,
            host_queue=self.host_queue,
            observer=observer,
            placements=self.placements,
            clock=clock,
            wants=wants,
        )
        hosts = HostPass(
            store=store,
            observer=observer,
            placements=self.placements,
            events=events,
            wake=self.wakeups.wake,
            clock=clock,
            rng=rng,
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
            },
            locks=locks,
            rng=rng,
            count=workers,
        )
        self.host_workers = Workers(
            self.host_queue, {"Host": hosts}, locks=locks, rng=rng, count=HOST_WORKERS
        )

    @property
    def idle(self) -> bool:
        """Whether nothing is due and nothing is being worked on."""
        queues = (self.queue, self.host_queue)
        return not any(len(queue) or queue.processing for queue in queues)

    async def run(self) -> None:
        """Reconcile until `stop`; also ends when it is cancelled, abandoning running passes."""
        self.wakeups.start()
        try:
            await asyncio.gather(self.workers.run(), self.host_workers.run())
        finally:
            self.wakeups.stop()
            self.queue.shutdown(discard=True)
            self.host_queue.shutdown(discard=True)

    async def stop(self, *, budget_s: float = DEFAULT_BUDGET_S) -> bool:
        """
        End `run`: let running passes finish within *budget_s* seconds, then cancel them.

        Returns:
            Whether all of them finished; the others have left their intention.
        """
        self.wakeups.stop()
        finished = await asyncio.gather(
            self.workers.stop(budget_s=budget_s), self.host_workers.stop(budget_s=budget_s)
        )
        return all(finished)
