"""Room on a full disk is made when its owner asked for it, by the controller, now and then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from sandboxer.errors import TransientError
from sandboxer.extension import Pruned, Pruning
from sandboxer.kinds.event import Event
from sandboxer.kinds.host import Host, HostLoad
from sandboxer.session import Session
from sandboxer.testing.builders import host, profile, sandbox
from sandboxer.testing.fake import FakeExtension, FakeObserver, FakeReport, FakeWorld
from tests.integration.engine_lab import Lab, open_lab

GIB = 2**30
FULL_STORE = HostLoad(
    disk_total_bytes=100 * GIB, disk_free_bytes=50 * GIB,
    store_disk_total_bytes=100 * GIB, store_disk_free_bytes=10 * GIB,
)  # fmt: skip
FULL_WORK_ROOT = HostLoad(
    disk_total_bytes=100 * GIB, disk_free_bytes=10 * GIB,
    store_disk_total_bytes=100 * GIB, store_disk_free_bytes=50 * GIB,
)  # fmt: skip


@dataclass
class DiskWorld(FakeWorld):
    """A world with disks, and images to remove."""

    load: HostLoad = field(default_factory=lambda: FULL_STORE)
    asked: list[Pruning] = field(default_factory=list)
    answer: Pruned | Exception = field(default_factory=Pruned)


class PruningExtension(FakeExtension):
    """Says what it would remove."""

    capabilities = frozenset({"suspend", "prune"})
    world: DiskWorld

    async def prune(self, session: Session, pruning: Pruning) -> Pruned:
        """Note what was asked, and answer."""
        self.world.asked.append(pruning)
        if isinstance(self.world.answer, Exception):
            raise self.world.answer
        return self.world.answer


class DiskObserver(FakeObserver):
    """Sees the disks."""

    world: DiskWorld

    async def probe(self, host: Host, *, extensions: Collection[str]) -> FakeReport:
        """Answer with the world's load."""
        return replace(await super().probe(host, extensions=extensions), load=self.world.load)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(
        tmp_path, world=DiskWorld(), extension=PruningExtension, observer_type=DiskObserver,
        orphan_grace_s=120.0,
    ) as opened:  # fmt: skip
        await opened.store.create(profile())
        yield opened


def world_of(lab: Lab) -> DiskWorld:
    assert isinstance(lab.world, DiskWorld)
    return lab.world


async def probed(lab: Lab, **disk: Any) -> None:
    """Let a host with these limits be probed for a while."""
    await lab.store.create(host(disk=disk))
    await lab.until(lambda: lab.observer.probes >= 3, step_s=5.0)
    await lab.idle()


def told(lab: Lab) -> dict[str, tuple[str, int]]:
    """Return message and count of each event, by its reason."""
    return {event.reason: (event.message, event.count) for event in lab.store.list(Event)}


async def test_nothing_is_removed_unless_asked(lab: Lab) -> None:
    """A full disk alone removes nothing that is not ours."""
    await probed(lab)

    assert world_of(lab).asked == []
    assert "DiskPressure" in told(lab)


async def test_room_is_made_down_to_the_low_mark(lab: Lab) -> None:
    """What is to be free follows from the low watermark, and the list of what stays is passed on."""
    world_of(lab).answer = Pruned(removed=("a:1", "b:1"), kept=1, freed_bytes=3 * GIB)
    await probed(lab, prune="Unused", lowWatermark=70, keepImages=["debian"])

    assert world_of(lab).asked == [Pruning(free_bytes=30 * GIB, keep_images=("debian",))]
    assert told(lab)["ImagesPruned"][0] == (
        "ext.fake removed 2 images that nobody used (a:1, b:1); 3.0 GiB more are free. "
        "1 more were refused by the engine."
    )


async def test_it_is_tried_every_five_minutes_only(lab: Lab) -> None:
    """With nothing to remove an engine is not asked with every probe, and a person is told."""
    await probed(lab, prune="Unused")
    first = len(world_of(lab).asked)
    probes = lab.observer.probes
    await lab.until(lambda: lab.observer.probes > probes + 30, step_s=5.0)
    await lab.idle()

    assert first == 1
    assert 2 <= len(world_of(lab).asked) <= 3
    message, count = told(lab)["NothingToPrune"]
    assert message == "ext.fake found no unused image that may be removed."
    assert count == len(world_of(lab).asked)


async def test_images_do_not_fill_the_work_root(lab: Lab) -> None:
    """While only the other disk is full, removing images would be in vain."""
    world_of(lab).load = FULL_WORK_ROOT
    await probed(lab, prune="Unused")

    assert world_of(lab).asked == []
    assert "DiskPressure" in told(lab)


@pytest.mark.parametrize(
    ("error", "word"),
    [(TransientError("The engine hangs."), "The engine hangs."), (KeyError("Id"), "KeyError")],
)
async def test_failure_is_told_and_costs_nothing_else(
    lab: Lab, error: Exception, word: str
) -> None:
    """An engine that cannot say what is used, and a bug, are events; the host goes on."""
    world_of(lab).answer = error
    await probed(lab, prune="Unused")
    found = lab.store.get(Host, "h1")

    assert word in told(lab)["PruneFailed"][0]
    assert found is not None
    assert found.status.is_true("Reachable")


async def test_full_host_takes_nothing_new_and_keeps_what_it_has(lab: Lab) -> None:
    """What runs there is looked after; what is new waits, says why, and comes once there is room."""
    world_of(lab).load = FULL_WORK_ROOT.model_copy(update={"disk_free_bytes": 50 * GIB})
    await lab.store.create(host())
    await lab.store.create(sandbox("old"))
    await lab.until(lambda: lab.is_true("Ready", "old"))
    world_of(lab).load = FULL_WORK_ROOT
    await lab.until(lambda: "DiskPressure" in told(lab), step_s=5.0)
    await lab.store.create(sandbox("new"))
    uid = lab.sandbox("old").metadata.uid
    lab.world.change(uid, "Stopped")
    lab.observer.notice("h1", uid)
    await lab.until(lambda: lab.sandbox("old").status.repairs == 1)
    await lab.idle()
    routed = lab.sandbox("new").status.condition("Routed")
    world_of(lab).load = FULL_WORK_ROOT.model_copy(update={"disk_free_bytes": 50 * GIB})
    await lab.until(lambda: lab.is_true("Ready", "new"), step_s=5.0)

    assert routed is not None
    assert "the host has a full disk. The disk of the work root has 90 %" in routed.message
    assert lab.is_true("Ready", "old")
