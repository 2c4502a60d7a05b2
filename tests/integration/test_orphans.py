"""Orphans: the controller reaps what it knows to be dead, and nothing else, ever."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandboxer.engine.marks import HELD_ABOVE, RETRY_S
from sandboxer.engine.orphans import HELD, SWEEP_S
from sandboxer.engine.plan import COPY_ELSEWHERE
from sandboxer.errors import TransientError
from sandboxer.extension import (
    LABEL_ENVIRONMENT,
    LABEL_EXTENSION,
    LABEL_NAME,
    LABEL_NAMESPACE,
    LABEL_UID,
)
from sandboxer.kinds.event import Event
from sandboxer.kinds.host import Host, HostFacts
from sandboxer.kinds.meta import Condition, Key
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import KeyLocks
from sandboxer.store.backup import back_up, restore
from sandboxer.testing.builders import host, profile, sandbox
from sandboxer.testing.fake import FAKE_EXTENSION, FakeObserver, FakeReport, FakeWorld, Thing
from tests.changing import change_spec
from tests.integration.engine_lab import Lab, open_lab

GRACE_S = 120.0
# Time enough for several probes beyond the grace, at their default interval of 15 s.
LONG_S = GRACE_S + 60
STEP_S = 5.0


class NamedMachines(FakeObserver):
    """Every host is a machine of its own name, but for `alias-of-…`."""

    async def probe(self, host: Host, *, extensions: object) -> FakeReport:
        """Answer with the machine's own name."""
        report = await super().probe(host, extensions=())
        hostname = host.metadata.name.removeprefix("alias-of-")
        return replace(report, facts=HostFacts(boot_id="1", work_root="/f", hostname=hostname))


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """A controller with two hosts, which reaps orphans."""
    async with open_lab(tmp_path, orphan_grace_s=GRACE_S, observer_type=NamedMachines) as lab:
        await lab.store.create(profile())
        for name in ("h1", "h2"):
            await lab.store.create(host(name))
        yield lab


async def made(lab: Lab, name: str = "hello", at: str = "h1") -> tuple[str, Thing]:
    """Have a sandbox that is Ready; return its uid and what is there of it."""
    await lab.store.create(sandbox(name, placement={"host": at}))
    await lab.until(lambda: lab.is_true("Ready", name))
    uid = lab.sandbox(name).metadata.uid
    return uid, lab.world.things[at, uid]


async def gone(lab: Lab, name: str = "hello") -> None:
    """Delete a sandbox and wait until it is gone."""
    await lab.store.delete(Sandbox, name, "default")
    await lab.until(lambda: lab.store.get(Sandbox, name) is None)


async def orphan(lab: Lab, name: str = "hello", at: str = "h1") -> str:
    """Have something there of a sandbox that was deleted, as if a machine had brought it back."""
    uid, thing = await made(lab, name, at)
    await gone(lab, name)
    lab.world.things[at, uid] = thing
    return uid


def stranger(lab: Lab, at: str = "h1", **labels: str) -> str:
    """Have something there that this store never made; return its uid."""
    uid = str(uuid.uuid4())
    known = {
        LABEL_UID: uid, LABEL_NAMESPACE: "default", LABEL_NAME: f"s-{uid[:8]}",
        LABEL_ENVIRONMENT: lab.store.environment, LABEL_EXTENSION: FAKE_EXTENSION,
    }  # fmt: skip
    lab.world.things[at, uid] = Thing(state="Running", spec_hash="0", labels=known | labels)
    return uid


def reaped(lab: Lab) -> list[str]:
    """Return the uids an extension was asked to reap."""
    return [uid for method, _, uid in lab.world.calls if method == "reap"]


async def set_host(lab: Lab, name: str, **spec: Any) -> None:
    """Change fields of a Host's spec."""
    await change_spec(lab.store, Host, name, **spec)


def held(lab: Lab, name: str = "h1") -> Condition | None:
    """Return what a host says of orphans that are left alone."""
    found = lab.store.get(Host, name)
    assert found is not None
    return found.status.condition(HELD)


def is_held(lab: Lab) -> bool:
    """Tell whether h1 says that orphans are left alone."""
    condition = held(lab)
    return condition is not None and condition.status == "True"


async def pass_time(lab: Lab, seconds: float) -> None:
    """Let time pass, and everything that becomes due be done."""
    for _ in range(round(seconds / STEP_S)):
        lab.clock.advance(STEP_S)
        await lab.idle()


async def test_an_orphan_is_reaped_after_the_grace(lab: Lab) -> None:
    """It goes once it was seen for the whole grace, not before, and the host tells why."""
    await made(lab, "stays")
    uid = await orphan(lab)

    await pass_time(lab, GRACE_S - STEP_S)
    assert reaped(lab) == []
    # A probe comes every 15 s, a tenth later at most.
    await pass_time(lab, 40)
    assert reaped(lab) == [uid]

    assert ("h1", uid) not in lab.world.things
    await lab.until(lambda: "OrphanReaped" in {e.reason for e in lab.store.list(Event)})
    (event,) = [e for e in lab.store.list(Event) if e.reason == "OrphanReaped"]
    assert event.involved_object.name == "h1"
    for evidence in ("default/hello", uid, FAKE_EXTENSION, "1 process", "No sandbox", "seen for"):
        assert evidence in event.message


async def test_a_host_that_flapped_begins_the_grace_anew(lab: Lab) -> None:
    """A host that did not answer in between has to show the orphan for the whole grace again."""
    await made(lab, "stays")
    await orphan(lab)
    await pass_time(lab, GRACE_S - 20)

    lab.world.cut.add("h1")
    await pass_time(lab, 20)
    lab.world.cut.clear()
    await pass_time(lab, GRACE_S - 20)

    assert reaped(lab) == []
    await lab.until(lambda: len(reaped(lab)) == 1, step_s=STEP_S)


async def test_an_orphan_of_an_extension_without_sandboxes_is_found(lab: Lab) -> None:
    """The last sandbox of an extension on a host leaves nobody who would ask it, and it is asked."""
    # It was asked before it was in use, and the next routine question is far.
    await pass_time(lab, 60)
    uid = await orphan(lab, at="h2")
    assert not lab.engine.placements.extensions_on("h2")

    await pass_time(lab, LONG_S)

    assert LONG_S + 60 < SWEEP_S
    assert reaped(lab) == [uid]


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param({LABEL_ENVIRONMENT: "elsewhere"}, id="another-installation"),
        pytest.param({LABEL_ENVIRONMENT: ""}, id="no-environment"),
        pytest.param({LABEL_EXTENSION: "ext.other"}, id="another-extension"),
    ],
)
async def test_what_is_not_ours_is_left_alone(lab: Lab, labels: dict[str, str]) -> None:
    """What is labelled otherwise is neither touched nor counted."""
    await made(lab)
    uid = stranger(lab, **labels)

    await pass_time(lab, LONG_S)

    assert reaped(lab) == []
    assert ("h1", uid) in lab.world.things
    assert held(lab) is None


async def test_what_the_store_never_heard_of_is_held(lab: Lab) -> None:
    """After a restored backup the things made since are somebody's work: said, and left alone."""
    await made(lab)
    uid = stranger(lab)

    await lab.until(lambda: is_held(lab), step_s=STEP_S)
    await pass_time(lab, LONG_S)

    condition = held(lab)
    assert condition is not None
    assert (condition.reason, reaped(lab)) == ("NotRemembered", [])
    assert "reap-stale" in condition.message
    lab.world.change(uid, "Absent")
    await lab.until(lambda: not is_held(lab), step_s=STEP_S)


async def test_many_orphans_at_once_are_held(lab: Lab) -> None:
    """A store that is wrong must not empty a host; when few are left they go."""
    await made(lab, "stays")
    uids = [await orphan(lab, f"o{number}") for number in range(HELD_ABOVE + 1)]

    await lab.until(lambda: is_held(lab), step_s=STEP_S)
    await pass_time(lab, LONG_S)
    condition = held(lab)
    assert condition is not None
    assert (condition.reason, reaped(lab)) == ("TooMany", [])

    lab.world.change(uids[0], "Absent")
    await lab.until(lambda: sorted(reaped(lab)) == sorted(uids[1:]), step_s=STEP_S)


async def test_a_copy_nobody_left_there_is_held(lab: Lab) -> None:
    """A copy the store cannot explain may be the newer one; it goes when its sandbox is deleted."""
    uid, thing = await made(lab, at="h2")
    await made(lab, "other", at="h1")
    lab.world.things["h1", uid] = thing

    await pass_time(lab, LONG_S)
    condition = held(lab)
    assert condition is not None
    assert (condition.reason, reaped(lab)) == ("NotRemembered", [])
    assert "may be newer" in condition.message

    await gone(lab)
    await lab.until(lambda: reaped(lab) == [uid], step_s=STEP_S)


async def test_a_restored_backup_neither_reaps_nor_doubles_what_moved_since(tmp_path: Path) -> None:
    """The store names the old host; the sandbox on the new one stays, and no second one is made."""
    world = FakeWorld()
    async with open_lab(tmp_path, world=world, orphan_grace_s=GRACE_S) as lab:
        await lab.store.create(profile())
        await lab.store.create(host("h1"))
        await lab.store.create(host("h2", unschedulable=True))
        await lab.store.create(sandbox())
        await lab.until(lambda: lab.is_true("Ready"))
        uid = lab.sandbox().metadata.uid
        await asyncio.to_thread(back_up, tmp_path / "store.db", tmp_path / "copy")
        await set_host(lab, "h2", unschedulable=False)
        await set_host(lab, "h1", drain="Move")
        await lab.until(lambda: lab.is_true("Ready") and lab.sandbox().status.host == "h2")
    restore(tmp_path / "copy", tmp_path / "store.db", replace=True)
    world.calls.clear()

    async with open_lab(tmp_path, world=world, orphan_grace_s=GRACE_S) as lab:
        await lab.until(lambda: lab.is_true("Drifted") and held(lab, "h2") is not None, step_s=1.0)
        await pass_time(lab, LONG_S)
        assert (world.calls, set(world.things)) == ([], {("h2", uid)})
        drifted, stated = lab.sandbox().status.condition("Drifted"), held(lab, "h2")
        assert drifted is not None
        assert stated is not None
        assert (drifted.reason, stated.reason) == (COPY_ELSEWHERE, "NotRemembered")

        world.change(uid, "Absent")
        await lab.until(lambda: lab.is_true("Ready"), step_s=STEP_S)
        assert set(world.things) == {("h1", uid)}


async def test_two_hosts_for_one_machine_do_not_reap_each_other(lab: Lab) -> None:
    """What is seen through a second Host of the same machine is the sandbox itself."""
    await lab.store.create(host("alias-of-h1"))
    await made(lab, "other", at="alias-of-h1")
    uid, thing = await made(lab, at="h1")
    lab.world.things["alias-of-h1", uid] = thing

    await pass_time(lab, LONG_S)

    assert reaped(lab) == []
    stated = held(lab, "alias-of-h1")
    assert stated is not None
    assert stated.reason == "MayBeOurs"


async def test_the_copy_of_a_sandbox_whose_host_is_silent_is_kept(lab: Lab) -> None:
    """As long as nobody knows what is on the sandbox's own host, its only visible copy stays."""
    uid, thing = await made(lab, at="h2")
    await made(lab, "other", at="h1")
    lab.world.cut.add("h2")
    lab.world.things["h1", uid] = thing

    await pass_time(lab, LONG_S)

    assert reaped(lab) == []


async def test_a_sandbox_others_work_on_is_waited_for(lab: Lab, tmp_path: Path) -> None:
    """While another process holds the key of that name, nothing is taken away."""
    await made(lab, "stays")
    uid = await orphan(lab)
    others = KeyLocks(tmp_path / "locks")
    with others.try_key(Key("Sandbox", "default", "hello")) as mine:
        assert mine
        await pass_time(lab, LONG_S)
        assert reaped(lab) == []
    others.close()

    await lab.until(lambda: reaped(lab) == [uid], step_s=STEP_S)


async def test_a_namesake_is_not_mistaken_for_the_orphan(lab: Lab) -> None:
    """A sandbox made anew under the name of an orphan stays when the orphan goes."""
    old = await orphan(lab)
    new, _ = await made(lab)

    await lab.until(lambda: reaped(lab) == [old], step_s=STEP_S)
    await pass_time(lab, 30)

    assert ("h1", new) in lab.world.things
    assert lab.is_true("Ready")


async def test_a_failure_is_told_and_tried_again(lab: Lab) -> None:
    """An orphan that cannot be removed is one warning of its host for each reason, and goes later."""
    uid = await orphan(lab)
    for error in (TransientError("1 % is free."), TransientError("2 % are."), ValueError("a bug")):
        lab.world.fail("reap", error)

    await lab.until(lambda: ("h1", uid) not in lab.world.things, step_s=STEP_S)

    told = [e.message for e in lab.store.list(Event) if e.reason == "ReapFailed"]
    assert sorted(("1 %" in each, "ValueError" in each) for each in told) == [
        (False, True),
        (True, False),
    ]
    found = lab.store.get(Host, "h1")
    assert found is not None
    assert found.status.is_true("Reachable")
    await lab.idle()
    story = [(each.by, each.reason) for each in await lab.store.transitions(uid)]
    assert story[-2:] == [("controller", "Reaping"), ("controller", "Reaped")]


async def test_one_that_cannot_be_removed_does_not_hold_up_the_others(lab: Lab) -> None:
    """A pass ends with the first failure; the others come next, and that one after a while."""
    uids = {await orphan(lab, f"o{number}") for number in range(3)}
    lab.world.fail("reap", TransientError("It hangs."))
    probes_before: list[int] = []

    async def note(method: str) -> None:
        if method == "reap":
            probes_before.append(lab.observer.probes)

    lab.world.pause = note
    await pass_time(lab, LONG_S)
    assert len(probes_before) == 3
    assert probes_before[0] < probes_before[1]
    (left,) = uids - set(reaped(lab))
    await pass_time(lab, GRACE_S + RETRY_S - LONG_S - STEP_S)
    assert ("h1", left) in lab.world.things

    await pass_time(lab, 60)
    assert ("h1", left) not in lab.world.things


async def test_a_command_reaps_nothing(tmp_path: Path) -> None:
    """An engine that is not the controller's leaves orphans alone."""
    async with open_lab(tmp_path) as lab:
        await lab.store.create(profile())
        await lab.store.create(host())
        await made(lab, "stays")
        await orphan(lab)

        await pass_time(lab, LONG_S)

        assert reaped(lab) == []
