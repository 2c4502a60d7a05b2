"""The engine over real telemetry and the local transport, with a backend in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import monotonic

import pytest

from sandboxer.clock import SystemClock
from sandboxer.engine import Engine
from sandboxer.kinds.event import Event
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import KeyLocks, Store
from sandboxer.telemetry import Telemetry
from sandboxer.testing.builders import host, profile, sandbox
from sandboxer.testing.fake import FakeWorld
from sandboxer.transport import Connections
from tests.integration.engine_lab import DEADLINE_S, fake_registry


@pytest.fixture
async def world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture
async def bench(tmp_path: Path, world: FakeWorld) -> AsyncIterator[tuple[Store, Telemetry]]:
    clock = SystemClock()
    opened = await Store.open(tmp_path / "store.db", clock=clock)
    connections, registry = Connections(clock), fake_registry(world)
    telemetry = Telemetry(
        connections=connections,
        extensions=registry.extensions,
        environment=opened.environment,
        clock=clock,
    )
    locks = KeyLocks(tmp_path / "locks")
    engine = Engine(opened, telemetry, registry=registry, locks=locks, clock=clock)
    running = asyncio.create_task(engine.run())
    try:
        await opened.create(profile())
        await opened.create(host(workRoot=str(tmp_path / "work"), probeInterval="1s"))
        yield opened, telemetry
    finally:
        await engine.stop(budget_s=5.0)
        await running
        await telemetry.close()
        await connections.close()
        await opened.close()
        locks.close()


@pytest.fixture
async def store(bench: tuple[Store, Telemetry]) -> Store:
    return bench[0]


@pytest.fixture
async def telemetry(bench: tuple[Store, Telemetry]) -> Telemetry:
    return bench[1]


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = monotonic() + DEADLINE_S
    while not holds():
        assert monotonic() < deadline, "it did not come to hold"
        await asyncio.sleep(0.01)


def found(store: Store) -> Sandbox:
    got = store.get(Sandbox, "hello")
    assert got is not None
    return got


async def test_life_by_real_telemetry(store: Store, world: FakeWorld) -> None:
    """Probed by real telemetry, a sandbox becomes ready, is repaired and taken away."""
    await store.create(sandbox())
    await until(lambda: found(store).status.is_true("Ready"))
    probed = store.get(Host, "h1")

    world.change(found(store).metadata.uid, "Stopped")
    await until(lambda: found(store).status.repairs == 1 and found(store).status.is_true("Ready"))
    await store.delete(Sandbox, "hello")
    await until(lambda: store.get(Sandbox, "hello") is None)

    assert probed is not None
    assert probed.status.facts.cpus > 0
    assert world.things == {}
    assert "Repaired" in {event.reason for event in store.list(Event)}


async def test_lost_sight_is_unknown(store: Store, world: FakeWorld) -> None:
    """When the extension cannot observe, the sandbox is Unknown and untouched until it can again."""
    await store.create(sandbox())
    await until(lambda: found(store).status.is_true("Ready"))
    calls = list(world.calls)

    world.cut.add("h1")
    await until(lambda: found(store).status.phase == "Unknown")
    await until(lambda: _cannot_observe(store))
    lost = found(store).status.condition("HostReachable")
    world.cut.clear()
    await until(lambda: found(store).status.is_true("Ready"))

    assert world.calls == calls
    assert lost is not None
    assert "does not answer" in lost.message


def _cannot_observe(store: Store) -> bool:
    probed = store.get(Host, "h1")
    ready = probed.status.condition("Ready") if probed is not None else None
    return ready is not None and ready.reason == "CannotObserve" and "ext.fake" in ready.message


async def test_host_that_is_gone_is_forgotten(store: Store, telemetry: Telemetry) -> None:
    """When a Host object goes, telemetry keeps nothing of it, its connection included."""
    await store.create(sandbox())
    await until(lambda: found(store).status.is_true("Ready"))
    # It may be Ready before the whole host was looked at.
    await until(lambda: "was not looked at yet" not in _ignorance(telemetry))

    await store.delete(Sandbox, "hello")
    await store.delete(Host, "h1")
    await until(lambda: store.get(Host, "h1") is None)
    await until(lambda: "was not looked at yet" in _ignorance(telemetry))


def _ignorance(telemetry: Telemetry) -> str:
    return telemetry.view("ext.fake", "h1", "u").unknown_reason
