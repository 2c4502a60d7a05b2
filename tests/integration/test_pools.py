"""Pools over a real store and a backend in memory: counting, exchanging, saying how it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from sandboxer.engine import Engine
from sandboxer.errors import ConflictError
from sandboxer.kinds.event import Event
from sandboxer.kinds.meta import API_VERSION
from sandboxer.kinds.pool import SandboxPool
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Change, KeyLocks, Store, Update
from sandboxer.testing.builders import host, profile
from sandboxer.testing.clock import ManualClock
from sandboxer.testing.fake import FakeObserver, FakeWorld
from tests.changing import change_spec
from tests.integration.engine_crash import CrashAt
from tests.integration.engine_lab import Lab, make_engine, open_lab
from tests.integration.engine_meddling import MeddlingStore


def pool(replicas: int = 3, name: str = "warm", **spec: Any) -> SandboxPool:
    """Return a pool of sandboxes of profile `fake`, with *spec* as in a document."""
    template = {"spec": {"profile": "fake"}}
    document = {
        "apiVersion": API_VERSION,
        "kind": "SandboxPool",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "template": template, **spec},
    }
    return SandboxPool.parse(document)


def current(store: Store) -> SandboxPool:
    """Return the pool, which must exist."""
    found = store.get(SandboxPool, "warm")
    assert found is not None
    return found


def is_settled(store: Store) -> bool:
    """Tell whether the pool says that it is as its newest spec wants it."""
    found = store.get(SandboxPool, "warm")
    return (
        found is not None
        and found.status.is_true("Ready")
        and not found.status.is_true("Reconciling")
        and found.status.observed_generation == found.metadata.generation
    )


def live(store: Store) -> list[Sandbox]:
    """Return the sandboxes that are not being deleted."""
    return [s for s in store.list(Sandbox) if s.metadata.deletion_timestamp is None]


async def change(store: Store, **spec: Any) -> None:
    """Write fields of the pool's spec, whatever the controller writes meanwhile."""
    await change_spec(store, SandboxPool, "warm", **spec)


async def prepare(lab: Lab, wanted: SandboxPool) -> None:
    """Make what a pool needs, and the pool."""
    await lab.store.create(profile())
    await lab.store.create(host())
    await lab.store.create(wanted)


def template(**env: str) -> dict[str, Any]:
    """Return a template as in a document, told from others by its environment."""
    return {"spec": {"profile": "fake", "env": env}}


async def test_a_pool_is_filled_scaled_and_told(tmp_path: Path) -> None:
    """Five are made and Ready, two stay after scaling down, and the status says so each time."""
    async with open_lab(tmp_path) as lab:
        await prepare(lab, pool(5))
        await lab.until(lambda: is_settled(lab.store))
        five = current(lab.store).status
        names = {s.metadata.name for s in live(lab.store)}

        await change(lab.store, replicas=2)
        await lab.until(lambda: is_settled(lab.store) and len(lab.store.list(Sandbox)) == 2)
        two = current(lab.store).status
        told = {e.reason for e in lab.store.list(Event) if e.involved_object.kind == "SandboxPool"}

    assert (five.replicas, five.ready_replicas, five.updated_replicas) == (5, 5, 5)
    assert five.selector == "sandboxer.dev/pool=warm"
    assert len(names) == 5
    assert all(name.startswith("warm-") for name in names)
    assert (two.replicas, two.ready_replicas, two.failed_replicas) == (2, 2, 0)
    assert told == {"SandboxesCreated", "SandboxesDeleted", "Ready"}
    assert len(lab.world.things) == 2


async def test_a_settled_pool_writes_nothing(tmp_path: Path) -> None:
    """Asked again and again, a pool that is as wanted leaves the store as it is."""
    async with open_lab(tmp_path) as lab:
        await prepare(lab, pool(3))
        await lab.until(lambda: is_settled(lab.store))
        await lab.idle()
        before = lab.store.revision

        for _ in range(3):
            lab.engine.wakeups.resync()
            await lab.idle()

        assert lab.store.revision == before


async def test_a_sandbox_deleted_by_hand_is_replaced(tmp_path: Path) -> None:
    """The number is kept whatever happens to one of them."""
    async with open_lab(tmp_path) as lab:
        await prepare(lab, pool(2))
        await lab.until(lambda: is_settled(lab.store))
        victim = lab.store.list(Sandbox)[0]

        await lab.store.delete(Sandbox, victim.metadata.name)
        await lab.until(lambda: _uid(lab.store, victim) is None and is_settled(lab.store))

        assert len(live(lab.store)) == 2


async def test_a_sandbox_taken_out_stays_and_is_replaced(tmp_path: Path) -> None:
    """Without its ownerReference a sandbox is nobody's: neither counted nor deleted."""
    async with open_lab(tmp_path) as lab:
        await prepare(lab, pool(2))
        await lab.until(lambda: is_settled(lab.store))
        taken = await _take_out(lab.store)
        await lab.until(lambda: len(live(lab.store)) == 3 and is_settled(lab.store))

        await change(lab.store, replicas=0)
        await lab.until(lambda: len(lab.store.list(Sandbox)) == 1)

        assert _uid(lab.store, taken) == taken.metadata.uid


async def test_labels_do_not_make_a_member(tmp_path: Path) -> None:
    """A sandbox that only looks like one of the pool's is left alone, whatever it is called."""
    async with open_lab(tmp_path) as lab:
        await prepare(lab, pool(1))
        await lab.until(lambda: is_settled(lab.store))
        member = lab.store.list(Sandbox)[0]
        metadata = {"name": "warm-bbbbb", "namespace": "default", "labels": member.metadata.labels}
        document = {"apiVersion": API_VERSION, "kind": "Sandbox", "metadata": metadata}
        await lab.store.create(Sandbox.parse({**document, "spec": {"profile": "fake"}}))

        await change(lab.store, replicas=0)
        await lab.until(lambda: _uid(lab.store, member) is None)
        await lab.idle()

        assert [s.metadata.name for s in live(lab.store)] == ["warm-bbbbb"]


async def test_a_changed_template_is_rolled_one_at_a_time(tmp_path: Path) -> None:
    """All sandboxes are exchanged, and at no commit is more than one of the pool unavailable."""
    async with open_lab(tmp_path) as lab:
        await prepare(lab, pool(4))
        await lab.until(lambda: is_settled(lab.store))
        old = {s.metadata.uid for s in lab.store.list(Sandbox)}
        available = _follow_available(lab.store)

        await change(lab.store, template=template(VERSION="2"))
        await lab.until(
            lambda: is_settled(lab.store) and not old & {s.metadata.uid for s in live(lab.store)}
        )

    assert min(available) == 3
    assert {s.spec.env["VERSION"] for s in live(lab.store)} == {"2"}


async def test_on_delete_leaves_what_there_is(tmp_path: Path) -> None:
    """With OnDelete a changed template reaches a sandbox only when somebody deletes one."""
    async with open_lab(tmp_path) as lab:
        await prepare(lab, pool(2, updatePolicy="OnDelete"))
        await lab.until(lambda: is_settled(lab.store))
        old = {s.metadata.uid for s in lab.store.list(Sandbox)}

        await change(lab.store, template=template(VERSION="2"))
        await lab.until(lambda: current(lab.store).status.updated_replicas == 0)
        await lab.idle()
        untouched = {s.metadata.uid for s in live(lab.store)}
        await lab.store.delete(Sandbox, lab.store.list(Sandbox)[0].metadata.name)
        await lab.until(
            lambda: is_settled(lab.store) and current(lab.store).status.updated_replicas == 1
        )

    assert untouched == old


async def test_a_broken_template_stops_after_one(tmp_path: Path) -> None:
    """A template that cannot work costs one sandbox; the pool says why, and mending it goes on."""
    async with open_lab(tmp_path) as lab:
        await prepare(lab, pool(3))
        await lab.until(lambda: is_settled(lab.store))

        await change(lab.store, template={"spec": {"profile": "missing"}})
        await lab.until(lambda: current(lab.store).status.is_true("Stalled"))
        await lab.idle()
        broken = current(lab.store).status
        await change(lab.store, template=template(VERSION="2"))
        await lab.until(lambda: is_settled(lab.store) and broken.replicas == 3)
        mended = current(lab.store).status

    assert (broken.ready_replicas, broken.updated_replicas, broken.failed_replicas) == (2, 1, 1)
    stalled = broken.condition("Stalled")
    assert stalled is not None
    assert "missing" in stalled.message
    assert not broken.is_true("Reconciling")
    assert (mended.ready_replicas, mended.updated_replicas, mended.failed_replicas) == (3, 3, 0)


async def test_a_silent_host_is_not_taken_for_a_dead_one(tmp_path: Path) -> None:
    """While nobody knows how a sandbox is, a changed template does not delete it."""
    async with open_lab(tmp_path) as lab:
        await prepare(lab, pool(2))
        await lab.until(lambda: is_settled(lab.store))
        old = {s.metadata.uid for s in lab.store.list(Sandbox)}
        lab.world.cut.add("h1")
        lab.observer.notice("h1", *old)
        await lab.until(lambda: current(lab.store).status.ready_replicas == 0)

        await change(lab.store, template=template(VERSION="2"))
        await lab.until(lambda: current(lab.store).status.updated_replicas == 0)
        await lab.idle()

        assert {s.metadata.uid for s in live(lab.store)} == old


async def test_a_template_the_store_refuses_is_told(tmp_path: Path) -> None:
    """Annotations too big for a sandbox are said in Stalled, and nothing is made."""
    async with open_lab(tmp_path) as lab:
        notes = {"metadata": {"annotations": {"note": "x" * 300_000}}}
        await prepare(lab, pool(2, template=notes))

        await lab.until(lambda: current(lab.store).status.is_true("Stalled"))

        stalled = current(lab.store).status.condition("Stalled")
        assert stalled is not None
        assert "annotations" in stalled.message
        assert lab.store.list(Sandbox) == []


async def test_one_pass_makes_a_bounded_number(tmp_path: Path) -> None:
    """A hundred and twenty sandboxes come in several transactions, and not one too many."""
    async with open_lab(tmp_path, wants=lambda key: key.kind == "SandboxPool") as lab:
        # Sandboxes of a wanted pool are worked on as well; without a profile they are refused.
        await lab.store.create(pool(120))

        await lab.until(lambda: current(lab.store).status.replicas == 120)
        await lab.idle()

        assert len(lab.store.list(Sandbox)) == 120
        made = [e for e in lab.store.list(Event) if e.reason == "SandboxesCreated"]
        assert len(made) == 3


async def test_a_process_that_wants_a_pool_works_on_its_sandboxes(tmp_path: Path) -> None:
    """A command that waits for a pool makes its sandboxes too, and no others."""
    async with open_lab(tmp_path, wants=lambda key: key.kind != "Sandbox") as lab:
        stranger = Sandbox.parse(
            {"apiVersion": API_VERSION, "kind": "Sandbox", "metadata": {"name": "stranger"},
             "spec": {"profile": "fake"}}
        )  # fmt: skip
        await lab.store.create(stranger)
        await prepare(lab, pool(2))
        await lab.until(lambda: is_settled(lab.store))

        assert lab.sandbox("stranger").status.conditions == ()


@pytest.mark.parametrize("what", ["scale-up", "scale-down", "template"])
async def test_dying_anywhere_leaves_the_number(tmp_path: Path, what: str) -> None:
    """Killed at any suspension of its passes, the successor's pool ends with exactly its number."""
    suspension, finished = 0, False

    while not finished:
        finished, names = await _life(tmp_path / str(suspension), what, suspension)

        assert len(names) == {"scale-up": 7, "scale-down": 1, "template": 3}[what]
        suspension += 1

    assert suspension > 2


async def test_two_processes_do_not_overshoot(tmp_path: Path) -> None:
    """Two engines on one store, each with a view of its own, make what is wanted and no more."""
    async with open_lab(tmp_path) as one:
        store = await Store.open(tmp_path / "store.db", clock=one.clock)
        locks = KeyLocks(tmp_path / "locks")
        two = make_engine(store, FakeObserver(one.world), one.clock, locks)
        running = asyncio.create_task(two.run())
        made = _follow_made(store)
        try:
            await prepare(one, pool(1))
            for replicas in (9, 17, 30):
                await change(one.store, replicas=replicas)
                await one.until(lambda: is_settled(one.store))
        finally:
            await two.stop(budget_s=1.0)
            await running
            await store.close()
            locks.close()

    assert len(made) == 30


async def test_a_view_that_lags_makes_nothing_twice(tmp_path: Path) -> None:
    """A process that has not heard what another one made a moment ago counts it nevertheless."""
    clock, locks = ManualClock(), KeyLocks(tmp_path / "locks")
    stores = [await Store.open(tmp_path / "store.db", clock=clock) for _ in range(2)]
    observer = FakeObserver(FakeWorld())
    engines = [make_engine(store, observer, clock, locks) for store in stores]
    for engine in engines:
        engine.wakeups.start()
    await stores[0].create(pool(5))
    await stores[1].write([])

    for engine in engines:
        await engine.pools.reconcile(pool().key)
    made = [len(store.list(Sandbox)) for store in stores]
    for engine, store in zip(engines, stores, strict=True):
        await _close(engine, store)
    locks.close()

    assert made == [5, 5]


async def test_a_sandbox_taken_out_at_the_last_moment_is_not_deleted(tmp_path: Path) -> None:
    """Between counting and deleting somebody removes a reference, and keeps the sandbox."""
    clock, locks = ManualClock(), KeyLocks(tmp_path / "locks")
    store = await MeddlingStore.open(tmp_path / "store.db", clock=clock)
    assert isinstance(store, MeddlingStore)
    engine = make_engine(store, FakeObserver(FakeWorld()), clock, locks)
    engine.wakeups.start()
    await store.create(pool(1))
    await engine.pools.reconcile(pool().key)
    await change(store, replicas=0)

    store.meddle = lambda: _take_out(store)
    with pytest.raises(ConflictError):
        await engine.pools.reconcile(pool().key)
    await engine.pools.reconcile(pool().key)
    left = [s.metadata.owner_references for s in live(store)]
    await _close(engine, store)
    locks.close()

    assert left == [()]


async def _close(engine: Engine, store: Store) -> None:
    engine.wakeups.stop()
    for queue in engine.queues:
        queue.shutdown(discard=True)
    await store.close()


def _uid(store: Store, obj: Sandbox) -> str | None:
    found = store.get(Sandbox, obj.metadata.name)
    return found.metadata.uid if found is not None else None


async def _take_out(store: Store) -> Sandbox:
    """Remove the ownerReference of one sandbox of the pool, as a person would."""
    for _ in range(100):
        found = store.list(Sandbox)[0]
        metadata = found.metadata.model_copy(update={"owner_references": ()})
        taken = found.model_copy(update={"metadata": metadata})
        (result,) = await store.write([Update(taken)])
        if isinstance(result, Sandbox):
            return result
    raise AssertionError("it changed all the time")


def _follow_available(store: Store) -> list[int]:
    """Return a list that grows with each commit: how many sandboxes are Ready and stay."""
    counts: list[int] = []

    def count(_change: Change) -> None:
        counts.append(sum(s.status.is_true("Ready") for s in live(store)))

    store.subscribe(count)
    return counts


def _follow_made(store: Store) -> set[str]:
    """Return a set that gets the uid of every sandbox ever made."""
    made: set[str] = set()

    def note(change: Change) -> None:
        if change.entry.key.kind == "Sandbox" and change.type == "ADDED":
            made.add(change.entry.uid)

    store.subscribe(note)
    return made


async def _life(path: Path, what: str, suspension: int) -> tuple[bool, Sequence[str]]:
    """Change a pool of three, die at one suspension, let a successor finish; return its names."""
    clock, locks, world = ManualClock(), KeyLocks(path / "locks"), FakeWorld()
    store = await Store.open(path / "store.db", clock=clock)

    first = make_engine(store, FakeObserver(world), clock, locks)
    first.wakeups.start()
    await store.create(pool(3))
    await _passes(first, lambda: len(live(store)) == 3)
    specs: dict[str, dict[str, Any]] = {
        "scale-up": {"replicas": 7},
        "scale-down": {"replicas": 1},
        "template": {"template": template(VERSION="2")},
    }
    await change(store, **specs[what])
    finished = await CrashAt(first.pools.reconcile(pool().key), suspension)
    first.wakeups.stop()

    second = make_engine(store, FakeObserver(world), clock, locks)
    second.wakeups.start()
    wanted = current(store).spec.replicas
    await _passes(second, lambda: len(live(store)) == wanted)
    names = [s.metadata.name for s in live(store)]
    for queue in first.queues:
        queue.shutdown(discard=True)
    await _close(second, store)
    locks.close()
    return finished, names


async def _passes(engine: Engine, until: Callable[[], bool]) -> None:
    """Run passes over the pool, at least two, until something holds."""
    for _ in range(20):
        await engine.pools.reconcile(pool().key)
        await engine.pools.reconcile(pool().key)
        if until():
            return
    raise AssertionError("it does not come to hold")
