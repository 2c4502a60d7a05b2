"""Whether a sandbox is to be guarded by its host, and what is said of it; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil

from sandboxer.engine.conditions import Fact, stated
from sandboxer.extension import Extension, Instance
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import Sandbox, SandboxStatus, SwitchSeen

DEAD_MANS_SWITCH = "DeadMansSwitch"
"""Condition of a sandbox whose profile asks for a switch: whether its host has one."""

ARMED, FIRED = "Armed", "Fired"

# A lease is renewed with every probe; one that two lost probes end would fire for a hiccup.
PROBES_IN_LEASE = 3

# Programs the watcher needs on the host besides a shell.
TOOLS = ("flock", "setsid", "timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """What a host is told about one sandbox."""

    expires_at: datetime
    """When its lifetime ends; never taken away before."""
    lease_s: int
    """Seconds without a controller after which it is taken away then."""
    command: Sequence[str]
    """What takes it away; see `Extension.removal`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What the profile's wish for a switch comes to."""

    switch: Switch | None = None
    """None when there can be none; the rest says why."""
    reason: str = ARMED
    message: str = ""


def guard_of(
    lease_s: float | None, instance: Instance, *, extension: Extension, host: Host
) -> Guard | None:
    """
    Return how a sandbox is to be guarded; None when nobody asks for it.

    Args:
        lease_s: What the profile asks for; None is nothing.
        instance: The sandbox.
        extension: What makes it.
        host: Where it is.
    """
    if lease_s is None:
        return None
    if instance.expires_at is None:
        message = "It never expires, so there is nothing its host could do at its end."
        return Guard(reason="NeverExpires", message=message)
    command: Sequence[str] = ()
    if "removal" in extension.capabilities:
        command = extension.removal(host.status.facts, instance)
    if not command:
        message = f"{extension.name} cannot leave the removal of such a sandbox to its host."
        return Guard(reason="NotSupported", message=message)
    lacking = [tool for tool in TOOLS if tool not in host.status.facts.tools]
    if lacking:
        message = f"Host {host.metadata.name} lacks {', '.join(lacking)}; install it there."
        return Guard(reason="HostLacksTools", message=message)
    least_s = max(1.0, PROBES_IN_LEASE * host.spec.probe_interval.seconds)
    switch = Switch(
        expires_at=instance.expires_at, lease_s=ceil(max(lease_s, least_s)), command=command
    )
    return Guard(switch=switch)


def is_guarded(sandbox: Sandbox, guard: Guard | None) -> bool:
    """Tell whether what is said of its switch is what is wished."""
    status = sandbox.status
    said, seen = status.condition(DEAD_MANS_SWITCH), status.dead_mans_switch
    if guard is None:
        return seen is None and said is None
    if guard.switch is None:
        return seen is None and said is not None and said.reason == guard.reason
    if seen is None or said is None or said.status != "True":
        return False
    return (seen.expires_at, seen.lease_s) == (guard.switch.expires_at, guard.switch.lease_s)


def guarded(
    generation: int,
    before: SandboxStatus,
    guard: Guard | None,
    seen: SwitchSeen | None,
    now: datetime,
) -> SandboxStatus:
    """
    State what guards a sandbox.

    Args:
        generation: Of its document.
        before: Everything else that is to be said.
        guard: What is wished; None takes back what was said.
        seen: What its host has; with a *guard* that has no switch, what may still be there.
        now: Wall-clock time.
    """
    status = before.model_copy(update={"dead_mans_switch": seen})
    if guard is None:
        return unguarded(status)
    fact = Fact("False", guard.reason, guard.message)
    if seen is not None and guard.switch is not None:
        fact = Fact("True", ARMED, _armed(seen))
    facts = {DEAD_MANS_SWITCH: fact}
    return stated(status, facts, generation=generation, now=now)


def unguarded(status: SandboxStatus) -> SandboxStatus:
    """Return a status that says nothing of a switch."""
    others = tuple(each for each in status.conditions if each.type != DEAD_MANS_SWITCH)
    return status.model_copy(update={"dead_mans_switch": None, "conditions": others})


def fired(sandbox: Sandbox, at: datetime, now: datetime) -> SandboxStatus:
    """State that its host took it away."""
    seen = sandbox.status.dead_mans_switch
    assert seen is not None
    message = (
        f"Host {sandbox.status.host} began to take it away at {at:%Y-%m-%dT%H:%M:%SZ}: its "
        f"lifetime was known there to end at {seen.expires_at:%Y-%m-%dT%H:%M:%SZ}, and no "
        f"controller had come by for {seen.lease_s} s."
    )
    update = {"dead_mans_switch": seen.model_copy(update={"fired_at": at})}
    status = sandbox.status.model_copy(update=update)
    facts = {DEAD_MANS_SWITCH: Fact("False", FIRED, message)}
    return stated(status, facts, generation=sandbox.metadata.generation, now=now)


def _armed(seen: SwitchSeen) -> str:
    lasts = "also after a reboot" if seen.survives_reboot else "until the host is rebooted"
    return (
        f"Its host takes it away when it has expired and no controller has come by for "
        f"{seen.lease_s} s, watched by {seen.watcher}, {lasts}."
    )
