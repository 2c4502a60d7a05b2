"""One engine over a real store and a backend in memory, with a clock the test drives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from sandboxer.engine import Engine
from sandboxer.kinds.meta import Key
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.registry import Loaded, Registry
from sandboxer.store import KeyLocks, Store
from sandboxer.testing.clock import ManualClock
from sandboxer.testing.fake import FAKE_EXTENSION, FakeExtension, FakeObserver, FakeWorld

# Seconds of real time until a test gives up waiting: far above what any takes on a busy machine.
DEADLINE_S = 60.0

HELLO = Key("Sandbox", "default", "hello")


@dataclass
class Lab:
    """An engine, and everything around it."""

    store: Store
    world: FakeWorld
    observer: FakeObserver
    clock: ManualClock
    engine: Engine

    def sandbox(self, name: str = "hello") -> Sandbox:
        """Return a sandbox that must exist."""
        found = self.store.get(Sandbox, name)
        assert found is not None
        return found

    def is_true(self, condition: str, name: str = "hello") -> bool:
        """Tell whether a sandbox exists and the condition holds for its present generation."""
        found = self.store.get(Sandbox, name)
        if found is None:
            return False
        stated = found.status.condition(condition)
        return (
            stated is not None
            and stated.status == "True"
            and stated.observed_generation == found.metadata.generation
        )

    async def until(self, holds: Callable[[], bool], *, step_s: float = 0.05) -> None:
        """
        Let work be done and time pass, *step_s* at a time, until something holds.

        While something is being done only a little passes: a slow machine is not a late controller.
        """
        deadline = monotonic() + DEADLINE_S
        while not holds():
            assert monotonic() < deadline, "it did not come to hold"
            await asyncio.sleep(0.001)
            self.clock.advance(step_s if self.engine.idle else min(step_s, 0.05))

    async def idle(self) -> None:
        """Let everything that is due be done, while no time passes."""
        deadline = monotonic() + DEADLINE_S
        while not self.engine.idle:
            assert monotonic() < deadline, "it does not come to rest"
            await asyncio.sleep(0.001)


def fake_registry(world: FakeWorld, extension: type[FakeExtension] = FakeExtension) -> Registry:
    """Return a registry that knows one kind of fake extension only."""
    loaded = Loaded(extension=extension(world), distribution="fake", version="1.0")
    return Registry(loaded={FAKE_EXTENSION: loaded}, problems={"ext.broken": "It is broken."})


def make_engine(
    store: Store,
    observer: FakeObserver,
    clock: ManualClock,
    locks: KeyLocks,
    *,
    wants: Callable[[Key], bool] = lambda _key: True,
    extension: type[FakeExtension] = FakeExtension,
    orphan_grace_s: float | None = None,
) -> Engine:
    """Return an engine that is not running."""
    registry = fake_registry(observer.world, extension)
    engine = Engine(
        store, observer, registry=registry, locks=locks, clock=clock, wants=wants,
        orphan_grace_s=orphan_grace_s,
    )  # fmt: skip
    clock.on_advance(engine.queue.promote)
    clock.on_advance(engine.host_queue.promote)
    clock.on_advance(engine.owner_queue.promote)
    return engine


@contextlib.asynccontextmanager
async def open_lab(
    path: Path,
    *,
    world: FakeWorld | None = None,
    wants: Callable[[Key], bool] = lambda _key: True,
    extension: type[FakeExtension] = FakeExtension,
    observer_type: type[FakeObserver] = FakeObserver,
    orphan_grace_s: float | None = None,
) -> AsyncIterator[Lab]:
    """Open a store in *path* and run an engine over it that works on the keys it wants."""
    clock = ManualClock()
    world = world or FakeWorld()
    observer = observer_type(world)
    store = await Store.open(path / "store.db", clock=clock)
    locks = KeyLocks(path / "locks")
    engine = make_engine(
        store, observer, clock, locks, wants=wants, extension=extension,
        orphan_grace_s=orphan_grace_s,
    )  # fmt: skip
    running = asyncio.create_task(engine.run())
    try:
        yield Lab(store, world, observer, clock, engine)
    finally:
        await engine.stop(budget_s=1.0)
        await running
        await store.close()
        locks.close()
