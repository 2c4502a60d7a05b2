"""
What a pass says of a sandbox: conditions and phase, as pure functions from status to status.

Each function takes a sandbox and returns its next status; everything but a condition's times is
compared by the store, so a pass that found nothing new writes nothing. `Ready`, `Reconciling` and
`Stalled` mean what kstatus takes them for. What becomes an event is told in `story.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from sandboxer.engine.conditions import MAX_MESSAGE, Fact, Truth, kept, stated
from sandboxer.engine.drift import differences, drift_message
from sandboxer.engine.leaving import LEAVING
from sandboxer.engine.plan import ISOLATION_TOO_WEAK, Step
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
    Destination,
    Difference,
    Intention,
    Phase,
    Sandbox,
    SandboxStatus,
)
from sandboxer.routing import Choice, NoFit, Wish

Action = Literal["Provision", "Suspend", "Resume", "Teardown"]

# Failed attempts after which a sandbox is no longer called Provisioning but Degraded: the first
# ones pass within seconds, and are mostly a host that was busy.
MANY_ATTEMPTS = 3

_DOING = {
    "Provision": "Provisioning",
    "Suspend": "Suspending",
    "Resume": "Resuming",
    "Teardown": "TearingDown",
}

_MADE = "Everything wished was made."
_NOT_STALLED = Fact("False", "NotStalled", "Nothing that a person has to mend is in its way.")
_NOT_SUSPENDED = Fact("False", "Running", "It is not suspended.")
_NOT_PROVISIONED = Fact("False", "NotProvisioned", "It was not provisioned yet.")


def admitted(
    sandbox: Sandbox, wish: Wish, ports: Mapping[str, int], now: datetime
) -> SandboxStatus:
    """State that the document is valid, when it expires, and which host ports it has."""
    facts = {"Accepted": Fact("True", "Accepted", "The document is valid.")}
    expires = f"It expires at {wish.expires_at:%Y-%m-%dT%H:%M:%SZ}." if wish.expires_at else ""
    facts["Expired"] = Fact("False", "Alive", expires or "It lives until it is deleted.")
    if sandbox.status.expires_at == wish.expires_at:
        # A warning that was given stays given.
        facts["Expired"] = kept(sandbox.status, "Expired", facts["Expired"])
    facts["Reconciling"] = Fact("True", "Accepted", "The document was accepted.")
    if sandbox.status.condition("Stalled") is None or sandbox.status.is_true("Stalled"):
        facts["Stalled"] = _NOT_STALLED
    for type_ in ("Routed", "Provisioned", "Ready"):
        if sandbox.status.condition(type_) is None:
            facts[type_] = Fact("False", "Pending", "It was not begun yet.")
    accepted = _changed_in(sandbox, expires_at=wish.expires_at, ports=dict(ports))
    return _say(accepted, facts, now)


def refused(sandbox: Sandbox, step: Step, now: datetime) -> SandboxStatus:
    """State that the document cannot be followed; what runs goes on running."""
    facts = {
        "Accepted": Fact("False", step.reason, step.message),
        "Reconciling": Fact("False", step.reason, "It waits for another document."),
        "Stalled": Fact("True", step.reason, step.message),
    }
    if not sandbox.status.is_true("Ready"):
        facts["Ready"] = Fact("False", step.reason, step.message)
    return _say(sandbox, facts, now)


def routed(sandbox: Sandbox, choice: Choice, now: datetime) -> SandboxStatus:
    """Store what was chosen; nothing of a former place is kept."""
    moved = _changed_in(
        _homeless(sandbox),
        extension=choice.extension,
        host=choice.host,
        ports=dict(choice.ports),
        placement_reason=choice.reason[:MAX_MESSAGE],
    )
    facts = {
        "Routed": Fact("True", "Routed", choice.reason),
        "Ready": _NOT_PROVISIONED,
        "Provisioned": _NOT_PROVISIONED,
        "Reconciling": Fact("True", "Routed", choice.reason),
        "Stalled": _NOT_STALLED,
        **_has_left(sandbox),
    }
    return _say(moved, facts, now)


def not_routed(sandbox: Sandbox, no_fit: NoFit, now: datetime) -> SandboxStatus:
    """State that nothing fits; it is not stalled, for a host may come, and holds no place."""
    if no_fit.unprobed:
        # Whether one of them fits is not known before they were looked at.
        routed_ = Fact("Unknown", "WaitingForHosts", no_fit.waits_for)
    else:
        routed_ = Fact("False", "NoFit", no_fit.message)
    waits = "It waits for an extension and host that fit."
    facts = {
        "Routed": routed_,
        "Ready": Fact("False", routed_.reason, routed_.message),
        "Reconciling": Fact("True", routed_.reason, waits),
        **_has_left(sandbox),
    }
    return _say(_homeless(sandbox), facts, now)


def reserved(sandbox: Sandbox, choice: Choice, step: Step, now: datetime) -> SandboxStatus:
    """State where it goes next; until that is done it stays, and the other place is kept for it."""
    destination = Destination(
        extension=choice.extension,
        host=choice.host,
        ports=dict(choice.ports),
        reason=choice.reason[:MAX_MESSAGE],
    )
    message = f"{step.message} It moves to host {choice.host}."
    facts = {LEAVING: Fact("True", "Moving", message)}
    return _say(_changed_in(sandbox, destination=destination), facts, now)


def stays(sandbox: Sandbox, step: Step, now: datetime) -> SandboxStatus:
    """State why it stays: it cannot leave now, or need not any more."""
    truth: Truth = "False" if step.reason == "MayStay" else "True"
    facts = {LEAVING: Fact(truth, step.reason, step.message)}
    return _say(_changed_in(sandbox, destination=None), facts, now)


def abandoned(sandbox: Sandbox, step: Step, now: datetime) -> SandboxStatus:
    """State that its place is forgotten, unseen, for its host was given up."""
    message = f"{step.message} It is made anew elsewhere, and what it held there is lost to it."
    facts = {
        **_has_left(sandbox),
        LEAVING: Fact("False", step.reason, message),
        "Routed": Fact("False", "Pending", message),
        "Provisioned": Fact("False", step.reason, message),
        "Ready": Fact("False", step.reason, message),
        "Reconciling": Fact("True", step.reason, "It waits for another place."),
        "Stalled": _NOT_STALLED,
    }
    gone = _homeless(sandbox)
    others = (each for each in gone.status.conditions if each.type != "HostReachable")
    return _say(_changed_in(gone, conditions=tuple(others)), facts, now)


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
    return _say(_changed_in(sandbox, intention=intention), facts, now)


def drifted(sandbox: Sandbox, step: Step, seen: Observation, now: datetime) -> SandboxStatus:
    """State that what is there left what is wished by itself."""
    facts = {
        "Drifted": Fact("True", step.reason, step.message),
        "Ready": Fact("False", step.reason, step.message),
        "HostReachable": _seen(sandbox),
    }
    if step.name == "Report":
        facts["Reconciling"] = Fact("False", step.reason, "Nothing is done about the drift now.")
    noted = _changed_in(sandbox, resources=seen.resources, drift=differences(seen))
    return _say(noted, facts, now)


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
    return _say(_changed_in(sandbox, drift=drift), facts, now)


def provisioned(
    sandbox: Sandbox, result: Provisioned, hash_: str, seen: Observation, now: datetime
) -> SandboxStatus:
    """State that what is wished was made and is there; whether it is ready is seen next."""
    made = _changed_in(
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
        "Stalled": _NOT_STALLED,
    }
    if sandbox.status.is_true("Drifted"):
        facts["Drifted"] = Fact("False", "Repaired", "What had drifted was repaired.")
    return _say(made, facts, now)


def suspended(sandbox: Sandbox, seen: Observation, now: datetime) -> SandboxStatus:
    """State that its processes are stopped and its workspace is kept."""
    return settled(_changed_in(sandbox, intention=None), seen, now)


def resumed(sandbox: Sandbox, seen: Observation, now: datetime) -> SandboxStatus:
    """State that it runs again; whether it is ready is seen next."""
    facts = {
        "Suspended": _NOT_SUSPENDED,
        "Ready": Fact("False", "Starting", "It was resumed and is not ready yet."),
        "HostReachable": _seen(sandbox),
        "Stalled": _NOT_STALLED,
    }
    # NOTE: the time to become ready starts anew with every start.
    started = now.replace(microsecond=0)
    resumed_ = _changed_in(
        sandbox, intention=None, resources=seen.resources, provisioned_at=started
    )
    return _say(resumed_, facts, now)


def too_weak(sandbox: Sandbox, result: Provisioned, objection: str, now: datetime) -> SandboxStatus:
    """State that what was made isolates less than it must; it is torn down next."""
    made = _changed_in(
        sandbox, spec_hash="", handle=dict(result.handle), isolation=result.isolation
    )
    return _say(made, _stalled(objection), now)


def stalled(sandbox: Sandbox, step: Step, now: datetime) -> SandboxStatus:
    """State that nothing more is tried before a person changes something."""
    return _say(sandbox, _stalled(step.message), now)


def torn_down(sandbox: Sandbox, step: Step, now: datetime) -> SandboxStatus:
    """State that nothing is left; the intention stays as the evidence that we took it away."""
    facts = {"Provisioned": Fact("False", "TornDown", "Nothing of it is left.")}
    if step.reason != ISOLATION_TOO_WEAK:
        facts["Stalled"] = _NOT_STALLED
    return _say(_changed_in(sandbox, resources=()), facts, now)


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
        "Stalled": _NOT_STALLED,
    }
    if sandbox.status.condition("Drifted") is not None:
        facts["Drifted"] = kept(
            sandbox.status, "Drifted", Fact("False", "NoDrift", "What is there is what is wished.")
        )
    settled_ = _changed_in(sandbox, intention=None, resources=seen.resources, drift=())
    return _say(settled_, facts, now)


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
        return _say(sandbox, facts, now)
    if now - began >= timedelta(seconds=timeout_s):
        facts["Stalled"] = Fact(
            "True",
            "ReadyTimeout",
            f"It is not ready after {timeout_s:g} s, and is still watched. {waiting_.message}",
        )
    return _say(sandbox, facts, now)


def held_back(sandbox: Sandbox, held: Waiting, now: datetime) -> SandboxStatus:
    """State that nothing is begun because its host fails others; what runs goes on running."""
    facts = {"Reconciling": Fact("True", "Waiting", held.message)}
    if not sandbox.status.is_true("Ready"):
        facts["Ready"] = Fact("False", held.reason, held.message)
    return _say(sandbox, facts, now)


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
    return _say(_changed_in(sandbox, intention=intention), facts, now)


def held(sandbox: Sandbox, step: Step, now: datetime) -> SandboxStatus:
    """State that nothing is known; what was last seen stays for people to read."""
    facts = {
        "HostReachable": Fact("False", step.reason, step.message),
        "Ready": Fact("Unknown", step.reason, step.message),
        "Reconciling": Fact("True", step.reason, "Nothing is touched until it is known again."),
    }
    return _say(sandbox, facts, now)


def expired(sandbox: Sandbox, step: Step, now: datetime) -> SandboxStatus:
    """State that its lifetime has ended."""
    return _say(sandbox, {"Expired": Fact("True", step.reason, step.message)}, now)


def warned(sandbox: Sandbox, step: Step, now: datetime) -> SandboxStatus:
    """State that its lifetime ends soon."""
    return _say(sandbox, {"Expired": Fact("False", step.reason, step.message)}, now)


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


def phase(sandbox: Sandbox) -> Phase:
    """Return the one word for people, derived from the conditions."""
    status = sandbox.status
    ready = status.condition("Ready")
    table: tuple[tuple[bool, Phase], ...] = (
        (sandbox.metadata.deletion_timestamp is not None, "Terminating"),
        (status.is_true("Stalled"), "Failed"),
        (ready is not None and ready.status == "Unknown", "Unknown"),
        (status.is_true("Ready"), "Ready"),
        (status.is_true("Suspended"), "Suspended"),
        (status.is_true("Drifted") or _fails_often(status), "Degraded"),
        (not status.is_true("Routed"), "Pending"),
        (status.intention is not None or not status.is_true("Provisioned"), "Provisioning"),
    )
    return next((word for holds, word in table if holds), "Starting")


def _say(sandbox: Sandbox, facts: Mapping[str, Fact], now: datetime) -> SandboxStatus:
    status = stated(sandbox.status, facts, generation=sandbox.metadata.generation, now=now)
    word = phase(sandbox.model_copy(update={"status": status}))
    return status.model_copy(update={"phase": word})


def _homeless(sandbox: Sandbox) -> Sandbox:
    """Return it without its place and all that was there."""
    return _changed_in(
        sandbox,
        extension="",
        host="",
        ports={},
        placement_reason="",
        boot_id="",
        destination=None,
        intention=None,
        spec_hash="",
        handle={},
        resources=(),
        drift=(),
        reachability=None,
        isolation=None,
        dead_mans_switch=None,
        provisioned_at=None,
    )


def _has_left(sandbox: Sandbox) -> dict[str, Fact]:
    left = Fact("False", "Moved", f"It has left host {sandbox.status.host}.")
    news = {LEAVING: left, "Suspended": _NOT_PROVISIONED, "Drifted": left}
    return {type_: fact for type_, fact in news.items() if sandbox.status.is_true(type_)}


def _fails_often(status: SandboxStatus) -> bool:
    return status.intention is not None and status.intention.attempts >= MANY_ATTEMPTS


def _seen(sandbox: Sandbox) -> Fact:
    return Fact("True", "Observed", f"It can be seen on host {sandbox.status.host}.")


def _stalled(objection: str) -> dict[str, Fact]:
    return {
        "Ready": Fact("False", ISOLATION_TOO_WEAK, objection),
        "Reconciling": Fact("False", ISOLATION_TOO_WEAK, "It waits for a person to act."),
        "Stalled": Fact("True", ISOLATION_TOO_WEAK, objection),
    }


def _changed_in(sandbox: Sandbox, **fields: Any) -> Sandbox:
    return sandbox.model_copy(update={"status": sandbox.status.model_copy(update=fields)})
