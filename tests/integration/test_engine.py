"""The engine over a real store: the life of a sandbox, and what goes wrong in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sandboxer.errors import (
    ConflictError,
    NotFoundError,
    SandboxerError,
    TerminalError,
    TransientError,
)
from sandboxer.extension import absent
from sandboxer.kinds.event import Event
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import API_VERSION, Key
from sandboxer.kinds.profile import Profile
from sandboxer.kinds.registration import Extension as Registration
from sandboxer.kinds.sandbox import Intention, Sandbox
from sandboxer.testing.builders import host, profile, sandbox
from sandboxer.testing.fake import FAKE_EXTENSION, FakeObserver, FakeView, FakeWorld
from tests.changing import change_spec
from tests.integration.engine_lab import HELLO, Lab, open_lab


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(tmp_path) as opened:
        await opened.store.create(profile())
        await opened.store.create(host())
        yield opened


async def create_ready(lab: Lab, **spec: Any) -> Sandbox:
    await lab.store.create(sandbox(**spec))
    await lab.until(lambda: lab.is_true("Ready"))
    return lab.sandbox()


async def change(lab: Lab, **fields: Any) -> Sandbox:
    return await change_spec(lab.store, Sandbox, lab.sandbox().metadata.name, **fields)


async def test_life_of_a_sandbox(lab: Lab) -> None:
    """A sandbox becomes ready, is repaired, updated, suspended, resumed and taken away."""
    created = await create_ready(lab)
    uid = created.metadata.uid
    first_hash = created.status.spec_hash

    lab.world.change(uid, "Stopped")
    lab.observer.notice("h1", uid)
    await lab.until(lambda: lab.sandbox().status.repairs == 1 and lab.is_true("Ready"))
    await change(lab, inputs={"command": "other"})
    await lab.until(lambda: lab.sandbox().status.spec_hash != first_hash and lab.is_true("Ready"))
    await change(lab, inputs={"command": "other"}, operatingMode="Suspended")
    await lab.until(lambda: lab.is_true("Suspended"))
    suspended = lab.sandbox().status.phase
    await change(lab, inputs={"command": "other"}, operatingMode="Running")
    await lab.until(lambda: lab.is_true("Ready"))
    await lab.store.delete(Sandbox, "hello")
    await lab.until(lambda: lab.store.get(Sandbox, "hello") is None)

    methods = [method for method, _, _ in lab.world.calls]
    assert methods == ["provision", "provision", "provision", "suspend", "resume", "teardown"]
    assert suspended == "Suspended"
    assert lab.world.things == {}


async def test_ready_sandbox_says_so_in_every_condition(lab: Lab) -> None:
    """A ready sandbox's conditions are all about its present generation, and kstatus-compatible."""
    ready = await create_ready(lab)

    await lab.idle()

    stated = {c.type: c.status for c in lab.sandbox().status.conditions}
    assert stated | {"Ready": "True", "Reconciling": "False", "Stalled": "False"} == stated
    assert {c.observed_generation for c in lab.sandbox().status.conditions} == {1}
    assert lab.sandbox().status.intention is None
    assert ready.status.phase == "Ready"


async def test_events_tell_the_story(lab: Lab) -> None:
    """Each change of state leaves an event."""
    await create_ready(lab)

    await lab.idle()

    reasons = {e.reason for e in lab.store.list(Event) if e.involved_object.name == "hello"}
    assert reasons >= {"Accepted", "Routed", "Provisioned", "Ready"}


async def test_lost_wake_up_costs_time_only(lab: Lab) -> None:
    """A change nobody told of is found in the end."""
    ready = await create_ready(lab)
    await lab.idle()

    lab.world.change(ready.metadata.uid, "Stopped")
    await lab.until(lambda: lab.sandbox().status.repairs == 1, step_s=60)


async def test_pass_without_change_writes_nothing(lab: Lab) -> None:
    """A sandbox that is as wished costs no write."""
    await create_ready(lab)
    await lab.idle()
    revision = lab.store.revision

    lab.engine.wakeups.resync()
    await lab.idle()

    assert lab.store.revision == revision


async def test_waits_for_readiness(lab: Lab) -> None:
    """A sandbox is ready only after its checks have passed, and stalled when they take too long."""
    lab.world.checks_needed = 10**9
    await lab.store.create(sandbox(readyTimeout="5s"))

    await lab.until(lambda: lab.is_true("Stalled"))
    stalled = lab.sandbox().status.condition("Stalled")
    lab.world.checks_needed = 0
    await lab.until(lambda: lab.is_true("Ready"))

    assert stalled is not None
    assert stalled.reason == "ReadyTimeout"
    assert not lab.is_true("Stalled")


async def test_expires(lab: Lab) -> None:
    """A sandbox whose lifetime ends is taken away."""
    await create_ready(lab, lifetime={"ttl": "1h"})

    lab.clock.advance(3500)
    await lab.idle()
    alive = lab.store.get(Sandbox, "hello")
    await lab.until(lambda: lab.store.get(Sandbox, "hello") is None, step_s=10)

    assert alive is not None
    assert lab.world.things == {}


async def test_reported_drift_is_left_alone(lab: Lab) -> None:
    """With driftPolicy Report nothing is repaired, and the conditions say what is wrong."""
    created = await create_ready(lab, driftPolicy="Report")

    lab.world.change(created.metadata.uid, "Stopped")
    lab.observer.notice("h1", created.metadata.uid)
    await lab.until(lambda: lab.is_true("Drifted"))
    await lab.idle()

    assert [method for method, _, _ in lab.world.calls] == ["provision"]
    assert not lab.is_true("Ready")
    assert lab.sandbox().status.phase == "Degraded"


async def test_unreachable_host_is_not_touched(lab: Lab) -> None:
    """Of a host that is cut off everything is unknown, and nothing is made anywhere else."""
    await lab.store.create(host("h2"))
    await create_ready(lab)
    home = lab.sandbox().status.host
    calls = list(lab.world.calls)

    lab.world.cut.add(home)
    await lab.until(lambda: lab.sandbox().status.phase == "Unknown")
    await lab.store.delete(Sandbox, "hello")
    for _ in range(20):
        lab.clock.advance(10)
        await lab.idle()
    held = lab.sandbox()
    calls_while_cut = list(lab.world.calls)
    lab.world.cut.clear()
    await lab.until(lambda: lab.store.get(Sandbox, "hello") is None)

    assert held.status.condition("HostReachable") is not None
    assert not held.status.is_true("HostReachable")
    assert calls_while_cut == calls
    assert lab.world.things == {}


async def test_transient_error_is_tried_again(lab: Lab) -> None:
    """A failure that may pass is recorded, counted and tried again until it works."""
    for _ in range(3):
        lab.world.fail(
            "provision", TransientError("The image cannot be pulled.", reason="PullFails")
        )
    await lab.store.create(sandbox())

    await lab.until(lambda: _attempts(lab) == 2)
    provisioned = lab.sandbox().status.condition("Provisioned")
    await lab.until(lambda: lab.is_true("Ready"), step_s=0.5)

    assert provisioned is not None
    assert provisioned.reason == "PullFails"


def _attempts(lab: Lab) -> int:
    found = lab.store.get(Sandbox, "hello")
    intention = found.status.intention if found is not None else None
    return intention.attempts if intention is not None else 0


async def test_unexpected_error_is_seen(lab: Lab) -> None:
    """A bug in an extension becomes a condition, and the sandbox is tried again."""
    lab.world.fail("provision", ZeroDivisionError("oops"))
    await lab.store.create(sandbox())

    await lab.until(lambda: _attempts(lab) == 1)
    reason = lab.sandbox().status.condition("Provisioned")
    await lab.until(lambda: lab.is_true("Ready"), step_s=0.5)

    assert reason is not None
    assert reason.reason == "UnexpectedError"


async def test_terminal_error_waits_for_a_change(lab: Lab) -> None:
    """A failure only a person can mend is not repeated before something changes."""
    lab.world.fail(
        "provision", TerminalError("No engine.", reason="NoEngine", remedy="Install it.")
    )
    await lab.store.create(sandbox())

    await lab.until(lambda: lab.is_true("Stalled"))
    for _ in range(20):
        lab.clock.advance(60)
        await lab.idle()
    still = lab.is_true("Stalled")
    failed = lab.sandbox().status.phase
    await change(lab, env={"A": "1"})
    await lab.until(lambda: lab.is_true("Ready"))

    assert still
    assert failed == "Failed"


async def test_stalled_sandbox_still_expires(lab: Lab) -> None:
    """The lifetime of a sandbox that failed for good ends as any other's."""
    lab.world.fail("provision", TerminalError("No engine."))
    await lab.store.create(sandbox(lifetime={"ttl": "1h"}))
    await lab.until(lambda: lab.is_true("Stalled"))

    await lab.until(lambda: lab.store.get(Sandbox, "hello") is None, step_s=10)

    assert lab.world.things == {}


async def test_wrong_input_is_refused_until_changed(lab: Lab) -> None:
    """An input nobody knows is refused with its field and a suggestion, and accepted when changed."""
    await lab.store.create(sandbox(inputs={"comand": "x"}))

    await lab.until(lambda: lab.is_true("Stalled"))
    accepted = lab.sandbox().status.condition("Accepted")
    await change(lab, inputs={"command": "x"})
    await lab.until(lambda: lab.is_true("Ready"))

    assert accepted is not None
    assert "spec.inputs.comand" in accepted.message
    assert '"command"' in accepted.message


async def test_profile_that_comes_later(lab: Lab) -> None:
    """A sandbox whose profile is missing is refused, and taken up when the profile is applied."""
    await lab.store.create(sandbox(profile="later"))
    await lab.until(lambda: lab.is_true("Stalled"))

    await lab.store.create(profile("later"))
    await lab.until(lambda: lab.is_true("Ready"))

    assert lab.is_true("Accepted")


async def test_waits_for_a_host_that_fits(lab: Lab) -> None:
    """Without a host that fits a sandbox waits, says why, and is placed when one comes."""
    await lab.store.create(sandbox(placement={"hostSelector": {"matchLabels": {"disk": "fast"}}}))
    await lab.until(lambda: _has(lab, "Routed"))
    await lab.idle()
    routed = lab.sandbox().status.condition("Routed")

    await lab.store.create(host("h2", labels={"disk": "fast"}))
    await lab.until(lambda: lab.is_true("Ready"))

    assert routed is not None
    assert "h1" in routed.message
    assert lab.sandbox().status.host == "h2"


def _has(lab: Lab, condition: str) -> bool:
    found = lab.store.get(Sandbox, "hello")
    stated = found.status.condition(condition) if found is not None else None
    return stated is not None and stated.reason == "NoFit"


async def test_moves_when_its_placement_changes(lab: Lab) -> None:
    """A sandbox that asks for another host is torn down on the old one before it is made there."""
    await lab.store.create(host("h2"))
    await create_ready(lab, placement={"host": "h1"})

    await change(lab, placement={"host": "h2"})
    await lab.until(lambda: lab.sandbox().status.host == "h2" and lab.is_true("Ready"))

    assert [host for _, host, _ in lab.world.calls] == ["h1", "h1", "h2"]
    assert {host for host, _ in lab.world.things} == {"h2"}


async def test_moves_on_when_a_host_that_fits_comes_later(lab: Lab) -> None:
    """Taken away where it may not stay, a sandbox holds no place there and takes the next that fits."""
    await create_ready(lab, ports=[{"name": "web", "containerPort": 80}])

    await change(lab, placement={"hostSelector": {"matchLabels": {"disk": "fast"}}})
    await lab.until(lambda: _has(lab, "Routed"))
    await lab.idle()
    homeless = lab.sandbox().status
    await lab.store.create(host("h2", labels={"disk": "fast"}))
    await lab.until(lambda: lab.is_true("Ready"))

    assert (homeless.host, homeless.extension, homeless.ports) == ("", "", {})
    assert lab.sandbox().status.host == "h2"


class StaleObserver(FakeObserver):
    """Remembers a look from before anything was there."""

    def view(self, _extension: str, _host_name: str, uid: str) -> FakeView:
        return FakeView(observation=absent(uid))


async def test_stale_view_leaves_no_second_copy(tmp_path: Path) -> None:
    """A move whose teardown another process intended and did not do is not believed from memory."""
    world = FakeWorld()
    async with open_lab(tmp_path, world=world) as lab:
        await lab.store.create(profile())
        await lab.store.create(host("h1"))
        await lab.store.create(host("h2"))
        await create_ready(lab, placement={"host": "h1"})
    async with open_lab(tmp_path, world=world, wants=lambda _key: False) as lab:
        moved = await change(lab, placement={"host": "h2"})
        intention = Intention(action="Teardown", spec_hash="", started_at=lab.clock.now())
        status = moved.status.model_copy(update={"intention": intention})
        await lab.store.update_status(moved.model_copy(update={"status": status}))

    async with open_lab(tmp_path, world=world, observer_type=StaleObserver) as lab:
        await lab.until(lambda: lab.sandbox().status.host == "h2" and lab.is_true("Ready"))

    assert {host for host, _ in world.things} == {"h2"}


async def test_place_that_is_gone_before_anything_was_made(tmp_path: Path) -> None:
    """A sandbox whose host went between the choice and the first effect is placed again."""
    async with open_lab(tmp_path, wants=lambda key: key != HELLO) as lab:
        await lab.store.create(profile())
        created = await lab.store.create(sandbox())
        status = created.status.model_copy(update={"extension": FAKE_EXTENSION, "host": "gone"})
        await lab.store.update_status(created.model_copy(update={"status": status}))
        await lab.store.create(host())

    async with open_lab(tmp_path) as lab:
        await lab.until(lambda: lab.is_true("Ready"))

        assert lab.sandbox().status.host == "h1"


@pytest.mark.parametrize("stray", [ConflictError, NotFoundError])
async def test_conflict_of_a_backend_is_a_failure(lab: Lab, stray: type[SandboxerError]) -> None:
    """An extension that raises what belongs to the store is backed off from, and it is said why."""
    lab.world.fail("provision", stray("The volume is in use."))

    await lab.store.create(sandbox())
    await lab.until(lambda: _attempts(lab) == 1)
    await lab.idle()
    failed = lab.sandbox().status.condition("Provisioned")
    await lab.until(lambda: lab.is_true("Ready"))

    assert failed is not None
    assert failed.reason == "UnexpectedError"
    assert "The volume is in use." in failed.message


async def test_ports_are_leased_once(lab: Lab) -> None:
    """No two sandboxes of a host are given the same port."""
    for number in range(8):
        ports = [{"name": "web", "containerPort": 80}]
        await lab.store.create(sandbox(f"s{number}", ports=ports))

    await lab.until(lambda: all(lab.is_true("Ready", f"s{number}") for number in range(8)))

    leases = [lab.sandbox(f"s{number}").status.ports["web"] for number in range(8)]
    assert len(set(leases)) == 8


async def test_added_port_is_leased(lab: Lab) -> None:
    """A port added later is leased, and the old one stays what it was."""
    created = await create_ready(lab, ports=[{"name": "web", "containerPort": 80}])
    ports = [{"name": "web", "containerPort": 80}, {"name": "db", "containerPort": 5432}]

    await change(lab, ports=ports)
    await lab.until(lambda: len(lab.sandbox().status.ports) == 2 and lab.is_true("Ready"))

    assert lab.sandbox().status.ports["web"] == created.status.ports["web"]
    assert len(set(lab.sandbox().status.ports.values())) == 2


async def test_host_with_sandboxes_is_kept(lab: Lab) -> None:
    """A host that is to be deleted stays until its last sandbox is gone, and says so."""
    await create_ready(lab)

    await lab.store.delete(Host, "h1")
    await lab.until(lambda: _host_reason(lab) == "InUse")
    await lab.store.delete(Sandbox, "hello")
    await lab.until(lambda: lab.store.get(Host, "h1") is None)

    assert lab.store.get(Sandbox, "hello") is None


def _host_reason(lab: Lab) -> str:
    found = lab.store.get(Host, "h1")
    ready = found.status.condition("Ready") if found is not None else None
    return ready.reason if ready is not None else ""


async def test_probes_do_not_write(lab: Lab) -> None:
    """Probes of a host on which nothing changes write its status once in five minutes only."""
    await create_ready(lab)
    await lab.until(lambda: _host_sandboxes(lab) == 1)
    await lab.idle()
    revision, probes = lab.store.revision, lab.observer.probes

    for _ in range(60):
        lab.clock.advance(10)
        await lab.idle()

    assert lab.observer.probes - probes >= 20
    assert lab.store.revision - revision <= 2


async def test_clock_that_was_set_back_does_not_stop_the_host_status(lab: Lab) -> None:
    """The time of the last probe is written again although it lies in the future."""
    await create_ready(lab)
    await lab.idle()

    lab.clock.jump(-365 * 86_400)
    await lab.until(lambda: _last_probe(lab) <= lab.clock.now(), step_s=5)


def _last_probe(lab: Lab) -> datetime:
    found = lab.store.get(Host, "h1")
    assert found is not None
    assert found.status.last_probe_time is not None
    return found.status.last_probe_time


def _host_sandboxes(lab: Lab) -> int:
    found = lab.store.get(Host, "h1")
    return found.status.sandboxes if found is not None else 0


async def test_deleted_while_its_profile_is_gone(lab: Lab) -> None:
    """A sandbox can be taken away when its profile does not exist any more."""
    await create_ready(lab)
    await lab.store.delete(Profile, "fake")

    await lab.store.delete(Sandbox, "hello")
    await lab.until(lambda: lab.store.get(Sandbox, "hello") is None)

    assert lab.world.things == {}


async def test_crash_loop_is_slowed_down(lab: Lab) -> None:
    """A sandbox that keeps stopping is repaired less and less often."""
    created = await create_ready(lab)
    repaired_at = []

    for count in range(1, 8):
        lab.world.change(created.metadata.uid, "Stopped")
        lab.observer.notice("h1", created.metadata.uid)
        await lab.until(partial(_is_repaired, lab, count))
        repaired_at.append(lab.clock.monotonic_s())

    pauses = [later - earlier for earlier, later in pairwise(repaired_at)]
    assert pauses[-1] > 5


def _is_repaired(lab: Lab, times: int) -> bool:
    return lab.sandbox().status.repairs == times and lab.is_true("Ready")


async def test_normal_life_warns_of_nothing(lab: Lab) -> None:
    """A sandbox that becomes ready and is deleted leaves no warning."""
    lab.world.checks_needed = 3
    await create_ready(lab)
    await lab.store.delete(Sandbox, "hello")
    await lab.until(lambda: lab.store.get(Sandbox, "hello") is None)
    await lab.idle()

    events = [e for e in lab.store.list(Event) if e.involved_object.name == "hello"]
    assert [e.reason for e in events if e.type == "Warning"] == []
    assert "CheckFails" in {e.reason for e in events}


async def test_catalog_is_judged(lab: Lab) -> None:
    """Profiles and extensions say whether they can be used, and why not."""
    await lab.store.create(profile("gone", "ext.gone"))
    for name in (FAKE_EXTENSION, "ext.broken", "ext.gone"):
        await lab.store.create(_registration(name))

    await lab.until(lambda: _ready_reason(lab, "ext.gone") != "")
    await lab.idle()

    assert _ready_reason(lab, FAKE_EXTENSION) == "Loaded"
    assert _ready_reason(lab, "ext.broken") == "NotLoaded"
    assert _ready_reason(lab, "ext.gone") == "NotLoaded"
    gone, usable = lab.store.get(Profile, "gone"), lab.store.get(Profile, "fake")
    assert gone is not None
    assert usable is not None
    assert (gone.status.is_true("Ready"), usable.status.is_true("Ready")) == (False, True)


def _registration(name: str) -> Registration:
    return Registration.parse(
        {"apiVersion": API_VERSION, "kind": "Extension", "metadata": {"name": name}}
    )


def _ready_reason(lab: Lab, name: str) -> str:
    found = lab.store.get(Registration, name)
    ready = found.status.condition("Ready") if found is not None else None
    return ready.reason if ready is not None else ""


async def test_engine_that_wants_one_key_leaves_the_rest(tmp_path: Path) -> None:
    """An engine of a command reconciles its own sandbox and touches no other."""
    wanted = {HELLO, Key("Host", "", "h1")}
    async with open_lab(tmp_path, wants=wanted.__contains__) as lab:
        await lab.store.create(profile())
        await lab.store.create(host())
        await lab.store.create(sandbox())
        await lab.store.create(sandbox("other"))

        await lab.until(lambda: lab.is_true("Ready"))
        await lab.idle()

        assert lab.sandbox("other").status.conditions == ()
