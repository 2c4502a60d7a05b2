"""
What is said of a sandbox's place: its document accepted, where it goes, and that it has left.

Like `record.py`, pure functions from a sandbox to its next status.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sandboxer.engine.conditions import MAX_MESSAGE, Fact, Truth, kept
from sandboxer.engine.leaving import LEAVING
from sandboxer.engine.plan import ISOLATION_TOO_WEAK, Step
from sandboxer.engine.standing import NOT_PROVISIONED, NOT_STALLED, changed_in, say
from sandboxer.engine.switch.guard import DEAD_MANS_SWITCH
from sandboxer.kinds.sandbox import Destination, Sandbox, SandboxStatus
from sandboxer.routing import Choice, NoFit, Wish


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
        facts["Stalled"] = NOT_STALLED
    for type_ in ("Routed", "Provisioned", "Ready"):
        if sandbox.status.condition(type_) is None:
            facts[type_] = Fact("False", "Pending", "It was not begun yet.")
    accepted = changed_in(sandbox, expires_at=wish.expires_at, ports=dict(ports))
    return say(accepted, facts, now)


def refused(sandbox: Sandbox, step: Step, now: datetime) -> SandboxStatus:
    """State that the document cannot be followed; what runs goes on running."""
    facts = {
        "Accepted": Fact("False", step.reason, step.message),
        "Reconciling": Fact("False", step.reason, "It waits for another document."),
        "Stalled": Fact("True", step.reason, step.message),
    }
    if not sandbox.status.is_true("Ready"):
        facts["Ready"] = Fact("False", step.reason, step.message)
    return say(sandbox, facts, now)


def routed(sandbox: Sandbox, choice: Choice, now: datetime) -> SandboxStatus:
    """Store what was chosen; nothing of a former place is kept."""
    moved = changed_in(
        _homeless(sandbox),
        extension=choice.extension,
        host=choice.host,
        ports=dict(choice.ports),
        placement_reason=choice.reason[:MAX_MESSAGE],
    )
    facts = {
        "Routed": Fact("True", "Routed", choice.reason),
        "Ready": NOT_PROVISIONED,
        "Provisioned": NOT_PROVISIONED,
        "Reconciling": Fact("True", "Routed", choice.reason),
        "Stalled": NOT_STALLED,
        **_has_left(sandbox),
    }
    return say(moved, facts, now)


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
    return say(_homeless(sandbox), facts, now)


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
    return say(changed_in(sandbox, destination=destination), facts, now)


def stays(sandbox: Sandbox, step: Step, now: datetime) -> SandboxStatus:
    """State why it stays: it cannot leave now, or need not any more."""
    truth: Truth = "False" if step.reason == "MayStay" else "True"
    facts = {LEAVING: Fact(truth, step.reason, step.message)}
    return say(changed_in(sandbox, destination=None), facts, now)


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
        "Stalled": NOT_STALLED,
    }
    gone = _homeless(sandbox)
    others = (each for each in gone.status.conditions if each.type != "HostReachable")
    return say(changed_in(gone, conditions=tuple(others)), facts, now)


def torn_down(sandbox: Sandbox, step: Step, now: datetime) -> SandboxStatus:
    """State that nothing is left; the intention stays as the evidence that we took it away."""
    facts = {"Provisioned": Fact("False", "TornDown", "Nothing of it is left.")}
    if step.reason != ISOLATION_TOO_WEAK:
        facts["Stalled"] = NOT_STALLED
    return say(changed_in(sandbox, resources=()), facts, now)


def _homeless(sandbox: Sandbox) -> Sandbox:
    """Return it without its place and all that was there."""
    return changed_in(
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
    news = {
        LEAVING: left, "Suspended": NOT_PROVISIONED, "Drifted": left, DEAD_MANS_SWITCH: left,
    }  # fmt: skip
    return {type_: fact for type_, fact in news.items() if sandbox.status.is_true(type_)}
