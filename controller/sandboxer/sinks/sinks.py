"""
All sinks of one controller.

What happens is put into the outbox by whoever writes it, in the same transaction
(`sandboxer.store.outbox`); a dispatcher for each sink takes it from there to the receiver.

Design notes: a bug in a sink ends neither the controller nor another sink. It is logged and the
dispatcher begins again, which loses nothing, as all it knows is in the outbox. Contained here and
not by the daemon, whose other tasks keep sandboxes: of a bug in those a person must hear at once,
and for this one nobody's sandbox has to go without a controller.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Final

from sandboxer.clock import Clock
from sandboxer.sinks.configuration import SinkSpec
from sandboxer.sinks.dispatcher import Dispatcher
from sandboxer.store import Change, Registration, Store

# Seconds before a dispatcher that met a bug begins again: the log gets 12 tracebacks a minute.
BUG_PAUSE_S: Final = 5.0

_log = logging.getLogger(__name__)


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
                    tasks.create_task(_outliving_bugs(dispatcher))
        finally:
            unsubscribe()

    def wake(self) -> None:
        """Look at the outbox soon."""
        for dispatcher in self._dispatchers:
            dispatcher.wake()

    def _changed(self, change: Change) -> None:
        if change.entry.key.kind == "Sandbox":
            self.wake()


async def _outliving_bugs(dispatcher: Dispatcher) -> None:
    task = asyncio.current_task()
    # NOTE: a bug met while being cancelled hides the cancellation, which does not come twice.
    while task is None or not task.cancelling():
        try:
            await dispatcher.run()
        except Exception:  # noqa: BLE001 - see the design notes above
            _log.exception("a sink stopped by a bug", extra={"sink": dispatcher.name})
        else:
            return
        if task is None or not task.cancelling():
            await asyncio.sleep(BUG_PAUSE_S)


def _registration(sink: SinkSpec) -> Registration:
    return Registration(
        name=sink.name, url=sink.shown_url, words=sink.types, namespaces=sink.namespaces
    )
