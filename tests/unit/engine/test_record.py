"""Conditions, phase and events as functions of what happened."""

from __future__ import annotations

from datetime import timedelta

from sandboxer.engine import placing, record, standing
from sandboxer.engine.conditions import Fact, stated
from sandboxer.engine.plan import Step
from sandboxer.errors import (
    InvalidSpecError,
    TerminalError,
    TransientError,
    UnreachableError,
    Waiting,
)
from sandboxer.extension import Observation, Provisioned
from sandboxer.kinds.sandbox import Sandbox, SandboxStatus
from sandboxer.routing import Choice
from sandboxer.testing.clock import EPOCH
from tests.unit.engine.situations import HASH, situation

LATER = EPOCH + timedelta(seconds=60)
STEP = Step(name="Provision", reason="New", message="Nothing was provisioned yet.")
RUNNING = Observation(uid="u", state="Running", spec_hash=HASH)


def at(stage: str) -> Sandbox:
    return situation({"stage": stage}).sandbox


def told(status: SandboxStatus, type_: str) -> tuple[str, str]:
    condition = status.condition(type_)
    assert condition is not None
    return condition.status, condition.reason


def test_transition_time_moves_only_with_the_status() -> None:
    """Another reason or message does not move lastTransitionTime; another status does."""
    first = stated(
        SandboxStatus(), {"Ready": Fact("False", "A", "It is so.")}, generation=1, now=EPOCH
    )

    same = stated(first, {"Ready": Fact("False", "B", "words")}, generation=2, now=LATER)
    moved = stated(first, {"Ready": Fact("True", "C", "It is so.")}, generation=2, now=LATER)

    assert same.conditions[0].last_transition_time == EPOCH
    assert same.conditions[0].observed_generation == 2
    assert same.observed_generation == 2
    assert moved.conditions[0].last_transition_time == LATER


def test_stating_the_same_changes_nothing() -> None:
    """The same facts about the same generation leave the status equal, whatever the time."""
    first = stated(
        SandboxStatus(), {"Ready": Fact("True", "A", "It is so.")}, generation=1, now=EPOCH
    )

    assert (
        stated(first, {"Ready": Fact("True", "A", "It is so.")}, generation=1, now=LATER) == first
    )


def test_settling_twice_changes_nothing() -> None:
    """A status that says everything is as wished stays as it is when it is said again."""
    sandbox = at("provisioned")
    once = sandbox.model_copy(update={"status": record.settled(sandbox, RUNNING, EPOCH)})

    assert record.settled(once, RUNNING, LATER) == once.status


def test_long_messages_are_cut() -> None:
    """What a host prints cannot fill the store."""
    status = stated(
        SandboxStatus(), {"Ready": Fact("False", "A", "x" * 10**6)}, generation=1, now=EPOCH
    )

    assert len(status.conditions[0].message) <= 2000


def test_terminal_error_stalls() -> None:
    """What only a person can mend is Stalled with the remedy, and not Reconciling."""
    error = TerminalError("No engine.", reason="NoEngine", remedy="Install podman.")

    status = record.failed(at("routed"), "Provision", error, EPOCH)

    assert told(status, "Stalled") == ("True", "NoEngine")
    assert told(status, "Reconciling")[0] == "False"
    assert "Install podman." in status.conditions[-1].message or any(
        "Install podman." in condition.message for condition in status.conditions
    )
    assert status.phase == "Failed"


def test_invalid_spec_from_an_extension_stalls() -> None:
    """A document only the extension could find wrong is Stalled too."""
    error = InvalidSpecError("There is no file.", field="spec.inputs.repo")

    status = record.failed(at("routed"), "Provision", error, EPOCH)

    assert told(status, "Stalled")[0] == "True"


def test_transient_error_is_counted() -> None:
    """A failure that may pass keeps the intention and counts it."""
    intended = record.intended(at("routed"), "Provision", step=STEP, hash_=HASH, now=EPOCH)
    sandbox = at("routed").model_copy(update={"status": intended})

    status = record.failed(sandbox, "Provision", TransientError("No."), EPOCH)

    assert status.intention is not None
    assert status.intention.attempts == 1
    assert told(status, "Reconciling")[0] == "True"


def test_intention_keeps_its_beginning_over_retries() -> None:
    """A retry of the same action keeps when it began and how often it failed; another one begins anew."""
    first = record.intended(at("routed"), "Provision", step=STEP, hash_=HASH, now=EPOCH)
    sandbox = at("routed").model_copy(update={"status": first})

    again = record.intended(sandbox, "Provision", step=STEP, hash_=HASH, now=LATER)
    other = record.intended(sandbox, "Teardown", step=STEP, hash_=HASH, now=LATER)

    assert again.intention is not None
    assert other.intention is not None
    assert again.intention.started_at == EPOCH
    assert other.intention.started_at == LATER


def test_unreachable_host_makes_ready_unknown() -> None:
    """When the answer was lost, nobody can say whether it is ready."""
    status = record.failed(at("ready"), "WaitReady", UnreachableError("Gone."), EPOCH)

    assert told(status, "Ready")[0] == "Unknown"
    assert told(status, "HostReachable")[0] == "False"


def test_waiting_too_long_is_stalled() -> None:
    """Readiness that takes longer than its timeout is Stalled, and goes on being waited for."""
    waiting = Waiting("The check fails.", retry_after_s=1, reason="CheckFails")
    sandbox = at("provisioned")

    soon = record.waiting(sandbox, waiting, timeout_s=7200, now=EPOCH)
    late = record.waiting(sandbox, waiting, timeout_s=60, now=EPOCH)

    assert soon.condition("Stalled") is None
    assert told(late, "Stalled") == ("True", "ReadyTimeout")
    assert told(late, "Reconciling")[0] == "True"


def test_repair_is_counted_once() -> None:
    """What is provisioned after drift counts as a repair, and the drift is over."""
    sandbox = at("ready")
    step = Step(name="Repair", reason="Drift", message="It stopped.")
    drifted = sandbox.model_copy(update={"status": record.drifted(sandbox, step, RUNNING, EPOCH)})

    status = record.provisioned(drifted, Provisioned(), HASH, RUNNING, EPOCH)

    assert status.repairs == 1
    assert told(status, "Drifted") == ("False", "Repaired")


def test_routing_anew_keeps_nothing_of_the_old_place() -> None:
    """Handle, hash, resources and intention belong to a place and go with it."""
    choice = Choice(extension="ext.fake", host="h2", reason="It fits.")

    status = placing.routed(at("ready"), choice, EPOCH)

    assert (status.host, status.spec_hash, status.handle, status.intention) == ("h2", "", {}, None)
    assert status.resources == ()


def test_phase_of_a_deletion() -> None:
    """What is being deleted is Terminating, whatever else is said."""
    deleting = situation({"stage": "ready", "deleting": True}).sandbox

    assert standing.phase(deleting) == "Terminating"


def test_what_has_left_begins_anew() -> None:
    """Of its former place nothing is said any more: neither rest nor drift nor that it is to leave."""
    drained = Step(name="Reserve", reason="HostDrained", message="Host h1 is drained.")
    choice = Choice(extension="ext.fake", host="h2", reason="ext.fake on h2: it fits.")
    drift = {"Drifted": Fact("True", "Drift", "It is not as it was made.")}
    resting = at("suspended")
    leaving = resting.model_copy(
        update={"status": placing.reserved(resting, choice, drained, EPOCH)}
    )
    sandbox = leaving.model_copy(
        update={"status": stated(leaving.status, drift, generation=1, now=EPOCH)}
    )

    status = placing.routed(sandbox, choice, EPOCH)

    assert {told(status, each) for each in ("Leaving", "Drifted")} == {("False", "Moved")}
    assert not status.is_true("Suspended")
    assert (status.host, status.destination, status.boot_id) == ("h2", None, "")
