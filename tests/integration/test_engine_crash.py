"""The controller dies at every point of a pass, and another one finishes the work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sandboxer.engine import Engine
from sandboxer.errors import ConflictError, TransientError, Waiting
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import KeyLocks, Store
from sandboxer.testing.builders import host, profile, sandbox
from sandboxer.testing.clock import ManualClock
from sandboxer.testing.fake import FakeObserver, FakeWorld
from tests.changing import change_spec
from tests.integration.engine_crash import CrashAt, check_story
from tests.integration.engine_lab import HELLO, make_engine, open_lab

# Passes a life may take; far above what any does, to end a loop that would not.
MAX_PASSES = 60


async def live(engine: Engine) -> None:
    """Run passes over the sandbox until it needs none, as a worker would."""
    for _ in range(MAX_PASSES):
        try:
            done = await engine.reconciler.reconcile(HELLO)
        except (Waiting, ConflictError, TransientError):
            continue
        if done.after_s is None:
            return
    raise AssertionError("it does not come to rest")


async def _create(store: Store) -> None:
    await store.create(sandbox(ports=[{"name": "web", "containerPort": 80}]))


async def _update(store: Store) -> None:
    await change_spec(store, Sandbox, "hello", inputs={"command": "other"})


async def _move(store: Store) -> None:
    found = store.get(Sandbox, "hello")
    assert found is not None
    target = "h2" if found.status.host == "h1" else "h1"
    await change_spec(store, Sandbox, "hello", placement={"host": target})


async def _suspend(store: Store) -> None:
    await change_spec(store, Sandbox, "hello", operatingMode="Suspended")


async def _delete(store: Store) -> None:
    await store.delete(Sandbox, "hello")


async def _prepare(store: Store) -> None:
    await store.create(profile())
    for name in ("h1", "h2"):
        created = await store.create(host(name))
        reachable = {
            "type": "Reachable",
            "status": "True",
            "reason": "Answers",
            "lastTransitionTime": "2026-01-01T12:00:00Z",
        }
        status = Host.parse(created.to_document() | {"status": {"conditions": [reachable]}}).status
        await store.update_status(created.model_copy(update={"status": status}))


async def _run(
    path: Path, change: Callable[[Store], Awaitable[None]], suspension: int | None
) -> tuple[bool, FakeWorld, Sandbox | None]:
    """Let a change be reconciled, dying at one suspension; return what is there in the end."""
    world, clock, locks = FakeWorld(), ManualClock(), KeyLocks(path / "locks")
    world.pause = _pause
    store = await Store.open(path / f"store-{suspension}.db", clock=clock)
    engine = make_engine(store, FakeObserver(world), clock, locks)
    engine.wakeups.start()
    await _prepare(store)
    if change is not _create:
        await _create(store)
        await live(engine)
    await change(store)
    (uid,) = (entry.uid for entry in store.entries("Sandbox"))

    finished = suspension is None or await CrashAt(live(engine), suspension)
    engine.wakeups.stop()
    if not finished or suspension is None:
        engine = make_engine(store, FakeObserver(world), clock, locks)
        engine.wakeups.start()
        await live(engine)
        engine.wakeups.stop()
    engine.queue.shutdown(discard=True)
    engine.host_queue.shutdown(discard=True)
    found = store.get(Sandbox, "hello")
    await check_story(store, uid)
    await store.close()
    locks.close()
    return finished, world, found


async def _pause(_method: str) -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_create, id="create"),
        pytest.param(_update, id="update"),
        pytest.param(_suspend, id="suspend"),
        pytest.param(_move, id="move"),
        pytest.param(_delete, id="delete"),
    ],
)
async def test_dying_anywhere_changes_nothing_in_the_end(
    tmp_path: Path, change: Callable[[Store], Awaitable[None]]
) -> None:
    """Killed at any suspension, the controller's successor reaches the undisturbed end state."""
    _, undisturbed, expected = await _run(tmp_path, change, None)
    suspension, finished = 0, False

    while not finished:
        finished, world, found = await _run(tmp_path, change, suspension)

        assert _shape(world) == _shape(undisturbed), f"killed at suspension {suspension}"
        assert _said(found) == _said(expected), f"killed at suspension {suspension}"
        suspension += 1

    assert suspension > 3


def _shape(world: FakeWorld) -> list[tuple[str, str, str]]:
    """Return what exists, without the uid, which differs from run to run."""
    return sorted(
        (host_name, thing.state, thing.spec_hash) for (host_name, _), thing in world.things.items()
    )


def _said(found: Sandbox | None) -> object:
    if found is None:
        return None
    status = found.status
    conditions = sorted((c.type, c.status) for c in status.conditions)
    made = (status.spec_hash, status.handle, status.reachability, status.isolation)
    return status.phase, status.host, status.ports, made, conditions


async def test_two_engines_share_a_store(tmp_path: Path) -> None:
    """Two processes on one store make every sandbox once, and take it away once."""
    async with open_lab(tmp_path) as one:
        store = await Store.open(tmp_path / "store.db", clock=one.clock)
        locks = KeyLocks(tmp_path / "locks")
        two = make_engine(store, FakeObserver(one.world), one.clock, locks)
        running = asyncio.create_task(two.run())
        try:
            await one.store.create(profile())
            await one.store.create(host())
            names = [f"s{number}" for number in range(10)]
            for name in names:
                await one.store.create(sandbox(name))
            await one.until(lambda: all(one.is_true("Ready", name) for name in names))
            provisions = [method for method, _, _ in one.world.calls]
            for name in names:
                await one.store.delete(Sandbox, name)
            await one.until(lambda: not one.store.list(Sandbox))
        finally:
            await two.stop(budget_s=1.0)
            await running
            await store.close()
            locks.close()

    assert provisions.count("provision") == 10
    assert one.world.things == {}


async def test_shutdown_lets_a_pass_finish(tmp_path: Path) -> None:
    """At shutdown a running pass ends by itself and records its result; no other begins."""
    entered, leave = asyncio.Event(), asyncio.Event()

    async def pause(method: str) -> None:
        if method == "provision":
            entered.set()
            await leave.wait()

    async with open_lab(tmp_path, world=FakeWorld(pause=pause)) as lab:
        await lab.store.create(profile())
        await lab.store.create(host())
        await lab.store.create(sandbox())
        await lab.until(entered.is_set)
        stopping = asyncio.create_task(lab.engine.stop(budget_s=30.0))
        leave.set()

        finished = await stopping

        assert finished
        assert lab.sandbox().status.spec_hash != ""
        assert lab.sandbox().status.intention is None


async def test_shutdown_abandons_what_takes_too_long(tmp_path: Path) -> None:
    """A pass that outlasts the budget is cancelled, and its intention stays in the store."""
    entered = asyncio.Event()

    async def pause(_method: str) -> None:
        entered.set()
        await asyncio.Event().wait()

    async with open_lab(tmp_path, world=FakeWorld(pause=pause)) as lab:
        await lab.store.create(profile())
        await lab.store.create(host())
        await lab.store.create(sandbox())
        await lab.until(entered.is_set)

        finished = await lab.engine.stop(budget_s=0.05)

        assert not finished
        intention = lab.sandbox().status.intention
        assert intention is not None
        assert intention.action == "Provision"
