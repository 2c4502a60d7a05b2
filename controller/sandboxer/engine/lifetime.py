"""
When a lifetime is spoken of: a warning some time before its end, and the end; pure.

That the warning was given is said by condition Expired (reason `ExpiresSoon`), so it is given once,
also when the controller restarts or the clock is set. A longer lifetime is a new one, and warned of
again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from sandboxer.kinds.sandbox import Sandbox

WARNED: Final = "ExpiresSoon"
"""Reason of condition Expired once the warning was given."""

# Of a lifetime, the part that is left when its end is announced; at most ten minutes, for who is
# told a day before forgets it, and at least ten seconds, in which a person can still act.
WARNED_PART: Final = 0.1
MAX_WARNING: Final = timedelta(minutes=10)
MIN_WARNING: Final = timedelta(seconds=10)


def warns_at(created: datetime | None, expires_at: datetime) -> datetime:
    """Return when the end of a lifetime is announced; never before half of it is over."""
    if created is None:
        return expires_at - MIN_WARNING
    whole = expires_at - created
    before = max(MIN_WARNING, min(MAX_WARNING, whole * WARNED_PART))
    return expires_at - min(before, whole / 2)


def is_unwarned(sandbox: Sandbox, now: datetime) -> bool:
    """Tell whether the end is near and nobody has said so."""
    expires_at = sandbox.status.expires_at
    if expires_at is None or _was_warned(sandbox):
        return False
    return now >= warns_at(sandbox.metadata.creation_timestamp, expires_at)


def warning(sandbox: Sandbox) -> str:
    """Return the announcement as a sentence."""
    name, namespace = sandbox.metadata.name, sandbox.metadata.namespace or "default"
    return (
        f"It expires at {sandbox.status.expires_at:%Y-%m-%dT%H:%M:%SZ} and is deleted then; "
        f"`sandboxer extend-ttl {name} -n {namespace} --duration 1h` gives it more time."
    )


def next_moment(sandbox: Sandbox) -> datetime | None:
    """Return when its lifetime has to be thought of next; None is never."""
    expires_at = sandbox.status.expires_at
    if expires_at is None or sandbox.metadata.deletion_timestamp is not None:
        return None
    if _was_warned(sandbox):
        return expires_at
    return warns_at(sandbox.metadata.creation_timestamp, expires_at)


def next_moment_in(document: Mapping[str, Any]) -> datetime | None:
    """Return the same for the JSON document of a Sandbox, which need not be decoded for it."""
    metadata, status = document["metadata"], document.get("status", {})
    expires_at, created = status.get("expiresAt"), metadata.get("creationTimestamp")
    if expires_at is None or "deletionTimestamp" in metadata:
        return None
    end = datetime.fromisoformat(expires_at)
    if any(each.get("reason") == WARNED for each in status.get("conditions", ())):
        return end
    return warns_at(datetime.fromisoformat(created) if created else None, end)


def _was_warned(sandbox: Sandbox) -> bool:
    expired = sandbox.status.condition("Expired")
    return expired is not None and expired.reason == WARNED
