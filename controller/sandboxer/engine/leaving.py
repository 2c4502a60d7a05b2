"""
Leaving a host that is drained or given up: what is judged, as pure functions.

The wish is in the Host's spec (`drain`), so it outlives commands and controllers, and it is of
whoever looks after hosts; a sandbox's own document says nothing of it. A sandbox goes only when
another place is set aside for it (`status.destination`), and stays, running, as long as there is
none. Only a host that was given up *and* does not answer is left without a look at it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sandboxer.extension import Observation
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import ANNOTATION_SIGNED
from sandboxer.kinds.sandbox import Destination, Sandbox
from sandboxer.routing import Choice, NoFit

HOST_DRAINED = "HostDrained"
"""Reason of a sandbox that goes to another host because its own is drained."""

HOST_GIVEN_UP = "HostGivenUp"
"""Reason of what is done without a host that is gone for good."""

LEAVING = "Leaving"
"""Condition of a Sandbox: whether its host is to be left; its reason says what becomes of that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """Its host is to be left."""

    message: str
    """Who wants it and since when, as a sentence."""
    is_given_up: bool = False
    """Whether the host does not answer and was given up, so that nothing there is waited for."""
    destination: Destination | None = None
    """Another place that fits now: the one that was set aside, as long as it fits."""
    objection: str = ""
    """Why no other place fits now."""
    is_judged: bool = True
    """Whether every host was looked at; else another place may turn up in a moment."""


class Stay(NamedTuple):
    """Why a sandbox does not leave although it is to."""

    reason: str
    message: str


def leave_of(host: Host, elsewhere: Choice | NoFit | None, *, is_silent: bool) -> Leave:
    """
    Return how a host that is to be left is left by one sandbox.

    Args:
        host: Where it is.
        elsewhere: Another place or why there is none; None when its wish is not known.
        is_silent: Whether this process has asked the host, and it did not answer. One that was
            given up and answers is only drained.
    """
    gone, name = host.spec.drain == "GiveUp" and is_silent, host.metadata.name
    by = host.metadata.annotations.get(ANNOTATION_SIGNED, "")
    what = "given up" if gone else "drained"
    return Leave(
        message=f"Host {name} was {what} by {by}." if by else f"Host {name} is {what}.",
        is_given_up=gone,
        destination=_destination(elsewhere) if isinstance(elsewhere, Choice) else None,
        objection=_objection(elsewhere) if isinstance(elsewhere, NoFit) else "",
        is_judged=not (isinstance(elsewhere, NoFit) and elsewhere.unprobed),
    )


def why_stay(seen: Observation | None, leave: Leave) -> Stay | None:
    """Return why a sandbox stays for now, None when it can go."""
    builds = [resource for resource in seen.resources if resource.kind == "build"] if seen else []
    if any(build.state == "running" for build in builds):
        return Stay("BuildUnderWay", f"{leave.message} A build runs there and is not interrupted.")
    if builds:
        message = f"{leave.message} Elsewhere all would be built again; delete it if it may go."
        return Stay("BuildEnded", message)
    if leave.destination is None and not leave.is_judged:
        return Stay("WaitingForHosts", f"{leave.message} {leave.objection}")
    if leave.destination is None:
        return Stay("NoOtherPlace", f"{leave.message} It fits nowhere else. {leave.objection}")
    return None


def is_said(sandbox: Sandbox, stay: Stay) -> bool:
    """Tell whether its status says already that it stays, and why."""
    said = sandbox.status.condition(LEAVING)
    if said is None or (said.status, said.reason) != ("True", stay.reason):
        return False
    # NOTE: a condition's message may be cut.
    return stay.message.startswith(said.message) and sandbox.status.destination is None


def _objection(nowhere: NoFit) -> str:
    return nowhere.waits_for if nowhere.unprobed else nowhere.message


def _destination(choice: Choice) -> Destination:
    return Destination(
        extension=choice.extension, host=choice.host, ports=dict(choice.ports), reason=choice.reason
    )
