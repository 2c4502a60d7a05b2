"""What engines and hosts share: workers, and the ports of a host."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from sandboxer.engine import Engine
from sandboxer.errors import Waiting
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import SandboxStatus
from sandboxer.store import KeyLocks, Store
from sandboxer.testing.builders import host, profile, sandbox
from sandboxer.testing.fake import FakeObserver, FakeReport
from tests.integration.engine_lab import Lab, make_engine, open_lab

# More than all workers of an engine.
MANY_HOSTS = 40
MANY_SANDBOXES = 24


class BlackHoles(FakeObserver):
    """Hosts named `hole-…` swallow a probe and never answer."""

    swallowed = 0

    async def probe(self, host: Host, *, extensions: Collection[str]) -> FakeReport:
        """Wait for ever, or answer."""
        if host.metadata.name.startswith("hole-"):
            self.swallowed += 1
            await asyncio.Event().wait()
        return await super().probe(host, extensions=extensions)


async def test_black_holes_do_not_starve_sandboxes(tmp_path: Path) -> None:
    """While probes of many hosts hang, sandboxes of another host are brought up."""
    async with open_lab(tmp_path, observer_type=BlackHoles) as lab:
        await lab.store.create(profile())
        await lab.store.create(host())
        await lab.idle()
        for number in range(MANY_HOSTS):
            await lab.store.create(host(f"hole-{number}"))
        await lab.until(lambda: getattr(lab.observer, "swallowed", 0) >= 16)

        await lab.store.create(sandbox(placement={"host": "h1"}))
        await lab.until(lambda: lab.is_true("Ready"))

        assert lab.sandbox().status.host == "h1"


@contextlib.asynccontextmanager
async def second_engine(lab: Lab, path: Path, mine: Collection[str]) -> AsyncIterator[Engine]:
    """Open the same files once more, as another process does, with an engine that is not running."""
    store = await Store.open(path / "store.db", clock=lab.clock)
    locks = KeyLocks(path / "locks")
    engine = make_engine(
        store, FakeObserver(lab.world), lab.clock, locks, wants=lambda key: key.name in mine
    )
    try:
        yield engine
    finally:
        await engine.stop(budget_s=1.0)
        await store.close()
        locks.close()


async def test_one_process_chooses_at_a_time(tmp_path: Path) -> None:
    """While one process chooses a place another one waits, and then knows what was leased."""
    async with (
        open_lab(tmp_path, wants=lambda _: False) as one,
        second_engine(one, tmp_path, ()) as two,
    ):
        two.wakeups.start()
        here, there = one.engine.reconciler.leasing, two.reconciler.leasing
        async with here.alone():
            with pytest.raises(Waiting):
                await there.alone().__aenter__()
            created = await one.store.create(sandbox())
            status = SandboxStatus(host="h1", ports={"web": 42000})
            await one.store.update_status(created.model_copy(update={"status": status}))

        async with there.alone():
            leased = two.placements.leased_ports("h1")

        assert leased == {42000}


async def test_ports_are_leased_once_by_two_processes(tmp_path: Path) -> None:
    """Two engines that place at the same moment on one host give no port away twice."""
    names = [f"s{number}" for number in range(MANY_SANDBOXES)]
    mine, theirs = {*names[::2], "h1"}, set(names[1::2])
    async with (
        open_lab(tmp_path, wants=lambda key: key.name in mine) as one,
        second_engine(one, tmp_path, theirs) as two,
    ):
        await one.store.create(profile())
        await one.store.create(host())
        await one.idle()
        running = asyncio.create_task(two.run())
        ports = [{"name": "web", "containerPort": 80}]
        await asyncio.gather(*(one.store.create(sandbox(n, ports=ports)) for n in names))
        await one.until(lambda: all(one.is_true("Ready", name) for name in names))
        await two.stop(budget_s=1.0)
        await running

        leased = [one.sandbox(name).status.ports["web"] for name in names]
        assert len(set(leased)) == len(names)
