"""
What becomes of the letters in the outbox: due, delivered, postponed, dead, revived.

Every change is one durable transaction of the store's writer, so a process that dies between
sending and recording sends again, and nothing is forgotten.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NamedTuple

from sandboxer.clock import Clock
from sandboxer.kinds.sinks import DeadLetter, SinkState
from sandboxer.store import statements
from sandboxer.store.database import Database
from sandboxer.store.letters import dead_letter, sink_state
from sandboxer.store.transaction import Transaction
from sandboxer.store.writer import Writer

# Age after which a dead letter goes, and how many stay at most, newest first; 10,000 take about
# 10 MB. A month, as for tombstones.
MAX_DEAD_AGE: Final = timedelta(days=30)
MAX_DEAD: Final = 10_000

# Letters that wait for one sink at most, about 100 MB; looked at when the store is compacted.
MAX_WAITING: Final = 100_000

# Letters removed or given up in one transaction: others' writes wait for it.
FORGOTTEN_AT_ONCE: Final = 1000

REMOVED: Final = "The sink was taken out of the settings."
TOO_MANY: Final = "Too many events waited for the sink."


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A sink as the store has to know it."""

    name: str
    url: str
    """As it may be shown."""
    words: tuple[str, ...] = ()
    """Last words of the types that are wanted; empty is all."""
    namespaces: tuple[str, ...] = ()
    """Namespaces that are wanted; empty is all."""


class DueLetter(NamedTuple):
    """A letter that may be sent now."""

    position: int
    sink: str
    uid: str
    event_id: str
    at_s: float
    """When it happened; seconds since 1970."""
    body: str
    attempts: int


class Deliveries:
    """
    The outbox, for who empties it; `Store.deliveries`.

    Args:
        database: Read from.
        writer: Written by.
        clock: Says what is due.
    """

    def __init__(self, database: Database, writer: Writer, clock: Clock) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock

    async def register(self, sinks: Iterable[Registration]) -> None:
        """
        Have the outbox kept for exactly these sinks from now on.

        What waits for others is dead then, and comes back to life when they do and somebody asks.
        """
        wanted = {sink.name: sink for sink in sinks}
        now_s = self._now_s()

        def run(work: Transaction) -> None:
            execute = work.connection.exec_driver_sql
            known = {name for name, *_ in execute(statements.READ_WANTED)}
            for name in known - wanted.keys():
                execute(statements.REMOVE_SINK, (name,))
                execute(statements.BURY_LETTERS, (now_s, REMOVED, name))
            for sink in wanted.values():
                lists = (json.dumps(sink.words), json.dumps(sink.namespaces))
                execute(statements.WRITE_SINK, (sink.name, sink.url, *lists))

        await self._writer.submit([], run)

    async def due(self, sink: str, *, limit: int, furthest_s: float) -> list[DueLetter]:
        """
        Return what may be sent now, oldest first; of each sandbox one letter.

        Args:
            sink: For which.
            limit: How many at most.
            furthest_s: Longest pause in seconds; what is due later than that has been set for
                another wall clock, and is due.
        """
        now_s = self._now_s()
        values = (sink, now_s, sink, now_s + furthest_s, limit)
        rows = await self._read(statements.DUE_LETTERS, values)
        return [DueLetter(*row) for row in rows]

    async def next_due_in_s(self, sink: str) -> float | None:
        """Return the seconds until something more is due; None when nothing waits for a time."""
        now_s = self._now_s()
        ((at_s,),) = await self._read(statements.NEXT_DUE, (sink, now_s))
        return None if at_s is None else max(0.0, at_s - now_s)

    async def delivered(self, letter: DueLetter) -> None:
        """Take a letter out; the next one of its sandbox is due."""
        lane, now_s = (letter.sink, letter.uid), self._now_s()

        def run(work: Transaction) -> None:
            execute = work.connection.exec_driver_sql
            execute(statements.REMOVE_LETTER, (letter.position,))
            execute(statements.NEXT_IN_LANE, (now_s, *lane))

        await self._writer.submit([], run)

    async def postpone(self, letter: DueLetter, error: str, *, after_s: float) -> None:
        """Count a failed attempt; all later ones of the sandbox wait behind it."""
        values = (error, self._now_s() + after_s, letter.position)
        await self._write(statements.POSTPONE_LETTER, values)

    async def bury(self, letter: DueLetter, error: str, *, before_s: float = 0.0) -> int:
        """
        Give a letter up; the next one of its sandbox is due.

        Args:
            letter: Which.
            error: What became of its last attempt.
            before_s: What else waits in its lane and happened before this time, in seconds since
                1970, is given up with it.

        Returns:
            How many were given up.
        """
        lane, now_s = (letter.sink, letter.uid), self._now_s()
        others = (now_s, f"Given up with an earlier one: {error}", *lane, before_s)

        def run(work: Transaction) -> int:
            execute = work.connection.exec_driver_sql
            execute(statements.BURY_LETTER, (now_s, error, letter.position))
            buried = execute(statements.BURY_OLD_IN_LANE, others).rowcount
            execute(statements.NEXT_IN_LANE, (now_s, *lane))
            return 1 + buried

        return int(await self._writer.submit([], run))

    async def revive(self, sink: str = "", *, position: int = 0) -> int:
        """
        Have dead letters sent again, as if they had never been tried.

        Args:
            sink: Those of one sink; empty is all.
            position: One of them; 0 is all.

        Returns:
            How many there were; those of a sink that is not registered stay dead.
        """
        now_s = self._now_s()

        def run(work: Transaction) -> int:
            execute = work.connection.exec_driver_sql
            chosen = (sink, sink, position, position)
            revived = 0
            for lane in execute(statements.REVIVABLE_LANES, chosen).all():
                values = (*lane, position, position)
                execute(statements.UNSET_IN_LANE, tuple(lane))
                revived += execute(statements.REVIVE_LETTERS, values).rowcount
                execute(statements.NEXT_IN_LANE, (now_s, *lane))
            return revived

        return int(await self._writer.submit([], run))

    async def sinks(self) -> list[SinkState]:
        """Return what is registered, and how much waits for it."""
        rows = await self._read(statements.READ_SINKS, ())
        return [sink_state(row, most_waiting=MAX_WAITING) for row in rows]

    async def dead(self, sink: str = "", *, limit: int = 500) -> list[DeadLetter]:
        """Return what was given up, oldest first."""
        rows = await self._read(statements.DEAD_LETTERS, (sink, sink, limit))
        return [dead_letter(row) for row in rows]

    async def dead_count(self, sink: str = "") -> int:
        """Return how many letters were given up."""
        ((count,),) = await self._read(statements.COUNT_DEAD, (sink, sink))
        return int(count)

    async def forget(self, most_waiting: int = MAX_WAITING) -> None:
        """
        Give up the oldest of what waits beyond *most_waiting* for one sink, and remove dead letters
        that are too old or too many.
        """
        for name, *_ in await self._read(statements.READ_WANTED, ()):
            await self._bury_oldest(name, most_waiting)
        values = ((self._clock.now() - MAX_DEAD_AGE).timestamp(), MAX_DEAD, FORGOTTEN_AT_ONCE)
        while await self._write(statements.FORGET_LETTERS, values) == FORGOTTEN_AT_ONCE:
            pass

    def _now_s(self) -> float:
        return self._clock.now().timestamp()

    async def _bury_oldest(self, sink: str, most_waiting: int) -> None:
        # NOTE: up to this position, which moves only forwards, and not so many: what is delivered
        # meanwhile must not cost another one.
        found = await self._read(statements.TOO_MANY_WAIT, (sink, most_waiting))
        if not found:
            return
        ((newest,),) = found

        def run(work: Transaction) -> int:
            now_s, execute = work.now.timestamp(), work.connection.exec_driver_sql
            chosen = (now_s, TOO_MANY, sink, newest, FORGOTTEN_AT_ONCE)
            buried = execute(statements.BURY_OLDEST, chosen).rowcount
            execute(statements.NEXT_IN_LANES, (now_s, sink, now_s, sink))
            return buried

        while await self._writer.submit([], run) == FORGOTTEN_AT_ONCE:
            pass

    async def _write(self, statement: str, values: tuple[Any, ...]) -> int:
        def run(work: Transaction) -> int:
            return work.connection.exec_driver_sql(statement, values).rowcount

        return int(await self._writer.submit([], run))

    async def _read(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        def read() -> list[tuple[Any, ...]]:
            with self._database.connect("reading the outbox") as connection:
                return [tuple(row) for row in connection.exec_driver_sql(statement, values)]

        return await asyncio.to_thread(read)
