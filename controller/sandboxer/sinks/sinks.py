"""
All sinks of one controller.

What happens is put into the outbox by whoever writes it, in the same transaction
(`sandboxer.store.outbox`); a dispatcher for each sink takes it from there to the receiver.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from sandboxer.clock import Clock
from sandboxer.sinks.configuration import SinkSpec
from sandboxer.sinks.dispatcher import Dispatcher
from sandboxer.store import Change, Registration, Store


class Sinks:
    """
    Registers sinks and serves them.

    Args:
        store: With the outbox.
        sinks: From `configured_sinks`.
        clock: Wall-clock time.

    Raises:
        InvalidSpecError: A key or a certificate of one cannot be used.
    """

    def __init__(self, store: Store, sinks: Sequence[SinkSpec], *, clock: Clock) -> None:
        self._store = store
        self._sinks = sinks
        rng = random.Random()  # noqa: S311 - jitter is no secret
        self._dispatchers = [
            Dispatcher(sink, store.deliveries, clock=clock, rng=rng) for sink in sinks
        ]

    async def register(self) -> None:
        """Have everything that happens from now on put into the outbox, for these and no others."""
        await self._store.deliveries.register(_registration(sink) for sink in self._sinks)

    async def run(self) -> None:
        """Deliver until cancelled."""
        unsubscribe = self._store.subscribe(self._changed)
        try:
            async with asyncio.TaskGroup() as tasks:
                for dispatcher in self._dispatchers:
                    tasks.create_task(dispatcher.run())
        finally:
            unsubscribe()

    def wake(self) -> None:
        """Look at the outbox soon."""
        for dispatcher in self._dispatchers:
            dispatcher.wake()

    def _changed(self, change: Change) -> None:
        if change.entry.key.kind == "Sandbox":
            self.wake()


def _registration(sink: SinkSpec) -> Registration:
    return Registration(
        name=sink.name, url=sink.shown_url, words=sink.types, namespaces=sink.namespaces
    )
