"""What a pass says of a sandbox that was adopted, as pure functions from status to status."""

from __future__ import annotations

from datetime import datetime

from sandboxer.engine import standing
from sandboxer.engine.conditions import Fact, stated
from sandboxer.engine.plan import ADOPTED
from sandboxer.extension import Observation, Provisioned
from sandboxer.kinds.sandbox import Intention, Sandbox, SandboxStatus


def adopted(sandbox: Sandbox, seen: Observation, *, host: str, now: datetime) -> SandboxStatus:
    """
    State where a sandbox was found; what the next passes make of it follows from what is there.

    Args:
        sandbox: As rebuilt; its status has extension and ports.
        seen: What is there.
        host: Where.
        now: Wall-clock time.
    """
    found = f"It was found on host {host} and adopted."
    begun = Intention(action="Provision", started_at=now.replace(microsecond=0))
    placed = sandbox.status.model_copy(
        update={
            "host": host,
            "placement_reason": found,
            "spec_hash": seen.spec_hash,
            "resources": seen.resources,
            # Nothing or several hashes: it is brought to the wish like what a crash left half done.
            "intention": None if seen.spec_hash else begun,
        }
    )
    facts = {
        "Routed": Fact("True", ADOPTED, found),
        "Provisioned": Fact("True", ADOPTED, found),
        "HostReachable": Fact("True", "Observed", f"It can be seen on host {host}."),
        "Ready": Fact("False", ADOPTED, "It was adopted and not looked at since."),
        "Reconciling": Fact("True", ADOPTED, found),
    }
    return _said(sandbox, stated(placed, facts, generation=1, now=now))


def recalled(sandbox: Sandbox, result: Provisioned, now: datetime) -> SandboxStatus:
    """State what provisioning had said before the store was lost."""
    known = sandbox.status.model_copy(
        update={
            "handle": dict(result.handle),
            "reachability": result.reachability,
            "isolation": result.isolation,
            # NOTE: the time to become ready starts when it is adopted.
            "provisioned_at": now.replace(microsecond=0),
        }
    )
    message = result.message or "Everything wished was made."
    facts = {
        "Provisioned": Fact("True", "Provisioned", message),
        "Ready": Fact("False", "Starting", "Its readiness was not checked yet."),
    }
    generation = sandbox.metadata.generation
    return _said(sandbox, stated(known, facts, generation=generation, now=now))


def _said(sandbox: Sandbox, status: SandboxStatus) -> SandboxStatus:
    word = standing.phase(sandbox.model_copy(update={"status": status}))
    return status.model_copy(update={"phase": word})
