"""What the planner never does, in situations nobody thought of."""

from __future__ import annotations

from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from sandboxer.engine.plan import Step, next_step, was_acted_on
from tests.unit.engine.situations import STAGES, situation

TOUCHING = {"Provision", "Repair", "WaitReady", "Suspend", "Resume", "Relocate", "Teardown"}
BUILDING = {"Provision", "Repair", "Resume", "WaitReady"}

STATES = ["Absent", "Incomplete", "Starting", "Running", "Suspended", "Stopped", "unknown"]

GIVEN = st.fixed_dictionaries(
    {
        "stage": st.sampled_from(STAGES),
        "sees": st.sampled_from(STATES),
        "seesHash": st.sampled_from(["same", "other", "mixed"]),
        "wants": st.sampled_from(["same", "other"]),
        "deleting": st.booleans(),
        "generation": st.integers(1, 2),
        "spec": st.fixed_dictionaries(
            {
                "operatingMode": st.sampled_from(["Running", "Suspended"]),
                "driftPolicy": st.sampled_from(["Repair", "Report"]),
            }
        ),
        "status": st.fixed_dictionaries({"repairs": st.integers(0, 10)}),
        "objection": st.sampled_from(["", "It asks for h2."]),
        "weak": st.sampled_from(["", "It is isolated by none."]),
        "provisionedAgo": st.integers(-10, 600),
        "givenUp": st.booleans(),
        "boot": st.sampled_from(["", "b1", "b2"]),
    },
    optional={
        "intention": st.sampled_from(["Provision", "Suspend", "Resume", "Teardown"]),
        "refused": st.just("InvalidInputs"),
        "expiresIn": st.integers(-10, 10),
        "drained": st.sampled_from(["nowhere", "h2", "h3"]),
        "aside": st.sampled_from(["h2", "h3"]),
        "leaving": st.sampled_from(["Moving", "NoOtherPlace"]),
        "build": st.sampled_from(["running", "ended"]),
    },
)


def plan(case: dict[str, Any]) -> Step:
    return next_step(situation(case))


@given(GIVEN)
def test_never_makes_a_second_copy(case: dict[str, Any]) -> None:
    """What was made once and is gone is not built again while another host has it."""
    made = {"stage": "ready", "sees": "Absent", "copy": "h9"}
    assert plan(case | made).name not in BUILDING


@given(GIVEN)
def test_never_touches_what_it_cannot_see(case: dict[str, Any]) -> None:
    """Without an observation nothing is provisioned, changed or torn down."""
    assert plan(case | {"sees": "unknown"}).name not in TOUCHING


@given(GIVEN)
def test_never_builds_what_is_being_deleted(case: dict[str, Any]) -> None:
    """A deletion never provisions, repairs, resumes or waits for readiness."""
    assert plan(case | {"deleting": True}).name not in BUILDING


@given(GIVEN)
def test_never_forgets_what_is_there(case: dict[str, Any]) -> None:
    """The object does not go while anything of it is seen."""
    assume(case["sees"] not in ("Absent", "unknown"))
    seen = situation(case)
    assume(seen.sandbox.status.extension)

    assert next_step(seen).name != "Forget"


@given(GIVEN)
def test_never_forgets_what_may_be_there(case: dict[str, Any]) -> None:
    """What was begun is not forgotten before a teardown was seen to leave nothing; or given up."""
    case |= {"givenUp": False}
    seen = situation(case)
    assume(was_acted_on(seen.sandbox) and seen.sandbox.status.extension)

    if next_step(seen).name == "Forget":
        intention = seen.sandbox.status.intention
        assert case["sees"] == "Absent"
        assert intention is not None
        assert intention.action == "Teardown"


@given(GIVEN)
def test_never_repairs_when_told_to_report(case: dict[str, Any]) -> None:
    """With driftPolicy Report nothing is repaired."""
    reporting = case | {"spec": case["spec"] | {"driftPolicy": "Report"}}

    assert plan(reporting).name != "Repair"


@given(GIVEN)
def test_never_touches_a_live_sandbox_with_a_refused_document(case: dict[str, Any]) -> None:
    """A document that cannot be followed leaves everything as it is."""
    refused = case | {"refused": "InvalidInputs", "deleting": False}

    assert plan(refused).name in ("Refuse", "Warn", "Expire", "Abandon")


@given(GIVEN)
def test_never_routes_away_from_something(case: dict[str, Any]) -> None:
    """Nothing is routed anew while something may exist at its old place."""
    seen = situation(case)
    assume(was_acted_on(seen.sandbox) and seen.sandbox.status.extension)

    if next_step(seen).name == "Route":
        assert case["sees"] == "Absent"


@given(GIVEN)
def test_never_leaves_a_drained_host_without_another_place(case: dict[str, Any]) -> None:
    """A drain tears nothing down before another place that fits now is set aside."""
    case |= {"drained": case.get("drained", "nowhere"), "objection": "", "deleting": False}
    seen = situation(case)

    if next_step(seen).name == "Relocate" and case.get("intention") != "Teardown":
        assert seen.leave is not None
        assert seen.leave.destination is not None
        assert seen.sandbox.status.destination == seen.leave.destination
        assert "build" not in case


@given(GIVEN)
def test_never_gives_up_what_can_be_seen(case: dict[str, Any]) -> None:
    """A place is forgotten unseen only when its host was given up and nothing of it is seen."""
    step = plan(case)

    if step.name == "Abandon" or step.reason == "HostGivenUp":
        assert case["givenUp"]
        assert case["sees"] == "unknown"


@given(GIVEN)
def test_resting_sandbox_stays_at_rest(case: dict[str, Any]) -> None:
    """What is suspended as wished is not resumed, repaired or provisioned."""
    resting = case | {
        "stage": "suspended",
        "sees": "Suspended",
        "spec": case["spec"] | {"operatingMode": "Suspended"},
    }

    assert plan(resting).name not in BUILDING


@given(GIVEN)
def test_never_builds_what_would_isolate_too_little(case: dict[str, Any]) -> None:
    """What was found to isolate too little is not made again before something changes."""
    case |= {"weak": "It is isolated by none.", "stage": "routed"}

    assert plan(case).name not in BUILDING


@given(GIVEN)
def test_same_situation_same_step(case: dict[str, Any]) -> None:
    """The plan is a function of the situation."""
    assert plan(case) == plan(case)
