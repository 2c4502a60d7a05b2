"""A real host that is cut off, hangs, loses its power or is left: nothing doubled, nothing lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest

from sandboxer.kinds.event import Event
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import API_VERSION, Condition
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.manager import Manager
from sandboxer.manager.engine import running
from sandboxer.settings import Settings
from sandboxer.store import Store
from tests.changing import change_spec
from tests.rig import Rig

# Seconds; a cut link is noticed within 20 s, and a probe may wait for one more connection attempt.
PATIENCE_S = 90.0

# Lists the containers of one sandbox by their full ids, in a stable order.
CONTAINERS = "podman ps -aq --no-trunc --filter label=sandboxer.dev/uid=$UID_ | sort"

# Lists what is left on a host beside what every host has.
LEFT = (
    "podman ps -aq; podman volume ls -q; podman network ls -q | grep -vx podman; "
    "ls -A /build | grep -vx .locks; ls -A /build/.locks 2>/dev/null"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Hosts h1 and h2 under a controller, and one sandbox that may be on either."""

    rig: Rig
    store: Store
    host: str
    """Where the sandbox was placed."""
    other: str
    """Where it might be placed as well."""

    def sandbox(self) -> Sandbox:
        """Return the sandbox, which must exist."""
        found = self.store.get(Sandbox, "shop")
        assert found is not None
        return found

    def condition(self, type_: str) -> Condition:
        """Return one of its conditions, which must have been stated."""
        found = self.sandbox().status.condition(type_)
        assert found is not None
        return found

    async def ssh(self, name: str, command: str) -> str:
        """Run a shell line on a host, past the controller, and return what it printed."""
        line = f"UID_={self.sandbox().metadata.uid}; {command}"
        return (await asyncio.to_thread(self.rig.ssh, name, line)).stdout

    async def do(self, fault: Callable[[str], None]) -> None:
        """Do something to the sandbox's host."""
        await asyncio.to_thread(fault, self.host)

    async def set_host(self, name: str, drain: str) -> None:
        """Say what becomes of the sandboxes on a host."""
        await change_spec(self.store, Host, name, drain=drain)

    def is_at(self, name: str) -> bool:
        """Tell whether the sandbox is Ready on a host."""
        return is_ready(self.store) and self.sandbox().status.host == name

    async def lose_sight(self) -> None:
        """Wait until the controller no longer knows anything of the sandbox."""
        await until(lambda: self.condition("Ready").status == "Unknown")
        await until(lambda: self.condition("HostReachable").status == "False")


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds; fail when it does not in time."""
    deadline = monotonic() + PATIENCE_S
    while not holds():
        assert monotonic() < deadline, "it did not come to hold"
        await asyncio.sleep(0.05)


@pytest.fixture
async def fleet(rig: Rig, tmp_path: Path) -> AsyncIterator[Fleet]:
    """A sandbox that is Ready on one of two hosts that would both do."""
    names = {"h1", "h2"}
    for name in names:
        await asyncio.to_thread(rig.clean, name)
    settings = Settings(data_dir=tmp_path, database_url=f"sqlite:///{tmp_path / 'store.db'}")
    async with Manager.open(settings) as manager:
        await manager.register()
        async with running(manager.engine(lambda _key: True, orphan_grace_s=1.0)):
            store = manager.store
            for name in names:
                manifest = rig.hosts[name].manifest(probeInterval="1s")
                await store.create(Host.parse(manifest))
            await store.create(shop(rig))
            await until(lambda: is_ready(store))
            placed = store.get(Sandbox, "shop")
            assert placed is not None
            host = placed.status.host
            (other,) = names - {host}
            yield Fleet(rig=rig, store=store, host=host, other=other)
            for name in names:
                await asyncio.to_thread(rig.heal, name)
            if store.get(Sandbox, "shop") is not None:
                await store.delete(Sandbox, "shop")
                await until(lambda: store.get(Sandbox, "shop") is None)


def shop(rig: Rig) -> Sandbox:
    """Return a sandbox that fits every host of the rig."""
    service = {"image": rig.image, "command": "sleep 100000"}
    return Sandbox.parse(
        {
            "apiVersion": API_VERSION,
            "kind": "Sandbox",
            "metadata": {"name": "shop", "namespace": "default"},
            "spec": {
                "profile": "profile.compose-e2e",
                "placement": {"hostSelector": {"matchLabels": {"rig": "true"}}},
                "inputs": {"compose": json.dumps({"services": {"web": service}})},
            },
        }
    )


def is_ready(store: Store) -> bool:
    """Tell whether the sandbox is Ready."""
    found = store.get(Sandbox, "shop")
    return found is not None and found.status.is_true("Ready")


# A cut link is noticed after 20 s, and each test waits for that once.
@pytest.mark.timeout(300)
class TestUnreachableHost:
    async def test_cut_host_keeps_its_sandbox_and_gives_it_back(self, fleet: Fleet) -> None:
        """While its host is cut off a sandbox is unknown and made nowhere else, then Ready as it was."""
        before = await fleet.ssh(fleet.host, CONTAINERS)

        await fleet.do(fleet.rig.cut)
        await fleet.lose_sight()
        elsewhere = await fleet.ssh(fleet.other, LEFT)
        lost = fleet.sandbox()
        await fleet.do(fleet.rig.mend)
        await until(lambda: is_ready(fleet.store))

        assert before.strip()
        assert elsewhere == ""
        assert lost.status.phase == "Unknown"
        assert lost.status.host == fleet.host
        assert await fleet.ssh(fleet.host, CONTAINERS) == before
        assert fleet.sandbox().status.repairs == 0
        assert fleet.condition("HostReachable").status == "True"

    async def test_hung_host_is_unknown_until_it_goes_on(self, fleet: Fleet) -> None:
        """A server that accepts and stays silent is as unreachable as a cut one once its link is gone."""
        before = await fleet.ssh(fleet.host, CONTAINERS)

        await fleet.do(fleet.rig.reset)
        await fleet.do(fleet.rig.hang)
        await fleet.lose_sight()
        await fleet.do(fleet.rig.unreset)
        await fleet.do(fleet.rig.unhang)
        await until(lambda: is_ready(fleet.store))

        assert await fleet.ssh(fleet.host, CONTAINERS) == before

    @pytest.mark.exhaustive
    async def test_deletion_waits_for_the_host(self, fleet: Fleet) -> None:
        """Deleted while its host is cut off, a sandbox stays until it was really taken away there."""
        await fleet.do(fleet.rig.cut)
        await fleet.lose_sight()
        await fleet.store.delete(Sandbox, "shop")
        await until(lambda: fleet.sandbox().status.phase == "Terminating")
        waiting = fleet.condition("HostReachable")
        await fleet.do(fleet.rig.mend)
        await until(lambda: fleet.store.get(Sandbox, "shop") is None)

        assert waiting.status == "False"
        assert (await asyncio.to_thread(fleet.rig.ssh, fleet.host, LEFT)).stdout == ""

    @pytest.mark.exhaustive
    async def test_link_that_breaks_during_a_teardown(self, fleet: Fleet) -> None:
        """A teardown whose outcome was lost is looked at and completed when the host answers again."""
        await fleet.store.delete(Sandbox, "shop")
        await until(lambda: fleet.sandbox().status.intention is not None)
        await fleet.do(fleet.rig.reset)
        await until(lambda: fleet.condition("HostReachable").status == "False")
        await fleet.do(fleet.rig.unreset)
        await until(lambda: fleet.store.get(Sandbox, "shop") is None)

        assert (await asyncio.to_thread(fleet.rig.ssh, fleet.host, LEFT)).stdout == ""

    @pytest.mark.exhaustive
    async def test_power_loss_is_repaired(self, fleet: Fleet) -> None:
        """After a power loss the same containers are started again where they were."""
        before = await fleet.ssh(fleet.host, CONTAINERS)

        await fleet.do(fleet.rig.kill)
        await fleet.lose_sight()
        await fleet.do(fleet.rig.boot)
        await until(lambda: is_ready(fleet.store))

        running_now = await fleet.ssh(fleet.host, CONTAINERS.replace("-aq", "-q"))
        assert running_now == before
        assert await fleet.ssh(fleet.other, LEFT) == ""
        assert fleet.sandbox().status.repairs == 1

    @pytest.mark.exhaustive
    async def test_host_that_is_drained_and_one_that_is_given_up(self, fleet: Fleet) -> None:
        """Drained, it leaves nothing behind; given up, what it left is reaped when its host returns."""
        await fleet.set_host(fleet.host, "Move")
        await until(lambda: fleet.is_at(fleet.other))
        left_behind = await fleet.ssh(fleet.host, LEFT)
        await fleet.set_host(fleet.host, "Keep")
        stray = await fleet.ssh(fleet.other, CONTAINERS)
        await asyncio.to_thread(fleet.rig.kill, fleet.other)
        await fleet.lose_sight()

        await fleet.set_host(fleet.other, "GiveUp")
        await until(lambda: fleet.is_at(fleet.host))
        made_anew = await fleet.ssh(fleet.host, CONTAINERS)
        await asyncio.to_thread(fleet.rig.boot, fleet.other)
        await until(lambda: "OrphanReaped" in {each.reason for each in fleet.store.list(Event)})

        assert left_behind == ""
        assert await fleet.ssh(fleet.other, LEFT) == ""
        assert made_anew.strip()
        assert made_anew != stray
        assert await fleet.ssh(fleet.host, CONTAINERS) == made_anew
        assert fleet.is_at(fleet.host)
