"""
What a pass says of a sandbox, as pure functions from status to status.

What is said of its place is in `placing`, how conditions and phase follow in `standing`. Each
function takes a sandbox and returns its next status; everything but a condition's times is compared
by the store, so a pass that found nothing new writes nothing. `Ready`, `Reconciling` and `Stalled`
mean what kstatus takes them for. What becomes an event is told in `story.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal

from sandboxer.engine.conditions import Fact, kept
from sandboxer.engine.drift import differences, drift_message
from sandboxer.engine.placing import abandoned, refused, stays
from sandboxer.engine.plan import ISOLATION_TOO_WEAK, Step
from sandboxer.engine.standing import NOT_STALLED, changed_in, say
from sandboxer.errors import (
    InvalidSpecError,
    SandboxerError,
    TerminalError,
    UnreachableError,
    Waiting,
)
from sandboxer.extension import Observation, Provisioned
from sandboxer.kinds.sandbox import (
    MAX_DIFFERENCES,
    Difference,
    Intention,
    Sandbox,
    SandboxStatus,
)

Action = Literal["Provision", "Suspend", "Resume", "Teardown"]

_DOING = {
    "Provision": "Provisioning",
    "Suspend": "Suspending",
    "Resume": "Resuming",
    "Teardown": "TearingDown",
}

_MADE = "Everything wished was made."
_NOT_SUSPENDED = Fact("False", "Running", "It is not suspended.")


def intended(
    sandbox: Sandbox, action: Action, *, step: Step, hash_: str, now: datetime
) -> SandboxStatus:
    """
    State what is about to be done, before it is done.

    Args:
        sandbox: As it is stored, with drift noted on it.
        action: What is about to be done.
        step: Why.
        hash_: Spec hash it is for.
        now: Wall-clock time.
    """
    before = sandbox.status.intention
    same = before is not None and before.action == action
    intention = Intention(
        action=action,
        spec_hash=hash_,
        started_at=before.started_at if same and before else now.replace(microsecond=0),
        attempts=before.attempts if same and before else 0,
    )
    facts = {"Reconciling": Fact("True", _DOING[action], step.message)}
    if action in ("Suspend", "Teardown"):
        facts["Ready"] = Fact("False", _DOING[action], "It is being stopped.")
    elif not sandbox.status.is_true("Ready"):
        facts["Ready"] = Fact("False", _DOING[action], "It is being brought up.")
    return say(changed_in(sandbox, intention=intention), facts, now)


def drifted(sandbox: Sandbox, step: Step, seen: Observation, now: datetime) -> SandboxStatus:
    """State that what is there left what is wished by itself."""
    facts = {
        "Drifted": Fact("True", step.reason, step.message),
        "Ready": Fact("False", step.reason, step.message),
        "HostReachable": _seen(sandbox),
    }
    if step.name == "Report":
        facts["Reconciling"] = Fact("False", step.reason, "Nothing is done about the drift now.")
    noted = changed_in(sandbox, resources=seen.resources, drift=differences(seen))
    return say(noted, facts, now)


def noticed(sandbox: Sandbox, step: Step, seen: Observation, now: datetime) -> SandboxStatus:
    """State before it is brought up what had drifted, or was lost while that is tried."""
    if step.name == "Repair":
        return drifted(sandbox, step, seen, now)
    made = sandbox.status.spec_hash != ""
    lost = [one for one in differences(seen) if one.data_lost and made]
    return missed(sandbox, lost, drift_message(seen), now)


def missed(
    sandbox: Sandbox, lost: Iterable[Difference], message: str, now: datetime
) -> SandboxStatus:
    """State which data was lost besides what had drifted."""
    known = {one.path for one in sandbox.status.drift}
    more = [one for one in lost if one.path not in known]
    if not more:
        return sandbox.status
    drift = (*more, *sandbox.status.drift)[:MAX_DIFFERENCES]
    facts = {"Drifted": Fact("True", "Drift", message)}
    return say(changed_in(sandbox, drift=drift), facts, now)


def provisioned(
    sandbox: Sandbox, result: Provisioned, hash_: str, seen: Observation, now: datetime
) -> SandboxStatus:
    """State that what is wished was made and is there; whether it is ready is seen next."""
    made = changed_in(
        sandbox,
        intention=None,
        spec_hash=hash_,
        handle=dict(result.handle),
        reachability=result.reachability,
        isolation=result.isolation,
        provisioned_at=now.replace(microsecond=0),
        resources=seen.resources,
        repairs=sandbox.status.repairs + (1 if sandbox.status.is_true("Drifted") else 0),
        drift=(),
    )
    facts = {
        "Provisioned": Fact("True", "Provisioned", result.message or _MADE),
        "HostReachable": _seen(sandbox),
        "Suspended": _NOT_SUSPENDED,
        "Ready": Fact("False", "Starting", seen.message or "Its readiness was not checked yet."),
        "Reconciling": Fact("True", "Starting", "It waits to become ready."),
        "Stalled": NOT_STALLED,
    }
    if sandbox.status.is_true("Drifted"):
        facts["Drifted"] = Fact("False", "Repaired", "What had drifted was repaired.")
    return say(made, facts, now)


def suspended(sandbox: Sandbox, seen: Observation, now: datetime) -> SandboxStatus:
    """State that its processes are stopped and its workspace is kept."""
    return settled(changed_in(sandbox, intention=None), seen, now)


def resumed(sandbox: Sandbox, seen: Observation, now: datetime) -> SandboxStatus:
    """State that it runs again; whether it is ready is seen next."""
    facts = {
        "Suspended": _NOT_SUSPENDED,
        "Ready": Fact("False", "Starting", "It was resumed and is not ready yet."),
        "HostReachable": _seen(sandbox),
        "Stalled": NOT_STALLED,
    }
    # NOTE: the time to become ready starts anew with every start.
    started = now.replace(microsecond=0)
    resumed_ = changed_in(sandbox, intention=None, resources=seen.resources, provisioned_at=started)
    return say(resumed_, facts, now)


def too_weak(sandbox: Sandbox, result: Provisioned, objection: str, now: datetime) -> SandboxStatus:
    """State that what was made isolates less than it must; it is torn down next."""
    made = changed_in(sandbox, spec_hash="", handle=dict(result.handle), isolation=result.isolation)
    return say(made, _stalled(objection), now)


def stalled(sandbox: Sandbox, step: Step, now: datetime) -> SandboxStatus:
    """State that nothing more is tried before a person changes something."""
    return say(sandbox, _stalled(step.message), now)


def settled(sandbox: Sandbox, seen: Observation, now: datetime) -> SandboxStatus:
    """State that everything is as wished: it is ready, or suspended as it is to be."""
    asleep = seen.state == "Suspended"
    facts = {
        "Routed": Fact("True", "Routed", sandbox.status.placement_reason),
        "Provisioned": kept(sandbox.status, "Provisioned", Fact("True", "Provisioned", _MADE)),
        "HostReachable": _seen(sandbox),
        "Suspended": Fact("True", "Suspended", "Its workspace is kept and nothing of it runs.")
        if asleep
        else _NOT_SUSPENDED,
        "Ready": Fact("False", "Suspended", "It is suspended.")
        if asleep
        else Fact("True", "Ready", "Everything wished runs and is healthy."),
        "Reconciling": Fact("False", "Settled", "Nothing is left to do."),
        "Stalled": NOT_STALLED,
    }
    if sandbox.status.condition("Drifted") is not None:
        facts["Drifted"] = kept(
            sandbox.status, "Drifted", Fact("False", "NoDrift", "What is there is what is wished.")
        )
    settled_ = changed_in(sandbox, intention=None, resources=seen.resources, drift=())
    return say(settled_, facts, now)


def waiting(
    sandbox: Sandbox, waiting_: Waiting, *, timeout_s: float | None, now: datetime
) -> SandboxStatus:
    """
    State what is waited for, and that it takes too long if it does.

    Args:
        sandbox: As it is stored.
        waiting_: What the extension said.
        timeout_s: Seconds from provisioning until it is stalled; None for an action that is not
            about readiness.
        now: Wall-clock time.
    """
    facts = {
        "Ready": Fact("False", waiting_.reason, waiting_.message),
        "HostReachable": _seen(sandbox),
        "Reconciling": Fact("True", "Waiting", waiting_.message),
    }
    began = sandbox.status.provisioned_at
    if timeout_s is None or began is None:
        return say(sandbox, facts, now)
    if now - began >= timedelta(seconds=timeout_s):
        facts["Stalled"] = Fact(
            "True",
            "ReadyTimeout",
            f"It is not ready after {timeout_s:g} s, and is still watched. {waiting_.message}",
        )
    return say(sandbox, facts, now)


def held_back(sandbox: Sandbox, held: Waiting, now: datetime) -> SandboxStatus:
    """State that nothing is begun because its host fails others; what runs goes on running."""
    facts = {"Reconciling": Fact("True", "Waiting", held.message)}
    if not sandbox.status.is_true("Ready"):
        facts["Ready"] = Fact("False", held.reason, held.message)
    return say(sandbox, facts, now)


def failed(sandbox: Sandbox, action: str, error: SandboxerError, now: datetime) -> SandboxStatus:
    """State why an action failed; the intention stays and counts it, so it is taken up again."""
    message, intention = str(error), sandbox.status.intention
    tries = f"{action or 'The pass'} failed and is tried again"
    if intention is not None and intention.action == action:
        intention = intention.model_copy(update={"attempts": intention.attempts + 1})
        tries = f"Attempt {intention.attempts} of {action} failed, and another one follows"
    facts = {"Reconciling": Fact("True", "Retrying", f"{tries}: {message}")}
    if action in ("Provision", "Teardown"):
        facts["Provisioned"] = Fact("False", error.reason, message)
    if isinstance(error, UnreachableError):
        facts["HostReachable"] = Fact("False", error.reason, message)
        facts["Ready"] = Fact("Unknown", error.reason, message)
    else:
        facts["Ready"] = Fact("False", error.reason, message)
    if isinstance(error, TerminalError | InvalidSpecError):
        facts["Stalled"] = Fact("True", error.reason, message)
        facts["Reconciling"] = Fact("False", error.reason, "It waits for a person to act.")
    return say(changed_in(sandbox, intention=intention), facts, now)


def held(sandbox: Sandbox, step: Step, now: datetime) -> SandboxStatus:
    """State that nothing is known; what was last seen stays for people to read."""
    facts = {
        "HostReachable": Fact("False", step.reason, step.message),
        "Ready": Fact("Unknown", step.reason, step.message),
        "Reconciling": Fact("True", step.reason, "Nothing is touched until it is known again."),
    }
    return say(sandbox, facts, now)


def expired(sandbox: Sandbox, step: Step, now: datetime) -> SandboxStatus:
    """State that its lifetime has ended."""
    return say(sandbox, {"Expired": Fact("True", step.reason, step.message)}, now)


def warned(sandbox: Sandbox, step: Step, now: datetime) -> SandboxStatus:
    """State that its lifetime ends soon."""
    return say(sandbox, {"Expired": Fact("False", step.reason, step.message)}, now)


def said(  # noqa: PLR0911 - a table, one return a row
    sandbox: Sandbox, step: Step, seen: Observation | None, now: datetime
) -> SandboxStatus:
    """Return the status after a step that only says something."""
    match step.name:
        case "Refuse":
            return refused(sandbox, step, now)
        case "Stall":
            return stalled(sandbox, step, now)
        case "Warn":
            return warned(sandbox, step, now)
        case "Stay":
            return stays(sandbox, step, now)
        case "Abandon":
            return abandoned(sandbox, step, now)
        case "Hold" if step.reason != "NotObserved":
            return held(sandbox, step, now)
        case "Report" if seen is not None:
            return drifted(sandbox, step, seen, now)
        case "Refresh" if seen is not None:
            return settled(sandbox, seen, now)
        case _:
            return sandbox.status


def _seen(sandbox: Sandbox) -> Fact:
    return Fact("True", "Observed", f"It can be seen on host {sandbox.status.host}.")


def _stalled(objection: str) -> dict[str, Fact]:
    return {
        "Ready": Fact("False", ISOLATION_TOO_WEAK, objection),
        "Reconciling": Fact("False", ISOLATION_TOO_WEAK, "It waits for a person to act."),
        "Stalled": Fact("True", ISOLATION_TOO_WEAK, objection),
    }
