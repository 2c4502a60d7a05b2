"""
What a spec directory may take away: the rules of safe pruning, as one pure function.

An object may go only when this source applied it (inventory), the object of that name is still the
same (uid) and still marked as this source's (label), it was absent from two complete snapshots far
enough apart, its own annotation does not forbid it, and not too many go at once. Sandboxes go first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sandboxer.kinds.meta import GROUP, Key, Resource
from sandboxer.sources.apply import LABEL_SOURCE
from sandboxer.store import InventoryEntry

PRUNE_ANNOTATION = f"{GROUP}/prune"
"""`disabled` on an object keeps it when its manifest goes."""

# A snapshot may take away this many objects, or this share of what the source applied, whichever
# is more; beyond that a person has to approve. A mistyped path or a bad merge loses most of it.
FREE_PRUNES = 5
FREE_PRUNE_SHARE = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunePlan:
    """What is to be done about objects whose manifest is gone."""

    delete: tuple[InventoryEntry, ...] = ()
    """To be deleted now."""
    wait: tuple[InventoryEntry, ...] = ()
    """Missing, and to be looked at again: too fresh, held back, or being deleted."""
    release: tuple[InventoryEntry, ...] = ()
    """No longer this source's affair: gone, replaced, moved, or kept by its annotation."""
    blocked: str = ""
    """Why nothing is deleted although something is missing, as a sentence."""


def plan_prune(
    *,
    missing: Sequence[InventoryEntry],
    live: Mapping[Key, Resource],
    source: str,
    applied_count: int,
    confirmed: frozenset[Key],
    approved: bool,
) -> PrunePlan:
    """
    Decide about objects that the source applied and no longer holds.

    Args:
        missing: Inventory entries that a complete snapshot does not hold.
        live: The stored objects of those keys; without the ones that are gone.
        source: Id of the source.
        applied_count: Objects in the source's inventory.
        confirmed: Keys that were missing long enough.
        approved: A person approved this very snapshot.
    """
    ours: list[InventoryEntry] = []
    leaving: list[InventoryEntry] = []
    release: list[InventoryEntry] = []
    for entry in missing:
        resource = live.get(entry.key)
        if resource is None or not is_ours(entry, resource, source):
            release.append(entry)
        elif resource.metadata.deletion_timestamp is not None:
            # Not counted below: a host that does not answer may hold it here for days.
            leaving.append(entry)
        else:
            ours.append(entry)
    allowed = max(FREE_PRUNES, int(applied_count * FREE_PRUNE_SHARE))
    if len(ours) > allowed and not approved:
        blocked = f"{len(ours)} of {applied_count} objects would be deleted, and at most {allowed} may go unasked."
        return PrunePlan(wait=(*leaving, *ours), release=tuple(release), blocked=blocked)
    # A sandbox cannot be torn down without its host, so nothing else goes while one is going.
    first = [entry for entry in (*ours, *leaving) if entry.key.kind == "Sandbox"]
    ready = {e.key for e in first or ours if e.key in confirmed} - {e.key for e in leaving}
    return PrunePlan(
        delete=tuple(entry for entry in ours if entry.key in ready),
        wait=(*leaving, *(entry for entry in ours if entry.key not in ready)),
        release=tuple(release),
    )


def is_ours(entry: InventoryEntry, resource: Resource, source: str) -> bool:
    """Tell whether *resource* is what the source applied, still marked as its own, and may go."""
    if resource.metadata.uid != entry.uid:
        return False
    if resource.metadata.annotations.get(PRUNE_ANNOTATION) == "disabled":
        return False
    return resource.metadata.labels.get(LABEL_SOURCE) == source
