"""What a person reads: the events and the conditions of a sandbox over its life."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sandboxer.errors import TerminalError, TransientError
from sandboxer.kinds.event import Event
from sandboxer.kinds.host import Host, PortRange
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Change
from sandboxer.testing.builders import host, profile, sandbox
from tests.changing import change_spec
from tests.integration.engine_lab import Lab, open_lab

# A condition's name and status are no sentence for a person.
MACHINE_WORDS = re.compile(r"\b(is|are) (True|False|Unknown)\b")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(tmp_path) as opened:
        await opened.store.create(profile())
        await opened.store.create(host())
        yield opened


def story(lab: Lab) -> list[Event]:
    """Return the events of the sandbox, first told first."""
    events = [e for e in lab.store.list(Event) if e.involved_object.kind == "Sandbox"]
    return sorted(events, key=lambda event: int(event.metadata.resource_version))


def reasons(lab: Lab) -> list[str]:
    return [event.reason for event in story(lab)]


async def change(lab: Lab, **fields: Any) -> None:
    await change_spec(lab.store, Sandbox, lab.sandbox().metadata.name, **fields)


async def create_ready(lab: Lab, **spec: Any) -> str:
    await lab.store.create(sandbox(**spec))
    await lab.until(lambda: lab.is_true("Ready"))
    return lab.sandbox().metadata.uid


async def test_coming_up_is_told_in_five_events(lab: Lab) -> None:
    """From its creation to its readiness each thing that happened is told once, in order."""
    await create_ready(lab)
    await lab.idle()

    assert reasons(lab) == ["Accepted", "Routed", "Provisioning", "Provisioned", "Ready"]
    assert re.search(r"It took \d+\.\d s\.$", story(lab)[-1].message)


async def test_life_is_told_in_sentences(lab: Lab) -> None:
    """Drift, repair, update, rest and deletion are told once each, in words for a person."""
    uid = await create_ready(lab)

    lab.world.change(uid, "Stopped")
    lab.observer.notice("h1", uid)
    await lab.until(lambda: lab.sandbox().status.repairs == 1 and lab.is_true("Ready"))
    await change(lab, inputs={"command": "other"})
    await lab.until(lambda: lab.is_true("Ready"))
    await change(lab, operatingMode="Suspended")
    await lab.until(lambda: lab.is_true("Suspended"))
    await change(lab, operatingMode="Running")
    await lab.until(lambda: lab.is_true("Ready"))
    await lab.store.delete(Sandbox, "hello")
    await lab.until(lambda: lab.store.get(Sandbox, "hello") is None)
    await lab.idle()

    assert set(reasons(lab)) == {
        "Accepted", "Routed", "Provisioning", "Provisioned", "Ready", "Drifted", "Repaired",
        "Updating", "Suspended", "Resumed", "Deleting", "TornDown",
    }  # fmt: skip
    assert "The process is Stopped." in next(e for e in story(lab) if e.reason == "Drifted").message
    for event in story(lab):
        assert not MACHINE_WORDS.search(event.message), event
        assert event.message.endswith("."), event


async def test_every_condition_has_a_sentence(lab: Lab) -> None:
    """At no moment of its life has a sandbox a condition that says nothing."""
    silent: list[str] = []

    def look(change: Change) -> None:
        if change.entry.key.kind != "Sandbox":
            return
        status = Sandbox.model_validate_json(change.entry.body).status
        silent.extend(c.type for c in status.conditions if not c.message.endswith((".", "?")))

    unsubscribe = lab.store.subscribe(look)
    uid = await create_ready(lab, ports=[{"name": "web", "containerPort": 80}])
    lab.world.change(uid, "Stopped")
    lab.observer.notice("h1", uid)
    await lab.until(lambda: lab.sandbox().status.repairs == 1 and lab.is_true("Ready"))
    await change(lab, operatingMode="Suspended")
    await lab.until(lambda: lab.is_true("Suspended"))
    await change(lab, operatingMode="Running", inputs={"comand": "x"})
    await lab.until(lambda: lab.is_true("Stalled"))
    await lab.store.delete(Sandbox, "hello")
    await lab.until(lambda: lab.store.get(Sandbox, "hello") is None)
    unsubscribe()

    assert set(silent) == set()


async def test_lost_host_is_told_once_each_way(lab: Lab) -> None:
    """A host that goes and comes back leaves one event for each, however often it is looked at."""
    await create_ready(lab)
    await lab.idle()
    told = len(reasons(lab))

    lab.world.cut.add("h1")
    await lab.until(lambda: lab.sandbox().status.phase == "Unknown")
    for _ in range(5):
        lab.clock.advance(20)
        await lab.idle()
    lab.world.cut.clear()
    await lab.until(lambda: lab.is_true("Ready"), step_s=1.0)
    await lab.idle()

    assert reasons(lab)[told:] == ["HostUnreachable", "HostBack"]


async def test_unprobed_host_is_no_refusal(tmp_path: Path) -> None:
    """As long as its host was not looked at yet, a sandbox waits and nobody is warned."""
    async with open_lab(tmp_path, wants=lambda key: key.kind == "Sandbox") as lab:
        await lab.store.create(profile())
        await lab.store.create(host())
        await lab.store.create(sandbox())
        await lab.until(lambda: bool(lab.sandbox().status.conditions))
        await lab.idle()

        routed = lab.sandbox().status.condition("Routed")
        assert routed is not None
        assert (routed.status, routed.reason) == ("Unknown", "WaitingForHosts")
        assert "h1" in routed.message
        assert reasons(lab) == ["Accepted"]
        assert lab.sandbox().status.phase == "Pending"


async def test_nothing_is_waited_for_on_the_way_up(lab: Lab) -> None:
    """A sandbox whose backend is quick becomes ready without any time passing."""
    await lab.idle()
    before = lab.clock.monotonic_s()

    await lab.store.create(sandbox())
    await lab.until(lambda: lab.is_true("Ready"), step_s=0.0)

    assert lab.clock.monotonic_s() == before


async def test_failing_again_and_again_is_said_as_it_is(lab: Lab) -> None:
    """What fails often is Degraded, not Ready, still Reconciling, and tells each attempt."""
    for _ in range(5):
        lab.world.fail("provision", TransientError("No image.", reason="PullFails"))
    await lab.store.create(sandbox())

    await lab.until(lambda: _attempts(lab) == 4, step_s=0.5)
    await lab.idle()
    status = lab.sandbox().status
    failures = next(e for e in story(lab) if e.reason == "PullFails")
    await lab.until(lambda: lab.is_true("Ready"), step_s=0.5)

    ready, reconciling = status.condition("Ready"), status.condition("Reconciling")
    assert status.phase == "Degraded"
    assert ready is not None
    assert (ready.status, ready.reason, ready.message) == ("False", "PullFails", "No image.")
    assert reconciling is not None
    assert (reconciling.status, reconciling.reason) == ("True", "Retrying")
    assert "Attempt 4" in reconciling.message
    assert (failures.type, failures.count) == ("Warning", 4)
    assert not status.is_true("Stalled")


def _attempts(lab: Lab) -> int:
    found = lab.store.get(Sandbox, "hello")
    intention = found.status.intention if found is not None else None
    return intention.attempts if intention is not None else 0


async def test_failure_for_good_names_the_remedy_once(lab: Lab) -> None:
    """A failure only a person can mend is one warning that says what to do."""
    error = TerminalError("No engine.", reason="NoEngine", remedy="Install podman.")
    lab.world.fail("provision", error)
    await lab.store.create(sandbox())

    await lab.until(lambda: lab.is_true("Stalled"))
    await lab.idle()

    warnings = [(e.reason, e.message) for e in story(lab) if e.type == "Warning"]
    assert warnings == [("NoEngine", "No engine. Install podman.")]


async def test_failed_look_is_seen(lab: Lab) -> None:
    """An extension that cannot say what is there is named in the sandbox's conditions."""
    uid = await create_ready(lab)

    lab.world.fail("refresh", TransientError("The list was cut off.", reason="ListBroken"))
    lab.world.change(uid, "Stopped")
    lab.observer.notice("h1", uid)
    await lab.until(lambda: not lab.is_true("Ready"), step_s=0.0)
    ready = lab.sandbox().status.condition("Ready")
    await lab.until(lambda: lab.is_true("Ready"), step_s=0.5)

    assert ready is not None
    assert (ready.reason, ready.message) == ("ListBroken", "The list was cut off.")


async def test_host_without_ports_is_seen(lab: Lab) -> None:
    """A port that is added and cannot be leased is named in the conditions, with a remedy."""
    await lab.idle()
    found = lab.store.get(Host, "h1")
    assert found is not None
    narrow = found.spec.model_copy(update={"port_range": PortRange(first=42000, last=42000)})
    await lab.store.update(found.model_copy(update={"spec": narrow}))
    await create_ready(lab, ports=[{"name": "web", "containerPort": 80}])

    ports = [{"name": name, "containerPort": 80} for name in ("web", "api")]
    await change(lab, ports=ports)
    await lab.until(lambda: "NoFreePort" in reasons(lab))
    ready = lab.sandbox().status.condition("Ready")

    assert ready is not None
    assert (ready.status, ready.reason) == ("False", "NoFreePort")
    assert "widen the range" in ready.message
