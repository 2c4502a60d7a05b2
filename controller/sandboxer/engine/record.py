"""
What a pass says: conditions, phase and events, as pure functions from status to status.

Each function takes a sandbox and returns its next status. A condition's `lastTransitionTime` moves
only with its `status`; everything else is compared by the store, so a pass that found nothing new
writes nothing. `Ready`, `Reconciling` and `Stalled` mean what kstatus takes them for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar

from sandboxer.engine.plan import Step
from sandboxer.errors import (
    InvalidSpecError,
    SandboxerError,
    TerminalError,
    UnreachableError,
    Waiting,
)
from sandboxer.extension import Observation, Provisioned
from sandboxer.kinds.meta import Condition, Status
from sandboxer.kinds.sandbox import Intention, Phase, Sandbox, SandboxStatus
from sandboxer.routing import Choice, NoFit, Wish

Truth = Literal["True", "False", "Unknown"]
Action = Literal["Provision", "Suspend", "Resume", "Teardown"]
AnyStatus = TypeVar("AnyStatus", bound=Status)

# Characters of a condition's message; more evidence than a person reads, and a host's text in it
# cannot fill the store.
MAX_MESSAGE = 2000

_DOING = {
    "Provision": "Provisioning",
    "Suspend": "Suspending",
    "Resume": "Resuming",
    "Teardown": "TearingDown",
}

# Types whose change is no news of its own: they go along with another one.
_SILENT = frozenset({"Reconciling"})


@dataclass(frozen=True, slots=True)
class Fact:
    """What a condition is to say; its times and generation are added when it is stated."""

    status: Truth
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """A change of state that is worth an event."""

    reason: str
    message: str
    type: Literal["Normal", "Warning"]


def stated(
    status: AnyStatus, facts: Mapping[str, Fact], *, generation: int, now: datetime
) -> AnyStatus:
    """
    Return *status* with these facts stated about *generation*; other conditions stay.

    Args:
        status: What was said before.
        facts: By condition type; a new type is added at the end.
        generation: `metadata.generation` the facts are about.
        now: Time of a transition; only whole seconds are kept.
    """
    conditions = {condition.type: condition for condition in status.conditions}
    for type_, fact in facts.items():
        before = conditions.get(type_)
        moved = before is None or before.status != fact.status
        conditions[type_] = Condition(
            type=type_,
            status=fact.status,
            reason=fact.reason,
            message=fact.message[:MAX_MESSAGE],
            observed_generation=generation,
            last_transition_time=now.replace(microsecond=0)
            if moved or before is None
            else before.last_transition_time,
        )
    update = {"conditions": tuple(conditions.values()), "observed_generation": generation}
    return status.model_copy(update=update)


def news(before: Status, after: Status) -> list[News]:
    """
    Return what changed from one status to the next that a person may want to know later.

    The same words said by several conditions are told once, as a warning if one of them warns.
    """
    found: dict[tuple[str, str], News] = {}
    for condition in after.conditions:
        old = before.condition(condition.type)
        if condition.type in _SILENT or (old is None and condition.status != "True"):
            continue
        if old is not None and (old.status, old.reason) == (condition.status, condition.reason):
            continue
        message = condition.message or f"{condition.type} is {condition.status}."
        item = News(
            reason=condition.reason,
            message=message,
            type="Warning" if _is_bad(condition) else "Normal",
        )
        known = found.get((item.reason, message))
        if known is None or known.type == "Normal":
            found[item.reason, message] = item
    return list(found.values())


def admitted(sandbox: Sandbox, wish: Wish, now: datetime) -> SandboxStatus:
    """State that the document is valid, and when it expires."""
    facts = {"Accepted": Fact("True", "Accepted", "The document is valid.")}
    expires = f"It expires at {wish.expires_at}." if wish.expires_at else "It has no end."
    facts["Expired"] = Fact("False", "Alive", expires)
    facts["Reconciling"] = Fact("True", "Accepted", "The document was accepted.")
    if sandbox.status.condition("Stalled") is None or sandbox.status.is_true("Stalled"):
        facts["Stalled"] = Fact("False", "Accepted")
    for type_ in ("Routed", "Provisioned", "Ready"):
        if sandbox.status.condition(type_) is None:
            facts[type_] = Fact("False", "Pending", "It was not begun yet.")
    return _say(_changed_in(sandbox, expires_at=wish.expires_at), facts, now)


def refused(sandbox: Sandbox, step: Step, now: datetime) -> SandboxStatus:
    """State that the document cannot be followed; what runs goes on running."""
    facts = {
        "Accepted": Fact("False", step.reason, step.message),
        "Reconciling": Fact("False", step.reason),
        "Stalled": Fact("True", step.reason, step.message),
    }
    if not sandbox.status.is_true("Ready"):
        facts["Ready"] = Fact("False", step.reason, step.message)
    return _say(sandbox, facts, now)


def routed(sandbox: Sandbox, choice: Choice, now: datetime) -> SandboxStatus:
    """Store what was chosen; nothing of a former place is kept."""
    moved = _changed_in(
        sandbox,
        extension=choice.extension,
        host=choice.host,
        ports=dict(choice.ports),
        placement_reason=choice.reason[:MAX_MESSAGE],
        intention=None,
        spec_hash="",
        handle={},
        resources=(),
        reachability=None,
        isolation=None,
        provisioned_at=None,
    )
    facts = {
        "Routed": Fact("True", "Routed", choice.reason),
        "Ready": Fact("False", "NotProvisioned", "It was not provisioned yet."),
        "Provisioned": Fact("False", "NotProvisioned", "It was not provisioned yet."),
        "Reconciling": Fact("True", "Routed", choice.reason),
        "Stalled": Fact("False", "Routed"),
    }
    return _say(moved, facts, now)


def not_routed(sandbox: Sandbox, no_fit: NoFit, now: datetime) -> SandboxStatus:
    """State that nothing fits; it is not stalled, for a host may come."""
    facts = {
        "Routed": Fact("False", "NoFit", no_fit.message),
        "Ready": Fact("False", "NoFit", no_fit.message),
        "Reconciling": Fact("True", "NoFit", "It waits for an extension and host that fit."),
    }
    return _say(sandbox, facts, now)


def intended(sandbox: Sandbox, action: Action, hash_: str, now: datetime) -> SandboxStatus:
    """State what is about to be done, before it is done."""
    before = sandbox.status.intention
    same = before is not None and before.action == action
    intention = Intention(
        action=action,
        spec_hash=hash_,
        started_at=before.started_at if same and before else now.replace(microsecond=0),
        attempts=before.attempts if same and before else 0,
    )
    facts = {"Reconciling": Fact("True", _DOING[action], f"{_DOING[action]} since it was planned.")}
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
        "HostReachable": Fact("True", "Observed"),
    }
    if step.name == "Report":
        facts["Reconciling"] = Fact("False", step.reason)
    return _say(_changed_in(sandbox, resources=seen.resources), facts, now)


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
    )
    facts = {
        "Provisioned": Fact("True", "Provisioned", result.message),
        "HostReachable": Fact("True", "Observed"),
        "Suspended": Fact("False", "Running"),
        "Ready": Fact("False", "Starting", seen.message or "Its readiness was not checked yet."),
        "Reconciling": Fact("True", "Starting", "It waits to become ready."),
        "Stalled": Fact("False", "Provisioned"),
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
        "Suspended": Fact("False", "Running"),
        "Ready": Fact("False", "Starting", "It was resumed and is not ready yet."),
        "HostReachable": Fact("True", "Observed"),
        "Stalled": Fact("False", "Resumed"),
    }
    # NOTE: the time to become ready starts anew with every start.
    started = now.replace(microsecond=0)
    resumed_ = _changed_in(
        sandbox, intention=None, resources=seen.resources, provisioned_at=started
    )
    return _say(resumed_, facts, now)


def torn_down(sandbox: Sandbox, now: datetime) -> SandboxStatus:
    """State that nothing is left; the intention stays as the evidence that we took it away."""
    facts = {
        "Provisioned": Fact("False", "TornDown", "Nothing of it is left."),
        "Stalled": Fact("False", "TornDown"),
    }
    return _say(_changed_in(sandbox, resources=()), facts, now)


def settled(sandbox: Sandbox, seen: Observation, now: datetime) -> SandboxStatus:
    """State that everything is as wished: it is ready, or suspended as it is to be."""
    asleep = seen.state == "Suspended"
    facts = {
        "Routed": Fact("True", "Routed", sandbox.status.placement_reason),
        "Provisioned": _kept(sandbox, "Provisioned", Fact("True", "Provisioned")),
        "HostReachable": Fact("True", "Observed"),
        "Suspended": Fact("True", "Suspended") if asleep else Fact("False", "Running"),
        "Ready": Fact("False", "Suspended", "It is suspended.")
        if asleep
        else Fact("True", "Ready", "Everything wished runs and is healthy."),
        "Reconciling": Fact("False", "AsWished"),
        "Stalled": Fact("False", "AsWished"),
    }
    if sandbox.status.condition("Drifted") is not None:
        facts["Drifted"] = _kept(sandbox, "Drifted", Fact("False", "AsWished"))
    settled_ = _changed_in(sandbox, intention=None, resources=seen.resources)
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
        "HostReachable": Fact("True", "Observed"),
        "Reconciling": Fact("True", waiting_.reason, waiting_.message),
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


def failed(
    sandbox: Sandbox, action: str, error: SandboxerError | Waiting, now: datetime
) -> SandboxStatus:
    """State why an action failed; the intention stays and counts it, so it is taken up again."""
    message = str(error) if isinstance(error, SandboxerError) else error.message
    facts = {"Reconciling": Fact("True", error.reason, message)}
    if action in ("Provision", "Teardown"):
        facts["Provisioned"] = Fact("False", error.reason, message)
    if isinstance(error, UnreachableError):
        facts["HostReachable"] = Fact("False", error.reason, message)
        facts["Ready"] = Fact("Unknown", error.reason, message)
    elif action != "WaitReady" or not isinstance(error, Waiting):
        facts["Ready"] = Fact("False", error.reason, message)
    if isinstance(error, TerminalError | InvalidSpecError):
        facts["Stalled"] = Fact("True", error.reason, message)
        facts["Reconciling"] = Fact("False", error.reason)
    intention = sandbox.status.intention
    if intention is not None and isinstance(error, SandboxerError):
        intention = intention.model_copy(update={"attempts": intention.attempts + 1})
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
        (status.is_true("Drifted"), "Degraded"),
        (not status.is_true("Routed"), "Pending"),
        (status.intention is not None or not status.is_true("Provisioned"), "Provisioning"),
    )
    return next((word for holds, word in table if holds), "Starting")


def _say(sandbox: Sandbox, facts: Mapping[str, Fact], now: datetime) -> SandboxStatus:
    status = stated(sandbox.status, facts, generation=sandbox.metadata.generation, now=now)
    word = phase(sandbox.model_copy(update={"status": status}))
    return status.model_copy(update={"phase": word})


def _kept(sandbox: Sandbox, type_: str, fact: Fact) -> Fact:
    """Return the fact with the words it was stated in before, when it says the same."""
    before = sandbox.status.condition(type_)
    if before is None or before.status != fact.status:
        return fact
    return Fact(before.status, before.reason, before.message)


def _is_bad(condition: Condition) -> bool:
    """Tell whether a person may have to act; not being ready alone is no reason."""
    if condition.type in ("Stalled", "Drifted", "Expired"):
        return condition.status == "True"
    if condition.reason in ("TornDown", "NotProvisioned", "Pending"):
        return False
    bad_when_false = ("Accepted", "Routed", "Provisioned", "HostReachable", "Reachable")
    return condition.type in bad_when_false and condition.status == "False"


def _changed_in(sandbox: Sandbox, **fields: Any) -> Sandbox:
    return sandbox.model_copy(update={"status": sandbox.status.model_copy(update=fields)})
