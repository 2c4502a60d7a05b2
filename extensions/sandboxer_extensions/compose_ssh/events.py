"""Which of an engine's events say that a sandbox may have changed, and which sandbox that is."""

from __future__ import annotations

import json
import re
from typing import Any

from sandboxer.extension import LABEL_ENVIRONMENT, LABEL_UID

# Changes in the words of docker and podman, by type of what changed. `exec` and `health_status` are
# left out: our own health checks cause them, and each would cause the next observation.
_ACTIONS = {
    "container": frozenset({
        "create", "destroy", "die", "died", "oom", "pause", "remove", "rename", "restart", "start",
        "stop", "unpause", "update",
    }),
    "network": frozenset({"connect", "disconnect", "destroy", "remove"}),
    "volume": frozenset({"destroy", "remove"}),
}  # fmt: skip

_UID = re.compile(r"[0-9A-Za-z-]{1,64}", re.ASCII)

# What an event of a network or volume names: ours, or with podman the container that left it.
_OWN_NAME = re.compile(r"(sbx-[0-9a-f]{12})_.{1,200}", re.ASCII)


def query() -> dict[str, str]:
    """Return the query of `/events`: no filter by label, for networks and volumes carry none there."""
    actions = sorted(frozenset[str]().union(*_ACTIONS.values()))
    return {"filters": json.dumps({"type": list(_ACTIONS), "event": actions})}


def hint_of(event: Any, environment: str) -> str:
    """Return the uid or short id an event is about; empty when it is about nothing of ours."""
    if not isinstance(event, dict):
        return ""
    actor = event.get("Actor")
    actor = actor if isinstance(actor, dict) else {}
    attributes = actor.get("Attributes")
    action = str(event.get("Action") or event.get("status") or "").split(":")[0]
    kind = str(event.get("Type") or "container")
    if not isinstance(attributes, dict) or action not in _ACTIONS.get(kind, ()):
        return ""
    if kind != "container":
        # Docker names a volume in the actor's id only.
        name = _OWN_NAME.fullmatch(str(attributes.get("name") or actor.get("ID") or ""))
        return name[1] if name else ""
    uid = attributes.get(LABEL_UID)
    ours = attributes.get(LABEL_ENVIRONMENT) == environment
    return uid if ours and isinstance(uid, str) and _UID.fullmatch(uid) else ""
