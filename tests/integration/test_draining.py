"""Leaving hosts: one place after the other, never without another one, and never by guessing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from sandboxer.clock import SystemClock
from sandboxer.errors import UnreachableError
from sandboxer.kinds.event import Event
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import ANNOTATION_SIGNED, Condition
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Cause, Change, Store, Update
from sandboxer.testing.builders import host, profile, sandbox
from sandboxer.testing.fake import FakeObserver, FakeReport, FakeView, FakeWorld
from tests.changing import change_spec
from tests.integration.engine_lab import HELLO, Lab, open_lab

GRACE_S = 120.0


class LateEyes(FakeObserver):
    """Knows nothing of a host before its first probe, which ends after somebody wanted to know."""

    def __init__(self, world: FakeWorld) -> None:
        super().__init__(world)
        self._asked = asyncio.Event()
        self._probed: set[str] = set()

    def view(self, extension: str, host_name: str, uid: str) -> FakeView:
        """Return what is there, once the host was probed."""
        if host_name in self._probed:
            return super().view(extension, host_name, uid)
        self._asked.set()
        return FakeView(observation=None, unknown_reason="It was not looked at yet.")

    async def probe(self, host: Host, *, extensions: Collection[str]) -> FakeReport:
        """Answer after the first question."""
        await self._asked.wait()
        report = await super().probe(host, extensions=extensions)
        self._probed.add(host.metadata.name)
        return report


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """A controller that reaps orphans, host h1, and h2 which takes nothing yet."""
    async with open_lab(tmp_path, orphan_grace_s=GRACE_S) as opened:
        await opened.store.create(profile())
        await opened.store.create(host("h1"))
        await opened.store.create(host("h2", unschedulable=True))
        yield opened


async def set_host(lab: Lab, name: str, **spec: Any) -> None:
    """Change fields of a Host's spec as a user called alice."""
    found = lab.store.get(Host, name)
    assert found is not None
    document = found.to_document()
    document["spec"] |= spec
    await lab.store.write([Update(Host.parse(document), cause=Cause("user/alice", "request"))])


async def placed(lab: Lab, name: str = "hello", **spec: Any) -> str:
    """Have a sandbox that is Ready on h1, with room on h2 from now on; return its uid."""
    await lab.store.create(sandbox(name, **spec))
    await lab.until(lambda: lab.is_true("Ready", name))
    assert lab.sandbox(name).status.host == "h1"
    await set_host(lab, "h2", unschedulable=False)
    return lab.sandbox(name).metadata.uid


def leaving(lab: Lab, name: str = "hello") -> Condition | None:
    return lab.sandbox(name).status.condition("Leaving")


def stays(lab: Lab, reason: str, name: str = "hello") -> bool:
    said = leaving(lab, name)
    return said is not None and (said.status, said.reason) == ("True", reason)


def is_at(lab: Lab, where: str, name: str = "hello") -> bool:
    return lab.is_true("Ready", name) and lab.sandbox(name).status.host == where


def host_condition(lab: Lab, name: str, type_: str) -> Condition:
    found = lab.store.get(Host, name)
    assert found is not None
    condition = found.status.condition(type_)
    assert condition is not None
    return condition


async def test_moves_when_its_host_is_drained(lab: Lab) -> None:
    """A sandbox is taken away from a drained host and made anew on another, and the story says why."""
    uid = await placed(lab, ports=[{"name": "web", "containerPort": 80}])

    await set_host(lab, "h1", drain="Move")
    await lab.until(lambda: is_at(lab, "h2"))
    await lab.until(lambda: host_condition(lab, "h1", "Drained").status == "True")

    assert set(lab.world.things) == {("h2", uid)}
    assert lab.sandbox().status.destination is None
    told = {event.reason: event.message for event in lab.store.list(Event)}
    assert "Host h1 was drained by user alice at " in told["Moving"]
    assert {"Relocating", "Drained"} <= told.keys()


async def test_another_place_is_set_aside_before_anything_is_torn_down(lab: Lab) -> None:
    """When the teardown is stored, the place and the ports on the other host are leased already."""
    await placed(lab, ports=[{"name": "web", "containerPort": 80}])
    seen: list[tuple[str, dict[str, int]]] = []

    def look(change: Change) -> None:
        if change.entry.key != HELLO:
            return
        status = Sandbox.model_validate_json(change.entry.body).status
        if status.intention is not None and status.intention.action == "Teardown":
            assert status.destination is not None
            seen.append((status.destination.host, status.destination.ports))
            leased = lab.engine.placements.leased_ports("h2")
            assert leased == set(status.destination.ports.values())

    unsubscribe = lab.store.subscribe(look)
    await set_host(lab, "h1", drain="Move")
    await lab.until(lambda: is_at(lab, "h2"))
    unsubscribe()

    assert seen
    assert lab.sandbox().status.ports == seen[0][1]


async def test_stays_where_it_fits_only(lab: Lab) -> None:
    """What fits nowhere else runs on, is still repaired, and goes as soon as there is room."""
    uid = await placed(lab)
    await set_host(lab, "h2", capacity={"sandboxes": 0})

    await set_host(lab, "h1", drain="Move")
    await lab.until(lambda: stays(lab, "NoOtherPlace"))
    lab.world.change(uid, "Stopped")
    lab.observer.notice("h1", uid)
    await lab.until(lambda: lab.sandbox().status.repairs == 1 and lab.is_true("Ready"))
    said = leaving(lab)
    await set_host(lab, "h2", capacity={"sandboxes": 1})
    await lab.until(lambda: is_at(lab, "h2"))

    assert said is not None
    assert "It fits nowhere else." in said.message
    assert "ext.fake on h2: the host is full" in said.message
    assert [method for method, _, _ in lab.world.calls][:2] == ["provision", "provision"]


async def test_pinned_sandbox_stays(lab: Lab) -> None:
    """What its owner placed on that very host stays there."""
    await placed(lab, placement={"host": "h1"})

    await set_host(lab, "h1", drain="Move")
    await lab.until(lambda: stays(lab, "NoOtherPlace"))
    await lab.idle()

    assert is_at(lab, "h1")
    assert host_condition(lab, "h1", "Drained").status == "False"


async def test_two_do_not_take_one_place(lab: Lab) -> None:
    """With room for one, one goes and the other stays as it is."""
    for name in ("a", "b"):
        await lab.store.create(sandbox(name))
    await lab.until(lambda: all(lab.is_true("Ready", name) for name in ("a", "b")))
    await set_host(lab, "h2", unschedulable=False, capacity={"sandboxes": 1})

    await set_host(lab, "h1", drain="Move")
    await lab.until(lambda: any(is_at(lab, "h2", name) for name in ("a", "b")))
    await lab.until(lambda: any(stays(lab, "NoOtherPlace", name) for name in ("a", "b")))
    await lab.idle()

    assert sorted(lab.sandbox(name).status.host for name in ("a", "b")) == ["h1", "h2"]
    assert all(lab.is_true("Ready", name) for name in ("a", "b"))


async def test_drain_that_is_taken_back(lab: Lab) -> None:
    """An uncordoned host keeps what has not left it, and nothing is said of leaving any more."""
    await placed(lab)
    await set_host(lab, "h2", unschedulable=True)
    await set_host(lab, "h1", drain="Move")
    await lab.until(lambda: stays(lab, "NoOtherPlace"))

    await set_host(lab, "h1", drain="Keep")
    await lab.until(lambda: not stays(lab, "NoOtherPlace"))
    await set_host(lab, "h2", unschedulable=False)
    await lab.idle()

    said = leaving(lab)
    assert said is not None
    assert (said.status, said.reason) == ("False", "MayStay")
    assert is_at(lab, "h1")


async def test_suspended_sandbox_is_suspended_elsewhere(lab: Lab) -> None:
    """What is suspended moves too, and rests again where it came to."""
    uid = await placed(lab)
    await change_spec(lab.store, Sandbox, lab.sandbox().metadata.name, operatingMode="Suspended")
    await lab.until(lambda: lab.is_true("Suspended"))

    await set_host(lab, "h1", drain="Move")
    await lab.until(lambda: lab.sandbox().status.host == "h2" and lab.is_true("Suspended"))

    assert lab.world.observe("h2", uid).state == "Suspended"
    assert lab.world.observe("h1", uid).state == "Absent"


async def test_drained_host_that_does_not_answer_is_waited_for(lab: Lab) -> None:
    """A drain moves nothing away from a host that does not answer; it goes on when it does."""
    uid = await placed(lab)

    lab.world.cut.add("h1")
    await set_host(lab, "h1", drain="Move")
    await lab.until(lambda: not lab.is_true("HostReachable"))
    await lab.idle()
    waiting = lab.sandbox().status
    lab.world.cut.clear()
    await lab.until(lambda: is_at(lab, "h2"))

    assert waiting.host == "h1"
    assert waiting.phase == "Unknown"
    assert set(lab.world.things) == {("h2", uid)}


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_teardown_whose_answer_is_lost(lab: Lab, moment: str) -> None:
    """Cut short before or after its effect, the teardown of a move is done again, then it goes on."""
    uid = await placed(lab)
    lab.world.fail("teardown", UnreachableError("The link broke."), moment=moment)

    await set_host(lab, "h1", drain="Move")
    await lab.until(lambda: is_at(lab, "h2"))

    assert set(lab.world.things) == {("h2", uid)}
    assert ("provision", "h1", uid) not in lab.world.calls[1:]


@pytest.mark.parametrize("method", ["teardown", "provision"])
async def test_controller_that_ends_during_a_move(tmp_path: Path, method: str) -> None:
    """A controller that goes away in the middle of a move leaves what the next one needs to end it."""
    world = FakeWorld()
    async with open_lab(tmp_path, world=world) as lab:
        await lab.store.create(profile())
        await lab.store.create(host("h1"))
        await lab.store.create(host("h2", unschedulable=True))
        uid = await placed(lab)
        world.pause = _never_past(method)
        await set_host(lab, "h1", drain="Move")
        await lab.until(lambda: _intends(lab, method))

    world.pause = None
    async with open_lab(tmp_path, world=world) as lab:
        await lab.until(lambda: is_at(lab, "h2"))

        assert set(world.things) == {("h2", uid)}


def _never_past(method: str) -> Callable[[str], Awaitable[None]]:
    async def pause(called: str) -> None:
        if called == method:
            await asyncio.Event().wait()

    return pause


def _intends(lab: Lab, method: str) -> bool:
    intention = lab.sandbox().status.intention
    return intention is not None and intention.action.lower() == method


async def test_giving_a_host_up(lab: Lab) -> None:
    """Without its host a sandbox is made anew, a deletion ends, and the Host can be deleted."""
    uid = await placed(lab)
    await lab.store.create(sandbox("gone", placement={"host": "h1"}))
    await lab.until(lambda: lab.is_true("Ready", "gone"))
    dead = lab.sandbox("gone").metadata.uid
    lab.world.cut.add("h1")
    await lab.until(lambda: not lab.is_true("HostReachable"))
    await lab.store.delete(Sandbox, "gone")
    await lab.idle()

    await set_host(lab, "h1", drain="GiveUp")
    await lab.until(lambda: is_at(lab, "h2") and lab.store.get(Sandbox, "gone") is None)
    await lab.store.delete(Host, "h1")
    await lab.until(lambda: lab.store.get(Host, "h1") is None)

    told = {each.reason: each.message for each in await lab.store.transitions(uid)}
    assert "Host h1 was given up by user alice at " in told["HostGivenUp"]
    assert "It last answered at " in told["HostGivenUp"]
    last = (await lab.store.transitions(dead))[-1]
    assert "Host h1 was given up by user alice" in last.evidence["because"]
    assert len(await lab.store.tombstones(uid=dead)) == 1


async def test_what_a_given_up_host_brings_back_is_reaped(lab: Lab) -> None:
    """Copies and remains on a host that comes back go after the grace, however many they are."""
    names = [f"s{number}" for number in range(8)]
    for name in names:
        await lab.store.create(sandbox(name))
    await lab.until(lambda: all(lab.is_true("Ready", name) for name in names))
    await set_host(lab, "h2", unschedulable=False)
    uids = {name: lab.sandbox(name).metadata.uid for name in names}
    lab.world.cut.add("h1")
    await lab.until(lambda: not any(lab.is_true("HostReachable", name) for name in names))
    await lab.store.delete(Sandbox, "s0")
    await set_host(lab, "h1", drain="GiveUp")
    await lab.until(lambda: all(is_at(lab, "h2", name) for name in names[1:]))
    await lab.until(lambda: lab.store.get(Sandbox, "s0") is None)

    lab.world.cut.clear()
    lab.clock.advance(GRACE_S / 2)
    await lab.idle()
    left_in_grace = [name for name, _ in lab.world.things].count("h1")
    await lab.until(lambda: not any(name == "h1" for name, _ in lab.world.things), step_s=1.0)

    assert left_in_grace == len(names)
    assert set(lab.world.things) == {("h2", uids[name]) for name in names[1:]}
    assert all(lab.sandbox(name).status.host == "h2" for name in names[1:])


async def test_new_controller_asks_before_it_gives_up(tmp_path: Path) -> None:
    """What the Host said of silence before a restart is not believed: it is asked, and it answers."""
    world = FakeWorld()
    async with open_lab(tmp_path, world=world) as lab:
        await lab.store.create(profile())
        await lab.store.create(host("h1"))
        await lab.store.create(host("h2", unschedulable=True))
        uid = await placed(lab)
        world.cut.add("h1")
        await lab.until(lambda: not lab.is_true("HostReachable"))
    store = await Store.open(tmp_path / "store.db", clock=SystemClock())
    found = store.get(Host, "h1")
    assert found is not None
    await store.update(
        found.model_copy(update={"spec": found.spec.model_copy(update={"drain": "GiveUp"})})
    )
    await store.close()
    world.cut.clear()

    async with open_lab(tmp_path, world=world, observer_type=LateEyes) as lab:
        await lab.until(lambda: is_at(lab, "h2"))

        told = [each.reason for each in await lab.store.transitions(uid)]
        assert "HostGivenUp" not in told
        assert ("teardown", "h1", uid) in world.calls


async def test_given_up_host_that_answers_is_only_drained(lab: Lab) -> None:
    """Given up by mistake, a host that answers is left in order: torn down there, then made anew."""
    uid = await placed(lab)

    await set_host(lab, "h1", drain="GiveUp")
    await lab.until(lambda: is_at(lab, "h2"))

    assert ("teardown", "h1", uid) in lab.world.calls
    assert set(lab.world.things) == {("h2", uid)}


async def test_reboot_is_told(lab: Lab) -> None:
    """What stopped with its host is repaired, and both the host and the sandbox tell of the reboot."""
    uid = await placed(lab)

    lab.world.boots["h1"] = "2"
    lab.world.change(uid, "Stopped")
    lab.observer.notice("h1", uid)
    await lab.until(lambda: lab.sandbox().status.repairs == 1 and lab.is_true("Ready"))
    lab.world.change(uid, "Stopped")
    lab.observer.notice("h1", uid)
    await lab.until(lambda: lab.sandbox().status.repairs == 2 and lab.is_true("Ready"))
    await lab.until(lambda: "HostRebooted" in {e.reason for e in host_events(lab)})

    told = [e.reason for e in await lab.store.transitions(uid)]
    assert told.count("HostRebooted") == 1
    assert told.count("Drifted") == 1
    assert lab.sandbox().status.boot_id == "2"


async def test_signature_is_the_stores(lab: Lab) -> None:
    """Who drained a host is noted by the store, and nobody can write it."""
    await lab.idle()
    await set_host(lab, "h1", drain="Move")
    found = lab.store.get(Host, "h1")
    assert found is not None
    metadata = found.metadata.model_copy(
        update={"annotations": {ANNOTATION_SIGNED: "user mallory"}}
    )

    forged = await lab.store.update(found.model_copy(update={"metadata": metadata}))

    assert forged.metadata.annotations[ANNOTATION_SIGNED].startswith("user alice at ")


def host_events(lab: Lab) -> list[Event]:
    return [event for event in lab.store.list(Event) if event.involved_object.kind == "Host"]
