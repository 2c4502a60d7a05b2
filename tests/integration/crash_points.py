"""
Every point at which a controller can die, and dying there.

A point is a moment right before or right after something that lasts: a durable commit of the store,
a call of a backend. They are numbered as they come. `play` leads one sandbox through a chain of
verbs; in some of them the controller is a child process that ends by SIGKILL at the n-th point, its
successor finishes, and the world is judged at the instant of the death and in the end.

Design notes. Commits are counted where SQLite is told to commit, below SQLAlchemy, calls where a
command goes to a machine (or a method of the fake changes something); nothing of ours is replaced.
A child is forked from a process that has imported everything and has neither loop nor thread of its
own, so a death costs milliseconds, and every point can be had instead of a sample.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
import threading
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import sqlalchemy

from sandboxer.clock import Clock
from sandboxer.engine import Engine
from sandboxer.kinds.meta import Resource
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Store
from sandboxer.testing.faults import EXIT_FINISHED, EXIT_RAISED, kill_this_process
from tests.integration.engine_crash import check_story

NAME = "hello"

# Seconds until a controller must have done what is wished; far above what any takes.
DEADLINE_S = 60.0


@dataclass
class Points:
    """
    Counts points, and kills this process at one of them.

    Args:
        die_at: Number of the point, the first being 1; 0 is none.
    """

    die_at: int = 0
    names: list[str] = field(default_factory=list)
    """What was reached, in order."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reach(self, name: str) -> None:
        """Be at a point; may not return. Called by the store's thread as well."""
        with self._lock:
            self.names.append(name)
            if len(self.names) == self.die_at:
                kill_this_process()

    def count_commits(self) -> None:
        """Count the commits of every SQLite file this process opens from now on."""

        def with_counting(
            _dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]
        ) -> None:
            parameters["factory"] = type("Counting", (_Counting,), {"points": self})

        sqlalchemy.event.listen(sqlalchemy.Engine, "do_connect", with_counting)


class _Counting(sqlite3.Connection):
    """A connection whose commits are points, unless they commit nothing."""

    points: Points
    _committed = 0

    def commit(self) -> None:
        changed, self._committed = self.total_changes != self._committed, self.total_changes
        if changed:
            self.points.reach("before a commit")
        super().commit()
        if changed:
            self.points.reach("after a commit")


@dataclass
class Life:
    """A controller over a store, in this process."""

    store: Store
    engine: Engine
    clock: Clock
    advance: Callable[[], None] = lambda: None
    """Lets time pass, where it does not by itself."""
    look_s: float = 0.02
    """Seconds between two looks whether all is done."""


class Stage(Protocol):
    """A backend, and a place where a controller works on it."""

    @property
    def first(self) -> Sequence[Resource]:
        """Objects there are besides the sandbox."""
        ...

    def open(self, directory: Path, points: Points | None) -> AbstractAsyncContextManager[Life]:
        """Open the store in a directory with an engine that does not run yet."""
        ...

    def sandbox(self) -> Sandbox:
        """Return the sandbox that is wished."""
        ...

    def listed(self, directory: Path) -> list[tuple[str, str]]:
        """Return host and uid of every instance there is, also half of one, seen by other eyes."""
        ...


@dataclass(frozen=True, slots=True)
class Verb:
    """Something a person does, and what must have come of it."""

    wish: Callable[[Stage, Life], Any]
    """Changes the document; a coroutine function."""
    phase: str
    """In the end; empty when the sandbox is gone."""
    orphans: bool = False
    """Whether the sandbox is gone from the beginning, and what was made of it is not."""


async def _create(stage: Stage, life: Life) -> None:
    await life.store.create(stage.sandbox())


async def _change(life: Life, **spec: Any) -> None:
    found = life.store.get(Sandbox, NAME)
    assert found is not None
    document = found.to_document()
    document["spec"] |= spec
    await life.store.update(Sandbox.parse(document))


async def _update(_stage: Stage, life: Life) -> None:
    await _change(life, env={"CHANGED": "yes"})


async def _suspend(_stage: Stage, life: Life) -> None:
    await _change(life, operatingMode="Suspended")


async def _resume(_stage: Stage, life: Life) -> None:
    await _change(life, operatingMode="Running")


async def _move(_stage: Stage, life: Life) -> None:
    found = life.store.get(Sandbox, NAME)
    assert found is not None
    await _change(life, placement={"host": "h2" if found.status.host == "h1" else "h1"})


async def _delete(_stage: Stage, life: Life) -> None:
    await life.store.delete(Sandbox, NAME)


async def _expire(_stage: Stage, life: Life) -> None:
    soon = life.clock.now() + timedelta(seconds=1)
    await _change(life, lifetime={"expiresAt": soon.strftime("%Y-%m-%dT%H:%M:%SZ")})


async def _orphan(_stage: Stage, life: Life) -> None:
    """Take it out of the store with its finalizer, as a person can by mistake."""
    deleted = await life.store.delete(Sandbox, NAME)
    assert deleted is not None, "it has a finalizer"
    metadata = deleted.metadata.model_copy(update={"finalizers": ()})
    await life.store.update(deleted.model_copy(update={"metadata": metadata}))


VERBS = {
    "create": Verb(_create, "Ready"),
    "update": Verb(_update, "Ready"),
    "suspend": Verb(_suspend, "Suspended"),
    "resume": Verb(_resume, "Ready"),
    "move": Verb(_move, "Ready"),
    "delete": Verb(_delete, ""),
    "expire": Verb(_expire, ""),
    "reap": Verb(_orphan, "", orphans=True),
}


@dataclass
class Play:
    """
    One sandbox from nothing through a chain of verbs.

    Args:
        stage: Where.
        directory: Empty; for the store and what the stage needs.
    """

    stage: Stage
    directory: Path
    ends: dict[str, object] = field(default_factory=dict)
    """What is said of the sandbox after each verb."""
    uid: str = ""
    deaths: list[str] = field(default_factory=list)
    """Verbs in which a controller died."""

    def do(self, name: str, *, die_at: int = 0) -> None:
        """
        Do one verb, with a controller that dies at a point of it; 0 is none.

        Raises:
            AssertionError: Something is there twice, or too much, lost, or not as wished.
        """
        verb = VERBS[name]
        asyncio.run(self._wish(verb))
        died = bool(die_at) and _killed(lambda points: self._work(verb, points), die_at)
        if died:
            self.deaths.append(name)
            asyncio.run(self._judge_ruins(verb))
        if died or not die_at:
            asyncio.run(self._work(verb, None))
        self.ends[name] = asyncio.run(self._judge_end(verb))

    async def _wish(self, verb: Verb) -> None:
        async with self.stage.open(self.directory, None) as life:
            if not self.uid:
                for resource in self.stage.first:
                    await life.store.create(resource)
            await verb.wish(self.stage, life)
            found = life.store.get(Sandbox, NAME)
            self.uid = found.metadata.uid if found is not None else self.uid

    async def _work(self, verb: Verb, points: Points | None) -> None:
        """Run a controller until all is done."""
        async with self.stage.open(self.directory, points) as life:
            running = asyncio.create_task(life.engine.run())
            deadline = monotonic() + DEADLINE_S
            while not (life.engine.idle and self._is_done(verb, life)):
                assert monotonic() < deadline, f"not done: {_said(life.store)}"
                assert not running.done(), running.exception()
                await asyncio.sleep(life.look_s)
                life.advance()
            await life.engine.stop(budget_s=5.0)
            await running

    def _is_done(self, verb: Verb, life: Life) -> bool:
        found = life.store.get(Sandbox, NAME)
        if found is None or not verb.phase:
            return found is None and not verb.phase and not self.stage.listed(self.directory)
        newest = all(
            condition.observed_generation == found.metadata.generation
            for condition in found.status.conditions
            if condition.type in ("Ready", "Accepted")
        )
        return newest and found.status.phase == verb.phase and found.status.intention is None

    async def _judge_ruins(self, verb: Verb) -> None:
        """Judge what a dead controller left: nothing is twice, and everything can be found."""
        listed = self.stage.listed(self.directory)
        assert max(Counter(uid for _, uid in listed).values(), default=0) <= 1, listed
        async with self.stage.open(self.directory, None) as life:
            found = await self._remembered(life.store)
            for host, uid in listed:
                assert uid == self.uid, f"{uid} on {host} is nobody's"
                # NOTE: the sandbox goes last, and where a thing is was stored before it was made.
                assert found is not None or verb.orphans, "it was forgotten too early"
                assert found is None or found.status.host == host, f"{host} is not its place"

    async def _judge_end(self, verb: Verb) -> object:
        listed = self.stage.listed(self.directory)
        async with self.stage.open(self.directory, None) as life:
            found = await self._remembered(life.store)
            await check_story(life.store, self.uid)
            assert listed == ([] if found is None else [(found.status.host, self.uid)])
            assert bool(found) == bool(verb.phase)
            return _said(life.store)

    async def _remembered(self, store: Store) -> Sandbox | None:
        """Return the sandbox; it is there, or its tombstone is, and never both."""
        found = store.get(Sandbox, NAME)
        stones = [stone.uid for stone in await store.tombstones(uid=self.uid)]
        assert stones == ([self.uid] if found is None else []), "lost, or buried alive"
        assert found is None or found.metadata.uid == self.uid, "it was made anew"
        return found


def _said(store: Store) -> object:
    """Return what is said of the sandbox, without what differs from run to run."""
    found = store.get(Sandbox, NAME)
    if found is None:
        return None
    status = found.status
    conditions = sorted((each.type, each.status) for each in status.conditions)
    return status.phase, status.host, status.spec_hash, tuple(conditions)


def _killed(work: Callable[[Points], Any], die_at: int) -> bool:
    """Run *work* in a child that dies at a point; return whether it came that far."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _run_in_child(work, Points(die_at))
    _, wait_status = os.waitpid(child, 0)
    exit_status = os.waitstatus_to_exitcode(wait_status)
    assert exit_status in (EXIT_FINISHED, -signal.SIGKILL), f"the controller failed ({exit_status})"
    return exit_status != EXIT_FINISHED


def _run_in_child(work: Callable[[Points], Any], points: Points) -> None:
    """Never returns: nothing of the parent's may run twice."""
    exit_status = EXIT_RAISED
    try:
        points.count_commits()
        asyncio.run(work(points))
        exit_status = EXIT_FINISHED
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stderr.flush()
        os._exit(exit_status)


@asynccontextmanager
async def closing(store: Store, locks: Any) -> AsyncIterator[None]:
    """Close a store and its locks at the end."""
    try:
        yield
    finally:
        await store.close()
        locks.close()
