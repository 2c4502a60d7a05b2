"""
Garbage collection: objects go with their owners, by the rules of Kubernetes.

A pass looks at one owner's uid and at everything that refers to it:

    owner gone                  a dependent whose last owner that was is deleted (Background)
    owner has `orphan`          dependents lose their reference, then the finalizer goes
    owner has
    `foregroundDeletion`        dependents are deleted, likewise in the foreground; the finalizer
                                goes when none is left that has `blockOwnerDeletion`
    dependent has other owners  it loses the reference and stays

Design notes:

* Which policy is meant is said by the finalizers of the owner, which the API adds together with
  the deletion. So a pass depends on what is stored only, and a crash between two loses nothing.
* An owner is judged by its uid at the place the reference names. When it is missing, the store is
  brought up to date and everything judged again before anything is written, and every write
  names the version that was judged.
* A reference to an owner in another namespace, which nobody can honour, is ignored and told in an
  event. Kubernetes takes such an owner for gone, and so deletes what somebody mistyped; here that
  happens only once the owner is gone indeed.
* An owner of a kind nobody knows here is there, since nobody can say otherwise.

Source:
    "Garbage Collection" and "Owners and Dependents", Kubernetes documentation; for cycles and
    mixed owners `attemptToDeleteItem`, pkg/controller/garbagecollector/garbagecollector.go.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from pydantic_core import from_json

from sandboxer.clock import Clock
from sandboxer.engine.outcome import Done
from sandboxer.engine.ownership import FOREGROUND, ORPHAN, Ownership, Reference, references_of
from sandboxer.errors import NotFoundError, SandboxerError, TransientError
from sandboxer.kinds.catalog import KINDS
from sandboxer.kinds.meta import Key, Resource
from sandboxer.store import Cause, Delete, Entry, EventRecorder, Store, Update
from sandboxer.store.operations import key_of

# Seconds of a dependent's life in which an owner nobody ever saw is not taken for gone: whoever
# makes both may not have come to the owner yet.
GRACE_S = 5.0

# Writes of one pass: bounds how long one transaction keeps others waiting, about 50 ms.
MAX_WRITES = 200

# Kind whose objects are there without being stored, for as long as something is in them
# (`sandboxer.api.namespaces`).
_SHOWN = "Namespace"

Standing = Literal["there", "waiting", "gone", "unseen", "elsewhere"]
"""How an owner is: `waiting` in the foreground for dependents, `unseen` and thus probably gone."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Dependent:
    """An object that has owners, as stored."""

    entry: Entry
    references: tuple[Reference, ...]
    created_at: datetime

    @classmethod
    def of(cls, entry: Entry) -> _Dependent:
        document: dict[str, Any] = from_json(entry.body)
        created_at = datetime.fromisoformat(document["metadata"]["creationTimestamp"])
        return cls(entry, references_of(document), created_at)


@dataclass(slots=True)
class _Work:
    """What a pass has to do."""

    writes: list[Update | Delete] = field(default_factory=list)
    warnings: list[tuple[Key, Reference]] = field(default_factory=list)
    after_s: float | None = None
    """Seconds until a dependent is old enough to be judged."""


@dataclass(kw_only=True)
class Collector:
    """Deletes what belongs to nobody any more."""

    store: Store
    ownership: Ownership
    events: EventRecorder
    clock: Clock
    _warned: set[tuple[Key, Reference]] = field(default_factory=set)

    async def reconcile(self, key: Key) -> Done:
        """
        Do what is due for the dependents of one owner.

        Raises:
            ConflictError: Something changed meanwhile; it is to be judged again.
        """
        work = self._plan(key.name)
        if work.writes:
            # NOTE: a write, even of nothing, is answered after the changes committed before it
            # were taken over; so nothing is deleted for want of an owner just made elsewhere.
            await self.store.write([])
            work = self._plan(key.name)
            await self._write(work.writes[:MAX_WRITES])
        for warning in work.warnings:
            await self._warn(*warning)
        return Done(after_s=0 if len(work.writes) > MAX_WRITES else work.after_s)

    async def failed(self, key: Key, error: TransientError) -> None:
        """Record nothing; the worker has logged it."""

    def _plan(self, uid: str) -> _Work:
        finishing = self.ownership.finishing(uid)
        if finishing is not None and ORPHAN in finishing.finalizers:
            return self._orphan(uid, finishing.key)
        work = _Work()
        if finishing is None and self._is_there(uid):
            return work
        for dependent in self._dependents(uid, deleting=False):
            self._judge(dependent, work)
        if finishing is not None and not self._is_held(finishing.key, uid):
            work.writes += self._without_finalizer(finishing.key, uid, FOREGROUND)
        return work

    def _orphan(self, uid: str, key: Key) -> _Work:
        """Let the dependents go; the finalizer follows in the pass that finds none."""
        work = _Work()
        for dependent in self._dependents(uid):
            others = [known for known in dependent.references if known.uid != uid]
            work.writes += self._with_references(dependent, others)
        if not work.writes:
            work.writes += self._without_finalizer(key, uid, ORPHAN)
        return work

    def _judge(self, dependent: _Dependent, work: _Work) -> None:
        """Add what is due for one dependent that is not being deleted."""
        standings = {known: self._standing(known, dependent) for known in dependent.references}
        work.warnings += [
            (dependent.entry.key, known) for known, how in standings.items() if how == "elsewhere"
        ]
        counted = {known: how for known, how in standings.items() if how != "elsewhere"}
        if all(how == "there" for how in counted.values()):
            return
        young_s = self._youth_s(dependent) if "unseen" in counted.values() else 0.0
        if young_s > 0:
            work.after_s = max(young_s, work.after_s or 0.0)
        elif "there" in counted.values():
            kept = [known for known, how in standings.items() if how in ("there", "elsewhere")]
            work.writes += self._with_references(dependent, kept)
        elif "waiting" in counted.values():
            work.writes += self._delete_in_foreground(dependent)
        else:
            work.writes.append(_deletion(dependent))

    def _delete_in_foreground(self, dependent: _Dependent) -> list[Update | Delete]:
        """Delete it as its owner is deleted; where that runs in a circle, open the circle first."""
        entry = dependent.entry
        own = [key for key in self.ownership.dependents(entry.uid) if key != entry.key]
        if not own:
            return [_deletion(dependent)]
        blocking = any(known.blocks for known in dependent.references)
        if blocking and any(self._is_waiting(self.store.entry(key)) for key in own):
            freed = [known._replace(blocks=False) for known in dependent.references]
            return self._with_references(dependent, freed)
        return [_deletion(dependent, FOREGROUND)]

    def _standing(self, reference: Reference, dependent: _Dependent) -> Standing:
        namespace = dependent.entry.key.namespace
        key = reference.owner(namespace)
        if key is None:
            return "there"
        owner = self.store.entry(key)
        if owner is not None and owner.uid == reference.uid:
            return "waiting" if self._is_waiting(owner) else "there"
        if KINDS[key.kind].namespaced and not namespace:
            return "elsewhere"
        if self.ownership.is_gone(reference.uid):
            return "gone"
        if key.kind == _SHOWN:
            return "there"
        alike = self.store.entries(key.kind) if KINDS[key.kind].namespaced else ()
        is_elsewhere = any(
            entry.uid == reference.uid and entry.key.namespace != namespace for entry in alike
        )
        return "elsewhere" if is_elsewhere else "unseen"

    def _is_there(self, uid: str) -> bool:
        """Tell whether the owner is where every dependent says, so that nothing is due."""
        owners = [self.store.entry(key) for key in self.ownership.named_owners(uid)]
        return bool(owners) and all(owner is not None and owner.uid == uid for owner in owners)

    def _is_waiting(self, entry: Entry | None) -> bool:
        if entry is None or not entry.deleting:
            return False
        finishing = self.ownership.finishing(entry.uid)
        return finishing is not None and FOREGROUND in finishing.finalizers

    def _is_held(self, owner: Key, uid: str) -> bool:
        """Tell whether an owner has to wait for a dependent; nobody waits for itself."""
        return any(
            known.blocks and known.uid == uid and known.owner(key.namespace) == owner
            for key in self.ownership.dependents(uid)
            for known in self.ownership.references(key)
            if key != owner
        )

    def _youth_s(self, dependent: _Dependent) -> float:
        """Return the seconds left until an owner nobody saw counts as gone."""
        age_s = (self.clock.now() - dependent.created_at).total_seconds()
        # A clock that was set back must not make it wait for longer.
        return GRACE_S - age_s if 0 <= age_s < GRACE_S else 0.0

    def _dependents(self, uid: str, *, deleting: bool = True) -> Iterator[_Dependent]:
        for key in self.ownership.dependents(uid):
            entry = self.store.entry(key)
            if entry is not None and (deleting or not entry.deleting):
                yield _Dependent.of(entry)

    def _with_references(
        self, dependent: _Dependent, kept: Collection[Reference]
    ) -> list[Update | Delete]:
        """Return the write after which an object has these of its references, in its own order."""
        obj = self._read(dependent.entry.key, dependent.entry.uid)
        if obj is None or tuple(kept) == dependent.references:
            return []
        blocks = {known.uid: known.blocks for known in kept}
        references = tuple(
            known.model_copy(update={"block_owner_deletion": blocks[known.uid]})
            for known in obj.metadata.owner_references
            if known.uid in blocks
        )
        return [_with_metadata(obj, owner_references=references)]

    def _without_finalizer(self, key: Key, uid: str, finalizer: str) -> Iterable[Update]:
        obj = self._read(key, uid)
        if obj is None or finalizer not in obj.metadata.finalizers:
            return []
        kept = tuple(known for known in obj.metadata.finalizers if known != finalizer)
        return [_with_metadata(obj, finalizers=kept)]

    def _read(self, key: Key, uid: str) -> Resource | None:
        obj = self.store.get(KINDS[key.kind], key.name, key.namespace)
        return obj if obj is not None and obj.metadata.uid == uid else None

    async def _write(self, writes: list[Update | Delete]) -> None:
        results = await self.store.write(writes)
        for write, result in zip(writes, results, strict=True):
            if isinstance(result, SandboxerError) and not isinstance(result, NotFoundError):
                raise result
            if isinstance(write, Delete):
                key = key_of(write.model, write.name, write.namespace)
                _log.info("deleted with its owner", extra={"object": str(key), "uid": write.uid})

    async def _warn(self, key: Key, reference: Reference) -> None:
        obj = self.store.get(KINDS[key.kind], key.name, key.namespace)
        if obj is None or (key, reference) in self._warned:
            return
        self._warned.add((key, reference))
        where = f"namespace {key.namespace}" if key.namespace else "any namespace of its own"
        message = (
            f"Its owner {reference.kind} {reference.name} (uid {reference.uid}) is not in {where}; "
            "the reference is ignored."
        )
        await self.events.record(obj, "OwnerRefInvalidNamespace", message, type="Warning")


def _deletion(dependent: _Dependent, *finalizers: str) -> Delete:
    entry = dependent.entry
    owners = ", ".join(f"{known.kind} {known.name}" for known in dependent.references)
    return Delete(
        KINDS[entry.key.kind],
        entry.key.name,
        entry.key.namespace,
        uid=entry.uid,
        resource_version=str(entry.revision),
        finalizers=finalizers,
        cause=Cause("collector", "owner", because=f"What it belonged to was deleted: {owners}."),
    )


def _with_metadata(obj: Resource, **changed: tuple[object, ...]) -> Update:
    metadata = obj.metadata.model_copy(update=dict(changed))
    return Update(obj.model_copy(update={"metadata": metadata}))
