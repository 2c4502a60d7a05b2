"""How a status is made to say something: facts become conditions, and the phase follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sandboxer.engine.conditions import Fact, stated
from sandboxer.kinds.sandbox import Phase, Sandbox, SandboxStatus

# Failed attempts after which a sandbox is no longer called Provisioning but Degraded: the first
# ones pass within seconds, and are mostly a host that was busy.
MANY_ATTEMPTS = 3

NOT_STALLED = Fact("False", "NotStalled", "Nothing that a person has to mend is in its way.")
NOT_PROVISIONED = Fact("False", "NotProvisioned", "It was not provisioned yet.")


def say(sandbox: Sandbox, facts: Mapping[str, Fact], now: datetime) -> SandboxStatus:
    """Return the status with these facts stated, and the phase they come to."""
    status = stated(sandbox.status, facts, generation=sandbox.metadata.generation, now=now)
    word = phase(sandbox.model_copy(update={"status": status}))
    return status.model_copy(update={"phase": word})


def changed_in(sandbox: Sandbox, **fields: Any) -> Sandbox:
    """Return it with other values of fields of its status."""
    return sandbox.model_copy(update={"status": sandbox.status.model_copy(update=fields)})


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


def _fails_often(status: SandboxStatus) -> bool:
    return status.intention is not None and status.intention.attempts >= MANY_ATTEMPTS
