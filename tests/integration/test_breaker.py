"""A host that answers and on which everything fails: it is left in peace, and comes back by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sandboxer.errors import TransientError
from sandboxer.extension import Instance, Provisioned
from sandboxer.kinds.event import Event
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.session import Session
from sandboxer.testing.builders import host, profile, sandbox
from sandboxer.testing.fake import FakeExtension, FakeWorld
from tests.changing import change_spec
from tests.integration.engine_lab import Lab, open_lab

CROWD = [f"s{number}" for number in range(8)]


@dataclass
class FailingWorld(FakeWorld):
    """A world in which hosts can be full."""

    full: set[str] = field(default_factory=set)
    tries: list[str] = field(default_factory=list)
    """Name of the sandbox of each provision on a full host."""


class FailingExtension(FakeExtension):
    """Makes nothing on a full host, and takes everything away there."""

    world: FailingWorld

    async def provision(self, session: Session, instance: Instance) -> Provisioned:
        """Fail where the disk is full."""
        if session.host in self.world.full:
            self.world.tries.append(instance.name)
            raise TransientError("No space left on device.", reason="DiskFull")
        return await super().provision(session, instance)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    world = FailingWorld(full={"h1"})
    async with open_lab(tmp_path, world=world, extension=FailingExtension) as opened:
        await opened.store.create(profile())
        await opened.store.create(host("h1"))
        yield opened


def world_of(lab: Lab) -> FailingWorld:
    assert isinstance(lab.world, FailingWorld)
    return lab.world


async def crowd(lab: Lab) -> None:
    """Have eight sandboxes fail on h1 until it is left in peace."""
    for name in CROWD:
        await lab.store.create(sandbox(name))
    await lab.until(lambda: ready_of(lab, "h1") == ("False", "ActionsFail"))
    await lab.idle()


def ready_of(lab: Lab, name: str) -> tuple[str, str]:
    """Return status and reason of a host's condition Ready."""
    found = lab.store.get(Host, name)
    ready = found.status.condition("Ready") if found is not None else None
    return (ready.status, ready.reason) if ready is not None else ("", "")


def reasons(lab: Lab, name: str) -> list[str]:
    """Return the reasons of a host's events."""
    events = [e for e in lab.store.list(Event) if e.involved_object.name == name]
    return [
        event.reason for event in sorted(events, key=lambda e: int(e.metadata.resource_version))
    ]


async def test_failing_host_is_tried_by_one_at_a_time(lab: Lab) -> None:
    """Ten minutes of eight sandboxes on a full disk cost a few tries; all say what they wait for."""
    await crowd(lab)
    opened_with = len(world_of(lab).tries)
    for _ in range(600):
        lab.clock.advance(1.0)
        await lab.idle()
    tries = len(world_of(lab).tries) - opened_with

    # One try for each that had not failed there, and then 10, 20, 40, 80, 160 and 300 s apart.
    assert 3 <= tries <= len(CROWD) + 6
    for name in CROWD:
        ready = lab.sandbox(name).status.condition("Ready")
        assert ready is not None
        assert ready.reason in ("HostFails", "DiskFull")
        assert "No space left on device." in ready.message
    assert ready_of(lab, "h1") == ("False", "ActionsFail")


async def test_mended_host_takes_everything_again(lab: Lab) -> None:
    """Once the disk has room the next try succeeds and everybody follows; both ends are events."""
    await crowd(lab)
    world_of(lab).full.clear()
    await lab.until(lambda: all(lab.is_true("Ready", name) for name in CROWD), step_s=0.5)
    await lab.until(lambda: ready_of(lab, "h1") == ("True", "Ready"))

    assert reasons(lab, "h1") == ["Ready", "ActionsFail", "ActionsWork"]


async def test_new_sandbox_goes_elsewhere(lab: Lab) -> None:
    """Another host that fits is taken although it carries more, and the reason says why."""
    await crowd(lab)
    await lab.store.create(host("h2"))
    for name in ("n1", "n2", "n3"):
        await lab.store.create(sandbox(name))
    await lab.until(lambda: all(lab.is_true("Ready", name) for name in ("n1", "n2", "n3")))

    placed = [lab.sandbox(name).status for name in ("n1", "n2", "n3")]
    assert {status.host for status in placed} == {"h2"}


async def test_without_another_host_it_waits_unplaced(lab: Lab) -> None:
    """It says which host fails and why, is bound to none, and takes another one that comes."""
    await crowd(lab)
    await lab.store.create(sandbox("new"))
    await lab.until(lambda: _routed(lab, "new") == "NoFit", step_s=0)
    routed = lab.sandbox("new").status.condition("Routed")
    await lab.store.create(host("h2"))
    await lab.until(lambda: lab.is_true("Ready", "new"), step_s=0)

    assert routed is not None
    assert "ext.fake on h1: the host fails: " in routed.message
    assert "One is tried again at 12:00:" in routed.message
    assert lab.sandbox("new").status.host == "h2"


async def test_new_sandbox_tries_as_a_last_resort(lab: Lab) -> None:
    """With nothing else it is placed there when its turn has come, and so the breaker closes."""
    await crowd(lab)
    for name in CROWD:
        await lab.store.delete(Sandbox, name)
    await lab.until(lambda: not lab.store.list(Sandbox), step_s=0)
    world_of(lab).full.clear()
    await lab.store.create(sandbox("new"))
    await lab.until(lambda: lab.is_true("Ready", "new"), step_s=0.5)
    await lab.until(lambda: ready_of(lab, "h1") == ("True", "Ready"), step_s=0)

    assert "Nothing else fits" in lab.sandbox("new").status.placement_reason


async def test_taking_away_is_never_held_back(lab: Lab) -> None:
    """While nothing can be made there, what is deleted goes, without any time passing."""
    world_of(lab).full.clear()
    await lab.store.create(sandbox("old"))
    await lab.until(lambda: lab.is_true("Ready", "old"))
    world_of(lab).full.add("h1")
    await crowd(lab)

    await lab.store.delete(Sandbox, "old")
    await lab.until(lambda: lab.store.get(Sandbox, "old") is None, step_s=0)

    assert lab.world.things == {}


async def test_what_runs_stays_ready_while_its_update_waits(lab: Lab) -> None:
    """A changed sandbox goes on as it was; a drifted one says what drifted and why it waits."""
    world_of(lab).full.clear()
    for name in ("changed", "drifted"):
        await lab.store.create(sandbox(name))
        await lab.until(lambda name=name: lab.is_true("Ready", name))  # type: ignore[misc]
    world_of(lab).full.add("h1")
    await crowd(lab)

    await change_spec(lab.store, Sandbox, "changed", inputs={"command": "other"})
    uid = lab.sandbox("drifted").metadata.uid
    lab.world.change(uid, "Stopped")
    lab.observer.notice("h1", uid)
    await lab.until(lambda: _waits(lab, "changed") and _waits(lab, "drifted"), step_s=0)
    await lab.idle()
    said = lab.sandbox("drifted").metadata.resource_version
    lab.observer.notice("h1", uid)
    await lab.idle()

    assert lab.sandbox("drifted").metadata.resource_version == said
    assert lab.sandbox("changed").status.is_true("Ready")
    assert lab.sandbox("drifted").status.is_true("Drifted")
    assert not lab.sandbox("drifted").status.is_true("Ready")


async def test_changed_document_ends_the_pause(lab: Lab) -> None:
    """Whoever mends a host and touches its document need not wait for the next try."""
    await crowd(lab)
    world_of(lab).full.clear()
    await change_spec(lab.store, Host, "h1", probeInterval="20s")

    await lab.until(lambda: all(lab.is_true("Ready", name) for name in CROWD), step_s=0)


def _routed(lab: Lab, name: str) -> str:
    found = lab.store.get(Sandbox, name)
    routed = found.status.condition("Routed") if found is not None else None
    return routed.reason if routed is not None else ""


def _waits(lab: Lab, name: str) -> bool:
    reconciling = lab.sandbox(name).status.condition("Reconciling")
    return reconciling is not None and "the host fails" in reconciling.message
