"""The engine as one thing: queue, passes, wake-ups and workers, put together and run."""

from __future__ import annotations

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
from sandboxer.engine.wakeups import Wakeups
from sandboxer.engine.worker import DEFAULT_WORKERS, Workers
from sandboxer.kinds.meta import Key
from sandboxer.registry import Registry
from sandboxer.store import EventRecorder, KeyLocks, Store

# Seconds running passes have at shutdown; below the 30 s after which supervisors kill.
DEFAULT_BUDGET_S = 20.0


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
        self.placements = Placements()
        self.reconciler = Reconciler(
            store=store,
            observer=observer,
            extensions=registry.extensions,
            leasing=Leasing(store=store, placements=self.placements, default_host=default_host),
            journal=Journal(store=store, events=events, clock=clock),
            clock=clock,
        )
        self.wakeups = Wakeups(
            self.queue,
            store,
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
                "Host": hosts,
                "Profile": ProfilePass(store=store, registry=registry, events=events, clock=clock),
                "Extension": ExtensionPass(
                    store=store, registry=registry, events=events, clock=clock
                ),
            },
            locks=locks,
            rng=rng,
            count=workers,
        )

    async def run(self) -> None:
        """Reconcile until `stop`; also ends when it is cancelled, abandoning running passes."""
        self.wakeups.start()
        try:
            await self.workers.run()
        finally:
            self.wakeups.stop()
            self.queue.shutdown(discard=True)

    async def stop(self, *, budget_s: float = DEFAULT_BUDGET_S) -> bool:
        """
        End `run`: let running passes finish within *budget_s* seconds, then cancel them.

        Returns:
            Whether all of them finished; the others have left their intention.
        """
        self.wakeups.stop()
        return await self.workers.stop(budget_s=budget_s)
