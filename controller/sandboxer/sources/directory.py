"""
The spec directory: what it holds is applied, what it no longer holds is taken away, carefully.

`DirectorySource.look` is the whole story of one look: read a snapshot, apply it, prune. File
system events only wake it; a look every 30 seconds is the truth. See `docs/gitops.md`.

Design notes:

* **Nothing is deleted on doubt.** A file that does not parse, a directory that is missing, empty or
  unreadable, two files with the same object: the snapshot is incomplete, nothing is pruned and,
  unless *partial*, nothing is applied either. The kubelet drops what it cannot parse from its wish
  and kills what runs; that is the mistake not to repeat.
* **The inventory is a superset first.** Keys are recorded before they are applied and removed after
  they are gone, so a crash in between leaves nothing that nobody knows.
* **Absent twice.** An object goes only when it was missing in complete snapshots at least
  `CONFIRM_S` apart; an editor, rsync or a checkout under way looks like a deletion for a moment.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sandboxer.clock import Clock
from sandboxer.errors import ConflictError, NotFoundError, SandboxerError
from sandboxer.kinds.catalog import KINDS
from sandboxer.kinds.meta import API_VERSION, GROUP, Key, ObjectMeta, Resource
from sandboxer.sources.apply import ApplyError, apply_resources, key_of_resource
from sandboxer.sources.documents import Document
from sandboxer.sources.pruning import PrunePlan, is_ours, plan_prune
from sandboxer.sources.snapshot import ParsedFile, Snapshot, document_digest, read_snapshot
from sandboxer.sources.watching import DirectoryWatcher
from sandboxer.store import Cause, EventRecorder, InventoryEntry, Store

SUSPEND_ANNOTATION = f"{GROUP}/suspend"
"""`"true"` in a manifest: it is neither applied nor pruned for the time being."""

APPROVAL_FILE = ".prune-approved"
"""File in the directory that holds the digest of a snapshot whose deletions are approved."""

# Seconds between two looks when no event wakes us.
RESCAN_S = 30.0

# Seconds an object must have been missing before it is deleted.
CONFIRM_S = 10.0

# Bytes; an approval is 16 digits.
_MAX_APPROVAL_BYTES = 256

# Problems told one by one; a broken merge can make thousands, and each is an event in the store.
_MAX_TOLD = 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """What one look came to."""

    problems: tuple[str, ...] = ()
    """What a person must put right, each with file and line; empty means it is ready."""
    changed: tuple[Key, ...] = ()
    """Objects that were created or changed."""
    deleted: tuple[Key, ...] = ()
    """Objects whose deletion was asked for."""
    blocked: str = ""
    """Why objects whose manifest is gone are kept, and how to let them go."""


@dataclass(kw_only=True)
class _Missing:
    """Since when each object has been missing, on the monotonic clock."""

    since_s: dict[Key, float] = field(default_factory=dict)

    def note(self, keys: Iterable[Key], now_s: float) -> None:
        self.since_s = {key: self.since_s.get(key, now_s) for key in keys}

    def confirmed(self, now_s: float) -> frozenset[Key]:
        return frozenset(key for key, at in self.since_s.items() if now_s - at >= CONFIRM_S)


class DirectorySource:
    """
    Keeps the store equal to a directory of manifests.

    Args:
        store: Where they are applied.
        root: The directory; it may be missing, and may be a link.
        clock: Monotonic time for the confirmation of deletions.
        allow_empty: An empty directory means that nothing is wanted, instead of a mistake.
        partial: Apply the good files although others have problems; never prunes then either.
    """

    def __init__(
        self,
        store: Store,
        root: Path,
        *,
        clock: Clock,
        allow_empty: bool = False,
        partial: bool = False,
    ) -> None:
        self.source = source_id(root)
        self._store = store
        self._root = root
        self._clock = clock
        self._allow_empty = allow_empty
        self._partial = partial
        self._missing = _Missing()
        self._files: Mapping[Path, ParsedFile] = {}
        # Revision each object had when it was last seen to be as its document says.
        self._settled: dict[Key, int] = {}
        self._events = EventRecorder(store, clock)
        self._told: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Look whenever something changed, and every `RESCAN_S`, until cancelled."""
        watcher = DirectoryWatcher(self._root)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watcher.run())
            while True:
                watcher.woken.clear()
                await self._look_and_tell()
                watcher.after_look()
                unsettled = self._missing.since_s or self._told
                with suppress(TimeoutError):
                    async with asyncio.timeout(CONFIRM_S if unsettled else RESCAN_S):
                        await watcher.woken.wait()

    async def look(self) -> SourceReport:
        """
        Read the directory once and bring the store in line with it.

        Raises:
            SandboxerError: The store cannot be written; nothing is lost, look again.
        """
        snapshot = await asyncio.to_thread(read_snapshot, self._root, self._files)
        self._files = snapshot.files
        inventory = {e.key: e for e in await self._store.load_inventory(self.source)}
        problems = [str(problem) for problem in snapshot.problems]
        if inventory and _is_empty(snapshot) and not self._allow_empty:
            problems.append(f"{self._root}: holds no manifest; nothing is deleted because of that")
        if problems and not self._partial:
            self._missing.since_s.clear()
            return SourceReport(problems=tuple(problems))
        changed, refused = await self._apply(snapshot, inventory)
        problems += refused
        if problems:
            self._missing.since_s.clear()
            return SourceReport(problems=tuple(problems), changed=changed)
        plan = self._plan(snapshot, inventory)
        deleted = await self._delete(plan)
        for entry in plan.release:
            inventory.pop(entry.key)
        if plan.release:
            await self._store.save_inventory(self.source, inventory.values())
        return SourceReport(changed=changed, deleted=deleted, blocked=self._blocked(plan, snapshot))

    async def _apply(
        self, snapshot: Snapshot, inventory: dict[Key, InventoryEntry]
    ) -> tuple[tuple[Key, ...], list[str]]:
        """Apply what is not suspended; return the changed keys and a sentence per refusal."""
        wanted = {
            key: document
            for document in snapshot.documents
            if not _is_suspended(document)
            and not self._is_settled(key := key_of_resource(document.resource), document, inventory)
        }
        await self._record_intent(wanted, inventory)
        refused: list[str] = []
        try:
            applied = await apply_resources(
                self._store, [d.resource for d in wanted.values()], source=self.source,
                manager=manager_of(self.source), force=True,
            )  # fmt: skip
        except ApplyError as error:
            applied = error.applied
            refused = [f"{wanted[key].place}: {why}" for key, why in error.refused.items()]
        before = dict(inventory)
        for entry in applied:
            digest = document_digest(wanted[entry.key])
            metadata = entry.resource.metadata
            inventory[entry.key] = InventoryEntry(entry.key, metadata.uid, digest)
            self._settled[entry.key] = int(metadata.resource_version)
            if entry.adopted:
                message = f"It was made by hand and is now kept as in {wanted[entry.key].place}."
                await self._events.record(entry.resource, "Adopted", message)
        if inventory != before:
            await self._store.save_inventory(self.source, inventory.values())
        return tuple(entry.key for entry in applied if entry.result != "unchanged"), refused

    def _is_settled(
        self, key: Key, document: Document, inventory: Mapping[Key, InventoryEntry]
    ) -> bool:
        """Tell whether neither the document nor the object changed since it was applied."""
        known, stored = inventory.get(key), self._store.entry(key)
        return (
            known is not None
            and stored is not None
            and stored.revision == self._settled.get(key)
            and known.uid == stored.uid
            and known.digest == document_digest(document)
        )

    async def _record_intent(
        self, wanted: dict[Key, Document], inventory: dict[Key, InventoryEntry]
    ) -> None:
        """Record what is about to be applied, before it is."""
        new = [key for key in wanted if key not in inventory]
        inventory.update({key: InventoryEntry(key, "", "") for key in new})
        if new:
            await self._store.save_inventory(self.source, inventory.values())

    def _plan(self, snapshot: Snapshot, inventory: dict[Key, InventoryEntry]) -> PrunePlan:
        held = {key_of_resource(document.resource) for document in snapshot.documents}
        missing = [entry for key, entry in inventory.items() if key not in held]
        now_s = self._clock.monotonic_s()
        self._missing.note((entry.key for entry in missing), now_s)
        found = {entry.key: self._live(entry.key) for entry in missing}
        return plan_prune(
            missing=[self._identified(entry, found[entry.key]) for entry in missing],
            live={key: resource for key, resource in found.items() if resource is not None},
            source=self.source,
            applied_count=len(inventory),
            confirmed=self._missing.confirmed(now_s),
            approved=self._is_approved(snapshot.digest),
        )

    def _identified(self, entry: InventoryEntry, live: Resource | None) -> InventoryEntry:
        """Fill in the uid of an object that was applied just before a crash; its label tells."""
        return entry if entry.uid or live is None else entry._replace(uid=live.metadata.uid)

    async def _delete(self, plan: PrunePlan) -> tuple[Key, ...]:
        """Ask for the planned deletions; an entry leaves the inventory once its object is gone."""
        deleted = []
        gone = f"Its manifest is gone from {self._root}."
        for entry in plan.delete:
            live = self._live(entry.key)
            if live is None or not is_ours(entry, live, self.source):
                continue
            try:
                # The version too: another process may be setting the annotation that keeps it.
                await self._store.delete(
                    type(live), entry.key.name, entry.key.namespace,
                    uid=entry.uid, resource_version=live.metadata.resource_version,
                    cause=Cause(f"source/{self.source}", "manifest", because=gone),
                )  # fmt: skip
            except (NotFoundError, ConflictError):
                continue  # the next look judges it anew
            await self._events.record(live, "Pruned", f"{gone} So it is deleted.")
            deleted.append(entry.key)
        return tuple(deleted)

    def _live(self, key: Key) -> Resource | None:
        return self._store.get(KINDS[key.kind], key.name, key.namespace)

    def _is_approved(self, digest: str) -> bool:
        try:
            # O_NONBLOCK: a named pipe in its place must not stop the controller.
            descriptor = os.open(self._root / APPROVAL_FILE, os.O_RDONLY | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                approved = file.read(_MAX_APPROVAL_BYTES) or b""
        except OSError:
            return False
        return approved.strip() == digest.encode()

    def _blocked(self, plan: PrunePlan, snapshot: Snapshot) -> str:
        if not plan.blocked:
            return ""
        path = self._root / APPROVAL_FILE
        return f"{plan.blocked} To let them go: echo {snapshot.digest} > {path}"

    async def _look_and_tell(self) -> None:
        try:
            report = await self.look()
        except SandboxerError as error:
            # The store is busy or full; the next look tries again.
            report = SourceReport(problems=(f"{self._root}: {error}",))
        await self._tell(report)
        if report.changed or report.deleted:
            _log.info(
                "The spec directory was applied",
                extra={
                    "directory": str(self._root),
                    "changed": len(report.changed),
                    "deleted": len(report.deleted),
                },
            )

    async def _tell(self, report: SourceReport) -> None:
        """Say each new problem once, in the log and as an event."""
        reasons = dict.fromkeys(report.problems[:_MAX_TOLD], "SpecDirectoryError")
        if (left := len(report.problems) - _MAX_TOLD) > 0:
            reasons[f"{self._root}: and {left} more problems"] = "SpecDirectoryError"
        if report.blocked:
            reasons[report.blocked] = "PruneBlocked"
        subject = Resource(
            api_version=API_VERSION, kind="Source", metadata=ObjectMeta(name=self.source)
        )
        for text, reason in reasons.items():
            if text not in self._told:
                _log.warning(
                    "The spec directory needs attention",
                    extra={"directory": str(self._root), "problem": text},
                )
                await self._events.record(subject, reason, text, "Warning")
        if self._told and not reasons:
            _log.info("The spec directory is in order", extra={"directory": str(self._root)})
        self._told = frozenset(reasons)


def source_id(root: Path) -> str:
    """Return the id of a directory: its last name and a hash of its path, a valid label value."""
    path = Path(os.path.normpath(root.absolute()))
    name = re.sub(r"[^a-z0-9-]", "-", path.name.lower()).strip("-")[:32] or "specs"
    return f"{name}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def manager_of(source: str) -> str:
    """Return the name under which a source owns the fields its manifests name."""
    return f"source:{source}"


def _is_empty(snapshot: Snapshot) -> bool:
    return snapshot.is_complete and not snapshot.documents


def _is_suspended(document: Document) -> bool:
    return document.resource.metadata.annotations.get(SUSPEND_ANNOTATION) == "true"
