"""
One sink's letters, from the outbox to its receiver: at least once, in order for each sandbox.

Design notes:

* Of each sandbox one letter is under way; its next one is due when that is taken or given up. A
  sandbox whose letter is refused holds up only itself, and only at this sink.
* Taken out of the outbox after the receiver said yes. Who dies in between sends it again with the
  same id, byte for byte the same event.
* No part of the engine waits for any of this: it writes rows, in the transaction it writes anyway.
* A bug met by a delivery holds up that sandbox only, as an attempt that cannot be recorded does;
  any other bug is `sinks.py`'s to outlive.
* Refused: a pause of the whole sink when a receiver is away. Attempts are bounded in number at a
  time and in length, and each letter's own pause grows, so they are at most a few per second.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from typing import Final

from sandboxer.clock import Clock
from sandboxer.errors import SandboxerError
from sandboxer.sinks.configuration import SinkSpec
from sandboxer.sinks.receiver import CONCURRENCY, NotTakenError, Receiver
from sandboxer.store import Deliveries, DueLetter

# Seconds; the pause after the first failure, doubled with each further one up to the longest, of
# which between a half and all is waited, so that what failed together does not return together.
FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 600.0

# Attempts before a letter can be given up, however old it is: a clock that was set forward, or a
# long time without a controller, must not cost an event.
MIN_ATTEMPTS: Final = 5

# Seconds between two looks when nothing was heard of: for letters that another process revived.
POLL_S: Final = 10.0

# Seconds of pause when the store cannot be read or written.
STORE_PAUSE_S: Final = 5.0

_log = logging.getLogger(__name__)


def pause_s(attempts: int, rng: random.Random) -> float:
    """Return the pause after that many attempts in vain (1 or more)."""
    # NOTE: the exponent is bounded, for 2 to the power of a large count is no float any more.
    whole_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempts - 1, 32))
    return whole_s * rng.uniform(0.5, 1.0)


class Dispatcher:
    """
    Empties the outbox of one sink.

    Args:
        sink: Which.
        deliveries: The outbox.
        clock: Wall-clock time.
        rng: Jitter.
    """

    def __init__(
        self, sink: SinkSpec, deliveries: Deliveries, *, clock: Clock, rng: random.Random
    ) -> None:
        self._sink = sink
        self._deliveries = deliveries
        self._clock = clock
        self._rng = rng
        self._receiver = Receiver(sink, clock)
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._ended: set[str] = set()
        self._awake = asyncio.Event()
        self._fails = False

    @property
    def name(self) -> str:
        """Name of the sink."""
        return self._sink.name

    def wake(self) -> None:
        """Look at the outbox soon."""
        self._awake.set()

    async def run(self) -> None:
        """Deliver until cancelled; what is under way then is sent again by the next one."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    self._awake.clear()
                    await self._turn(tasks)
        finally:
            # NOTE: a task that is cancelled before its first step does not take itself out.
            self._sending.clear()
            await self._receiver.close()

    async def _turn(self, tasks: asyncio.TaskGroup) -> None:
        """Begin what is due and can be begun; return when it is worth looking again."""
        try:
            rest_s = await self._begin(tasks)
        except SandboxerError as error:
            _log.warning("the outbox cannot be read", extra=self._fields(error))
            rest_s = STORE_PAUSE_S
        with suppress(TimeoutError):
            async with asyncio.timeout(rest_s):
                await self._awake.wait()

    async def _begin(self, tasks: asyncio.TaskGroup) -> float:
        """Return seconds after which something more may be due."""
        name = self._sink.name
        self._ended.clear()
        # NOTE: what is under way is due still, so as many more are asked for.
        due = await self._deliveries.due(
            name, limit=CONCURRENCY + len(self._sending), furthest_s=LONGEST_PAUSE_S
        )
        # NOTE: of an attempt that ended meanwhile, the outbox was perhaps read before its end.
        busy = self._ended | self._sending.keys()
        for letter in due:
            if len(self._sending) < CONCURRENCY and letter.uid not in busy:
                self._sending[letter.uid] = tasks.create_task(self._deliver(letter))
                # NOTE: were a second one of this sandbox due, it would overtake the first.
                busy.add(letter.uid)
        next_s = await self._deliveries.next_due_in_s(name)
        return POLL_S if next_s is None else min(POLL_S, next_s)

    async def _deliver(self, letter: DueLetter) -> None:
        try:
            await self._attempt(letter)
        except SandboxerError as error:
            # What came of the attempt is not recorded, so it is made again, but not at once.
            _log.warning("a delivery cannot be recorded", extra=self._fields(error))
            await asyncio.sleep(STORE_PAUSE_S)
        except Exception:  # noqa: BLE001 - a bug with one event must not hold up the others
            extra = {"sink": self._sink.name, "event": letter.event_id, "uid": letter.uid}
            _log.exception("a delivery failed by a bug", extra=extra)
            await asyncio.sleep(STORE_PAUSE_S)
        finally:
            del self._sending[letter.uid]
            self._ended.add(letter.uid)
            self.wake()

    async def _attempt(self, letter: DueLetter) -> None:
        try:
            await self._receiver.send(letter.event_id, letter.body.encode())
        except NotTakenError as error:
            self._note(error)
            await self._failed(letter, error)
            return
        self._note(None)
        await self._deliveries.delivered(letter)

    async def _failed(self, letter: DueLetter, error: NotTakenError) -> None:
        oldest_s = self._clock.now().timestamp() - self._sink.give_up_after.seconds
        if error.is_final or (letter.at_s < oldest_s and letter.attempts + 1 >= MIN_ATTEMPTS):
            # Who does not answer at all would be asked again for each that waited as long in
            # vain, and more may come than can be asked for; who answers judges each for itself.
            before_s = 0.0 if error.is_answer else oldest_s
            events = await self._deliveries.bury(letter, error.message, before_s=before_s)
            fields = {"event": letter.event_id, "uid": letter.uid, "events": events}
            _log.warning("events are given up", extra={**self._fields(error), **fields})
            return
        after_s = pause_s(letter.attempts + 1, self._rng)
        if error.after_s is not None:
            after_s = min(LONGEST_PAUSE_S, max(after_s, error.after_s))
        await self._deliveries.postpone(letter, error.message, after_s=after_s)

    def _note(self, error: NotTakenError | None) -> None:
        """Log when a sink begins to fail and when it takes events again, not each attempt."""
        if error is not None and not self._fails:
            _log.warning("a sink does not take events", extra=self._fields(error))
        if error is None and self._fails:
            _log.info("a sink takes events again", extra={"sink": self._sink.name})
        self._fails = error is not None

    def _fields(self, error: SandboxerError) -> dict[str, str]:
        return {"sink": self._sink.name, "error": error.message}
