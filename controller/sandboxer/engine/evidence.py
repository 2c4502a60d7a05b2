"""What a transition follows from: what was seen on the backend, in words a program can read."""

from __future__ import annotations

from datetime import UTC

from sandboxer.kinds.sandbox import ResourceSeen, Sandbox, SandboxStatus

# States of a resource that is as it should be, in the words of all backends.
_WELL = frozenset({"running", "present", "suspended"})


def evidence_of(sandbox: Sandbox, status: SandboxStatus) -> dict[str, str]:
    """
    Return what is wrong with the first resource that is not well; empty when all are.

    Args:
        sandbox: Whose limits apply.
        status: With what was seen last.
    """
    ill = sorted((seen for seen in status.resources if _is_ill(seen)), key=_order)
    host = {"host": status.host} if status.host else {}
    return {**host, **_described(ill[0], sandbox)} if ill else host


def _is_ill(seen: ResourceSeen) -> bool:
    done = seen.ending is not None and seen.ending.exit_code == 0 and not seen.detail
    return seen.health == "unhealthy" or (seen.state.lower() not in _WELL and not done)


def _order(seen: ResourceSeen) -> tuple[bool, str]:
    """Put what was killed for its memory first: others often fall for want of it."""
    return (seen.ending is None or not seen.ending.oom_killed, seen.name)


def _described(seen: ResourceSeen, sandbox: Sandbox) -> dict[str, str]:
    described = {"resource": f"{seen.kind} {seen.name}", "state": seen.state}
    described |= {"health": seen.health, "detail": seen.detail}
    if (ending := seen.ending) is not None:
        described["exitCode"] = str(ending.exit_code)
        if ending.ended_at is not None:
            described["endedAt"] = ending.ended_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if ending.oom_killed:
            described["oomKilled"] = "true"
            limit = sandbox.spec.resources.memory
            described["memoryLimit"] = str(limit) if limit is not None else ""
    return {name: value for name, value in described.items() if value}
