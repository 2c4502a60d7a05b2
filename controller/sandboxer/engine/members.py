"""
The sandboxes of every pool, kept up to date from the store's changes.

An index like `sandboxer.engine.placements`: what a pool has to know of its sandboxes, without
decoding a thousand documents because one of them changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic_core import from_json

from sandboxer.engine.ownership import references_in
from sandboxer.kinds.meta import Key
from sandboxer.kinds.pool import LABEL_TEMPLATE
from sandboxer.store import Change, Entry

POOL = "SandboxPool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What a pool knows of one of its sandboxes."""

    key: Key
    uid: str
    pool: Key
    pool_uid: str
    template: str
    """Hash of the template it was made from; empty when somebody removed the label."""
    deleting: bool
    ready: Literal["True", "False", "Unknown"]
    """Its condition Ready; `Unknown` also while nobody has looked at its newest spec."""
    failure: str
    """Why trying again cannot help; empty when it can."""
    created_at: datetime


def member_from(entry: Entry) -> Member | None:
    """Return a Sandbox as a member of the pool that controls it; None when none does."""
    owner = next((r for r in references_in(entry) if r.controller and r.kind == POOL), None)
    pool = owner.owner(entry.key.namespace) if owner is not None else None
    if owner is None or pool is None:
        return None
    document: dict[str, Any] = from_json(entry.body)
    listed = document.get("status", {}).get("conditions", ())
    conditions = {condition["type"]: condition for condition in listed}
    stalled = conditions.get("Stalled", {})
    return Member(
        key=entry.key,
        uid=entry.uid,
        pool=pool,
        pool_uid=owner.uid,
        template=entry.labels.get(LABEL_TEMPLATE, ""),
        deleting=entry.deleting,
        ready=_ready(conditions.get("Ready"), entry.generation),
        failure=stalled.get("message", "") if stalled.get("status") == "True" else "",
        created_at=datetime.fromisoformat(document["metadata"]["creationTimestamp"]),
    )


def _ready(
    condition: dict[str, Any] | None, generation: int
) -> Literal["True", "False", "Unknown"]:
    """Return what the condition says of the newest spec; one never stated is not Ready."""
    if condition is None:
        return "False"
    if condition["status"] == "True" and condition.get("observedGeneration") != generation:
        return "Unknown"
    status: Literal["True", "False", "Unknown"] = condition["status"]
    return status


class Members:
    """The index over all sandboxes that pools control."""

    def __init__(self) -> None:
        self._by_key: dict[Key, Member] = {}
        self._by_pool: defaultdict[str, dict[Key, Member]] = defaultdict(dict)

    def put(self, entry: Entry) -> set[Key]:
        """Follow a Sandbox; return the pools to which it matters."""
        return self._replace(entry.key, member_from(entry))

    def changed(self, change: Change) -> set[Key]:
        """Follow a change of a Sandbox; return the pools to which it matters."""
        if change.type == "DELETED":
            return self._replace(change.entry.key, None)
        return self.put(change.entry)

    def of(self, pool_uid: str) -> Sequence[Member]:
        """Return the sandboxes that a pool controls."""
        return tuple(self._by_pool.get(pool_uid, {}).values())

    def _replace(self, key: Key, after: Member | None) -> set[Key]:
        before = self._by_key.get(key)
        if before == after:
            return set()
        if before is not None:
            del self._by_key[key]
            self._leave(before)
        if after is not None:
            self._by_key[key] = after
            self._by_pool[after.pool_uid][key] = after
        return {member.pool for member in (before, after) if member is not None}

    def _leave(self, member: Member) -> None:
        members = self._by_pool[member.pool_uid]
        del members[member.key]
        if not members:
            del self._by_pool[member.pool_uid]
