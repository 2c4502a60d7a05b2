"""
The plan: from what is wished and what is seen to the one step to take now.

Pure: no store, no extension, no clock. `next_step` is read from top to bottom, first match wins;
`docs/lifecycle.md` is the same table, made from the cases that test it (`tests/cases/plan`).

Design notes:

* A step is chosen by state alone, never by what woke the pass, so a lost wake-up costs time only.
* Not knowing is a case of its own: without an observation nothing is created, changed or removed.
* What was provisioned and is no longer whole is drift. It is repaired at once, unless that was
  needed often and it did not live longer than the pause, which grows from repair to repair.
* A host that is drained is left only for another place (`leaving.py`); one that was given up and
  does not answer is the only one that is left without a look.
* Refused: a stored state machine. The conditions say what was seen; the step follows from them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from sandboxer.engine import leaving, lifetime
from sandboxer.engine.drift import drift_message
from sandboxer.engine.leaving import HOST_DRAINED, HOST_GIVEN_UP, Leave
from sandboxer.engine.switch.guard import DEAD_MANS_SWITCH, FIRED, Guard, is_guarded
from sandboxer.errors import InvalidSpecError
from sandboxer.extension import Observation
from sandboxer.kinds.meta import FINALIZER
from sandboxer.kinds.sandbox import Sandbox

StepName = Literal[
    "Admit", "Refuse", "Route", "Provision", "WaitReady", "Repair", "Report", "Suspend", "Resume",
    "Relocate", "Reserve", "Stay", "Abandon", "Warn", "Expire", "Teardown", "Forget", "Hold",
    "Stall", "Recall", "Guard", "Fired", "Refresh", "Nothing",
]  # fmt: skip

ADOPTED = "Adopted"
"""Reason of what is known of a sandbox because it was found on its host after its store was lost."""

ISOLATION_TOO_WEAK = "IsolationTooWeak"
"""Reason of a sandbox that is isolated less than it must be."""

HOST_REBOOTED = "HostRebooted"
"""Reason of a repair after the host was started anew."""

COPY_ELSEWHERE = "CopyElsewhere"
"""Reason of a sandbox that is not made anew, for another host has something of it."""

# Seconds until hosts are asked again for a copy that keeps a sandbox from being made anew.
COPY_PAUSE_S = 300.0

# Repairs that are made at once, whenever they are needed.
FREE_REPAIRS = 3

# Seconds; upper bound of the pause between two repairs, as kubelet's for crashing containers.
MAX_REPAIR_PAUSE_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the wish comes to for the chosen extension and host."""

    spec_hash: str = ""
    """Of the desired instance; empty as long as nothing is chosen."""
    expires_at: datetime | None = None
    placement_objection: str = ""
    """Why it may not stay where it was placed; empty when it may."""
    guard: Guard | None = None
    """How its host is to take it away at its end without a controller; None when nobody asks for it."""
    isolation_objection: str = ""
    """Why what can be made there isolates too little; empty when that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything a step depends on."""

    sandbox: Sandbox
    now: datetime
    wanted: Wanted | InvalidSpecError
    """What is wished, or why that cannot be said."""
    observation: Observation | None = None
    """What is there; None when that is not known."""
    unknown_reason: str = ""
    """Condition reason for not knowing: `HostUnreachable`, `HostMissing`, `NotObserved`, …"""
    unknown_message: str = ""
    """The same as a sentence."""
    leave: Leave | None = None
    """Set when its host is to be left."""
    boot_id: str = ""
    """Boot the host is in; empty when that is not known."""
    fired_at: datetime | None = None
    """When its host took it away by itself, where nobody has said so yet."""
    is_switch_lost: bool = False
    """Whether its host has lost its dead-man's switch."""
    copy_on: str = ""
    """Another host that has something of it; empty when none has, or none was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The one thing to do now."""

    name: StepName
    reason: str = ""
    """Stable CamelCase word for conditions and events."""
    message: str = ""
    """A sentence with the evidence."""
    after_s: float | None = None
    """Seconds until it is worth planning again, for a step that waits for the clock."""


def next_step(situation: Situation) -> Step:  # noqa: PLR0911 - a table, one return a row
    """Return the one step that brings the sandbox nearer to what is wished."""
    end = _end(situation)
    if end is not None:
        return end
    sandbox, wanted = situation.sandbox, situation.wanted
    if isinstance(wanted, Wanted) and not _is_admitted(sandbox, wanted):
        return Step(name="Admit", reason="Accepted", message="The document is valid.")
    if _is_over(sandbox, situation.now):
        return _expire(sandbox)
    if lifetime.is_unwarned(sandbox, situation.now):
        return _warn(sandbox)
    if isinstance(wanted, InvalidSpecError):
        return Step(name="Refuse", reason=wanted.reason, message=str(wanted))
    if not sandbox.status.extension:
        return Step(name="Route", reason="NotRouted", message="Nothing is chosen yet.")
    must_go = wanted.placement_objection or situation.leave is not None
    if situation.observation is None and (was_acted_on(sandbox) or not must_go):
        return _hold(situation)
    if wanted.placement_objection:
        return _relocate(situation, wanted.placement_objection)
    return _leave(situation) or _follow(situation, wanted)


def _end(situation: Situation) -> Step | None:
    """Answer that it ends, whoever ends it; None when nobody does."""
    if situation.fired_at is not None:
        return Step(name="Fired", reason=FIRED, message="Its host took it away by itself.")
    if situation.sandbox.metadata.deletion_timestamp is not None:
        return _delete(situation)
    if _is_given_up(situation):
        return _without("Abandon", situation)
    return None


def was_acted_on(sandbox: Sandbox) -> bool:
    """Tell whether an effect for it was ever begun, so that something of it may exist."""
    return sandbox.status.intention is not None or sandbox.status.spec_hash != ""


def _delete(situation: Situation) -> Step:
    sandbox, seen = situation.sandbox, situation.observation
    if FINALIZER not in sandbox.metadata.finalizers:
        return Step(name="Nothing", reason="Deleted", message="Others hold the object back.")
    if not sandbox.status.extension:
        return Step(name="Forget", reason="NeverRouted", message="Nothing was ever made for it.")
    untouched = Step(name="Forget", reason="NeverActed", message="Nothing was ever made for it.")
    if seen is None and was_acted_on(sandbox):
        given_up = _is_given_up(situation)
        return _without("Forget", situation) if given_up else _hold(situation)
    if seen is None or (seen.state == "Absent" and not was_acted_on(sandbox)):
        return untouched
    if seen.state == "Absent" and _is_pending(sandbox, "Teardown"):
        return Step(name="Forget", reason="TornDown", message="Nothing of it is left.")
    return Step(name="Teardown", reason="Deleting", message="Its deletion was asked for.")


def _relocate(situation: Situation, objection: str) -> Step:
    sandbox, seen = situation.sandbox, situation.observation
    gone = seen is None or seen.state == "Absent"
    if gone and (_is_pending(sandbox, "Teardown") or not was_acted_on(sandbox)):
        return Step(name="Route", reason="PlacementChanged", message=objection)
    return Step(name="Relocate", reason="PlacementChanged", message=objection)


def _leave(situation: Situation) -> Step | None:
    """Leave a host that is drained, never before another place is set aside; None when it stays."""
    sandbox, seen, leave = situation.sandbox, situation.observation, situation.leave
    if leave is None:
        return _settle_down(sandbox)
    gone = seen is None or seen.state == "Absent"
    if gone and (_is_pending(sandbox, "Teardown") or not was_acted_on(sandbox)):
        return Step(name="Route", reason=HOST_DRAINED, message=leave.message)
    if _is_pending(sandbox, "Teardown"):
        return Step(name="Relocate", reason=HOST_DRAINED, message=leave.message)
    stay = leaving.why_stay(seen, leave)
    if stay is not None:
        step = Step(name="Stay", reason=stay.reason, message=stay.message, after_s=0.0)
        return None if leaving.is_said(sandbox, stay) else step
    if sandbox.status.destination != leave.destination:
        return Step(name="Reserve", reason=HOST_DRAINED, message=leave.message)
    return Step(name="Relocate", reason=HOST_DRAINED, message=leave.message)


def _settle_down(sandbox: Sandbox) -> Step | None:
    """Take back that it was to leave."""
    if not sandbox.status.is_true(leaving.LEAVING):
        return None
    return Step(name="Stay", reason="MayStay", message="Its host may keep it.", after_s=0.0)


def _follow(situation: Situation, wanted: Wanted) -> Step:
    """Follow the wish where it was placed; what is there is known."""
    sandbox, seen = situation.sandbox, situation.observation
    assert seen is not None
    was_made = sandbox.status.spec_hash != ""
    if not was_made and wanted.isolation_objection:
        return _withdraw(sandbox, seen, wanted.isolation_objection)
    if not was_made:
        return Step(name="Provision", reason="New", message="Nothing was provisioned yet.")
    guard = _guard(situation, wanted)
    if guard is not None and seen.state != "Absent" and not _was_tried(sandbox):
        return guard
    step = _bring(situation, wanted, seen)
    if guard is None or step.name not in ("Refresh", "Nothing"):
        return step
    # What its host refused is asked for again, and holds nothing up.
    return guard if step.name == "Nothing" else replace(step, after_s=0.0)


def _bring(situation: Situation, wanted: Wanted, seen: Observation) -> Step:  # noqa: PLR0911 - a table, one return a row
    """Bring what was provisioned once to what is wished."""
    sandbox = situation.sandbox
    status, suspended = sandbox.status, sandbox.spec.operating_mode == "Suspended"
    provisioned = status.spec_hash == wanted.spec_hash and not _is_pending(sandbox, "Provision")
    if seen.state == "Absent" and situation.copy_on:
        return _spare_copy(sandbox, situation.copy_on)
    if seen.state in ("Absent", "Incomplete") or (seen.state == "Stopped" and not suspended):
        # NOTE: what we began to take away ourselves is no drift.
        left = provisioned and not _is_pending(sandbox, "Teardown")
        return _restore(situation, seen) if left else _update(seen)
    if provisioned and seen.drift:
        return _restore(situation, seen)
    if suspended:
        return _rest(situation, seen)
    if seen.state == "Suspended":
        return Step(name="Resume", reason="Resuming", message="It is to run and is suspended.")
    if not provisioned:
        return _update(seen)
    if seen.spec_hash != wanted.spec_hash:
        return _restore(situation, seen)
    return _ask(sandbox, seen) or _keep(situation, seen)


def _ask(sandbox: Sandbox, seen: Observation) -> Step | None:
    """Ask what looking does not tell: what was once said of it, and whether it is ready."""
    if _is_adopted(sandbox):
        return Step(name="Recall", reason=ADOPTED, message="What was said of it is asked for anew.")
    if seen.state == "Starting" or not sandbox.status.is_true("Ready"):
        return Step(name="WaitReady", reason="Starting", message=seen.message)
    return None


def _guard(situation: Situation, wanted: Wanted) -> Step | None:
    """Have its host know what to do at its end; None when it does."""
    if is_guarded(situation.sandbox, wanted.guard) and not situation.is_switch_lost:
        return None
    message = "Its host does not know what to do at its end."
    return Step(name="Guard", reason="NotGuarded", message=message)


def _was_tried(sandbox: Sandbox) -> bool:
    """Tell whether it was said of this document that it is not guarded."""
    said = sandbox.status.condition(DEAD_MANS_SWITCH)
    current = said is not None and said.observed_generation == sandbox.metadata.generation
    return said is not None and said.status == "False" and current


def _withdraw(sandbox: Sandbox, seen: Observation, objection: str) -> Step:
    """Take away what isolates too little, and try no more until something changes."""
    gone = seen.state == "Absent" and _is_pending(sandbox, "Teardown")
    name: StepName = "Stall" if gone else "Teardown"
    return Step(name=name, reason=ISOLATION_TOO_WEAK, message=objection)


def _spare_copy(sandbox: Sandbox, host: str) -> Step:
    """Make no second copy of what may be the sandbox itself."""
    message = (
        f"Nothing of it is on host {sandbox.status.host}, and host {host} has a copy that may be "
        "newer, as after a restored backup. Save what is needed of that one; once it is gone "
        f"(`sandboxer reap-stale --host {host} --apply`), the sandbox is made anew."
    )
    return Step(name="Report", reason=COPY_ELSEWHERE, message=message, after_s=COPY_PAUSE_S)


def _update(seen: Observation) -> Step:
    return Step(
        name="Provision",
        reason="Unfinished" if seen.state in ("Absent", "Incomplete") else "SpecChanged",
        message=seen.message or "What is there is not what is wished.",
    )


def _rest(situation: Situation, seen: Observation) -> Step:
    """Bring it to rest; a changed spec is followed when it runs again."""
    sandbox = situation.sandbox
    if seen.state != "Suspended" or _is_pending(sandbox, "Suspend"):
        return Step(name="Suspend", reason="Suspending", message="It is to be suspended.")
    return _keep(situation, seen)


def _restore(situation: Situation, seen: Observation) -> Step:
    """Answer drift: repair it now or later, or only report it."""
    sandbox, evidence = situation.sandbox, drift_message(seen)
    rebooted = _is_rebooted(situation)
    if rebooted:
        evidence = f"Host {sandbox.status.host} was started anew. {evidence}"
    if sandbox.spec.drift_policy == "Report":
        return Step(name="Report", reason="DriftReported", message=evidence)
    pause_s = _repair_pause_s(sandbox, situation.now)
    if pause_s > 0:
        return Step(name="Report", reason="RepairPostponed", message=evidence, after_s=pause_s)
    return Step(name="Repair", reason=HOST_REBOOTED if rebooted else "Drift", message=evidence)


def _is_rebooted(situation: Situation) -> bool:
    """Tell whether its host was started anew since it was last seen as wished."""
    before = situation.sandbox.status.boot_id
    return before != "" and situation.boot_id not in ("", before)


def _repair_pause_s(sandbox: Sandbox, now: datetime) -> float:
    status = sandbox.status
    often = status.repairs - FREE_REPAIRS
    if often < 0 or status.provisioned_at is None or status.intention is not None:
        return 0.0
    pause_s = min(MAX_REPAIR_PAUSE_S, 2.0 ** min(often, 10))
    # A clock that was set back must not make the pause longer than it is.
    return min(pause_s, pause_s - (now - status.provisioned_at).total_seconds())


def _keep(situation: Situation, seen: Observation) -> Step:
    sandbox, status = situation.sandbox, situation.sandbox.status
    stated = all(
        condition.observed_generation == sandbox.metadata.generation
        for condition in status.conditions
        if condition.type in ("Ready", "Reconciling", "HostReachable", "Suspended")
    )
    resting = status.is_true("Suspended") == (seen.state == "Suspended")
    same = status.resources == seen.resources and not status.is_true("Reconciling")
    quiet = status.intention is None and not status.is_true("Drifted")
    dated = situation.boot_id in ("", status.boot_id)
    if stated and resting and same and quiet and dated and status.is_true("HostReachable"):
        return Step(name="Nothing", reason="AsWished", message="Everything is as wished.")
    return Step(name="Refresh", reason="Observed", message="The status is brought up to date.")


def _is_given_up(situation: Situation) -> bool:
    leave = situation.leave
    return leave is not None and leave.is_given_up and situation.observation is None


def _without(name: StepName, situation: Situation) -> Step:
    """Do without a host that was given up; what was known of it last is said."""
    told = situation.leave.message if situation.leave is not None else ""
    return Step(name=name, reason=HOST_GIVEN_UP, message=f"{told} {situation.unknown_message}")


def _hold(situation: Situation) -> Step:
    return Step(name="Hold", reason=situation.unknown_reason, message=situation.unknown_message)


def _warn(sandbox: Sandbox) -> Step:
    # What waits for a person is not tried again because its end is near.
    after_s = None if sandbox.status.is_true("Stalled") else 0.0
    message = lifetime.warning(sandbox)
    return Step(name="Warn", reason=lifetime.WARNED, message=message, after_s=after_s)


def _expire(sandbox: Sandbox) -> Step:
    return Step(
        name="Expire",
        reason="Expired",
        message=f"Its lifetime ended at {sandbox.status.expires_at:%Y-%m-%dT%H:%M:%SZ}.",
    )


def _is_over(sandbox: Sandbox, now: datetime) -> bool:
    expires_at = sandbox.status.expires_at
    return expires_at is not None and now >= expires_at


def _is_admitted(sandbox: Sandbox, wanted: Wanted) -> bool:
    accepted = sandbox.status.condition("Accepted")
    return (
        FINALIZER in sandbox.metadata.finalizers
        and accepted is not None
        and accepted.status == "True"
        and accepted.observed_generation == sandbox.metadata.generation
        and sandbox.status.expires_at == wanted.expires_at
    )


def _is_adopted(sandbox: Sandbox) -> bool:
    """Tell whether what its provisioning had said was lost, and not asked for since."""
    made = sandbox.status.condition("Provisioned")
    return made is not None and made.reason == ADOPTED


def _is_pending(sandbox: Sandbox, action: str) -> bool:
    intention = sandbox.status.intention
    return intention is not None and intention.action == action
