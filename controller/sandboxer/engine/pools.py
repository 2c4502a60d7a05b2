"""
One pass over one SandboxPool: count what it controls, make what is missing, delete what is too much.

What there is, is counted in the store alone; status is written afterwards and never read to
decide. A sandbox is made by one write to that same store, so it is there with its owner or not at
all: a crash loses an event at most, and the next pass counts what was made. Two processes cannot
count differently, because a pass holds the pool's lock and brings the store up to date before it
makes anything.

A pool does not delete what it leaves behind: its sandboxes go by their ownerReferences
(`sandboxer.engine.collecting`).
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sandboxer.clock import Clock
from sandboxer.engine.conditions import Fact, restated, stated
from sandboxer.engine.members import Member, Members
from sandboxer.engine.outcome import Done
from sandboxer.errors import InvalidSpecError, NotFoundError, SandboxerError, TransientError
from sandboxer.kinds.meta import Key, ObjectMeta, OwnerReference
from sandboxer.kinds.pool import (
    LABEL_POOL,
    LABEL_TEMPLATE,
    SandboxPool,
    SandboxPoolStatus,
    SandboxTemplate,
)
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Cause, Create, Delete, Entry, EventRecorder, News, Store

# Sandboxes made or deleted by one pass: a pool of a thousand must not keep the store from others.
MAX_WRITES = 50

# Names in an event.
MAX_NAMES = 5

# Letters of a generated name, without vowels and what looks like them, so that none is a word.
# Source: Kubernetes, apimachinery/pkg/util/rand/rand.go.
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH = 5
_PREFIX_LENGTH = 63 - 1 - _SUFFIX_LENGTH

# Hexadecimal digits that tell templates apart.
_HASH_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """What brings a pool nearer to what is wished."""

    create: int
    delete: tuple[Member, ...]
    because: str = ""
    """Why members are deleted, as a sentence."""


def plan(pool: SandboxPool, members: Sequence[Member], template: str) -> Plan:
    """
    Return what to make and what to delete.

    Args:
        pool: What is wanted.
        members: The sandboxes it controls.
        template: Hash of its template.
    """
    current = [member for member in members if not member.deleting]
    missing = pool.spec.replicas - len(current)
    if missing > 0:
        return Plan(missing, ())
    if missing < 0:
        why = f"The pool is to have {pool.spec.replicas} and had {len(current)}."
        return Plan(0, tuple(_surplus(current, template)[:-missing]), why)
    if pool.spec.update_policy == "OnDelete":
        return Plan(0, ())
    return Plan(0, _outdated(current, template), "It was made from another template of the pool.")


def template_hash(template: SandboxTemplate) -> str:
    """Return what tells templates apart; fields that a later version adds do not change it."""
    written = template.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    text = json.dumps(written, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]


def _surplus(current: Sequence[Member], template: str) -> list[Member]:
    """Return the members in the order they can be spared: not ready, of another template, newest."""
    newest_first = sorted(current, key=lambda m: (m.created_at, m.key), reverse=True)
    return sorted(newest_first, key=lambda m: (m.ready == "True", m.template == template))


def _outdated(current: Sequence[Member], template: str) -> tuple[Member, ...]:
    """
    Return the members to exchange now.

    Those that are not ready serve nobody and go at once. Of the others the oldest goes, and only
    while all are ready. One whose host is silent may well be at work, so it waits.
    """
    old = [member for member in current if member.template != template]
    useless = tuple(member for member in old if member.ready == "False")
    if useless or not old or any(member.ready != "True" for member in current):
        return useless
    return (min(old, key=lambda m: (m.created_at, m.key)),)


@dataclass(kw_only=True)
class PoolPass:
    """Keeps the number of a pool's sandboxes."""

    store: Store
    members: Members
    events: EventRecorder
    clock: Clock

    async def reconcile(self, key: Key) -> Done:
        """
        Make or delete what is due, and say how the pool is.

        Raises:
            ConflictError: Something changed meanwhile.
        """
        pool = self.store.get(SandboxPool, key.name, key.namespace)
        if pool is None:
            return Done()
        template = template_hash(pool.spec.template)
        due = self._due(pool, template)
        if due.create or due.delete:
            # NOTE: a write, even of nothing, is answered after the changes committed before it
            # were taken over; what another process has made a moment ago is counted then.
            await self.store.write([])
            pool = self.store.get(SandboxPool, key.name, key.namespace)
            if pool is None:
                return Done()
            template = template_hash(pool.spec.template)
            due = self._due(pool, template)
        await self._delete(pool, due)
        refusal = await self._make(pool, due.create, template)
        await self._write(pool, self._facts(pool, template, refusal), template)
        more = refusal is None and max(due.create, len(due.delete)) > MAX_WRITES
        return Done(after_s=0 if more else None)

    async def failed(self, key: Key, error: TransientError) -> None:
        """Record an error that nobody expected."""
        pool = self.store.get(SandboxPool, key.name, key.namespace)
        if pool is not None:
            facts = {"Ready": Fact("False", error.reason, str(error))}
            await self._write(pool, facts, template_hash(pool.spec.template))

    def _due(self, pool: SandboxPool, template: str) -> Plan:
        if pool.metadata.deletion_timestamp is not None:
            return Plan(0, ())
        return plan(pool, self.members.of(pool.metadata.uid), template)

    async def _make(self, pool: SandboxPool, count: int, template: str) -> InvalidSpecError | None:
        """Create so many sandboxes; return why the store takes none like them."""
        wanted = [_sandbox(pool, template) for _ in range(min(count, MAX_WRITES))]
        cause = _cause(pool)
        results = await self.store.write([Create(obj, cause) for obj in wanted]) if wanted else []
        made = [result.metadata.name for result in results if isinstance(result, Sandbox)]
        if made:
            await self.events.record(pool, "SandboxesCreated", f"It made {_listed(made)}.")
        refusals = [result for result in results if isinstance(result, SandboxerError)]
        for refusal in refusals:
            if isinstance(refusal, InvalidSpecError):
                return refusal
            raise refusal
        return None

    async def _delete(self, pool: SandboxPool, due: Plan) -> None:
        """Delete members at the version they were counted at: one just taken out is not hit."""
        # NOTE: nothing was awaited since they were counted, so the store has them as counted.
        entries = [self.store.entry(member.key) for member in due.delete[:MAX_WRITES]]
        doomed = [entry for entry in entries if entry is not None]
        if not doomed:
            return
        cause = _cause(pool, due.because)
        results = await self.store.write([_deletion(entry, cause) for entry in doomed])
        gone = [
            entry.key.name
            for entry, result in zip(doomed, results, strict=True)
            if not isinstance(result, SandboxerError)
        ]
        if gone:
            await self.events.record(pool, "SandboxesDeleted", f"It deleted {_listed(gone)}.")
        for result in results:
            if isinstance(result, SandboxerError) and not isinstance(result, NotFoundError):
                raise result

    def _facts(
        self, pool: SandboxPool, template: str, refusal: InvalidSpecError | None
    ) -> dict[str, Fact]:
        current = [m for m in self.members.of(pool.metadata.uid) if not m.deleting]
        ready = sum(member.ready == "True" for member in current)
        wanted = pool.spec.replicas
        told = f"{ready} of {wanted} sandboxes are ready."
        failure = str(refusal) if refusal else next((m.failure for m in current if m.failure), "")
        if pool.metadata.deletion_timestamp is not None:
            settled = Fact("False", "Deleting", f"It is being deleted; {len(current)} are left.")
        elif len(current) != wanted:
            settled = Fact("False", "Scaling", f"There are {len(current)} of {wanted} sandboxes.")
        elif pool.spec.update_policy == "Replace" and any(m.template != template for m in current):
            settled = Fact("False", "Updating", "Sandboxes of another template are exchanged.")
        elif ready < wanted:
            settled = Fact("False", "Waiting", told)
        else:
            settled = Fact("True", "AsWished", told)
        return _conditions(settled, failure, is_ready=ready == wanted == len(current), told=told)

    async def _write(self, pool: SandboxPool, facts: dict[str, Fact], template: str) -> None:
        """Write the status, unless it says the same already."""
        current = [m for m in self.members.of(pool.metadata.uid) if not m.deleting]
        counted = pool.status.model_copy(
            update={
                "replicas": len(current),
                "ready_replicas": sum(member.ready == "True" for member in current),
                "updated_replicas": sum(member.template == template for member in current),
                "failed_replicas": sum(member.failure != "" for member in current),
                "selector": f"{LABEL_POOL}={pool.metadata.name}",
            }
        )
        generation, now = pool.metadata.generation, self.clock.now()
        status = stated(counted, facts, generation=generation, now=now)
        if status == pool.status:
            return
        stored = await self.store.update_status(pool.model_copy(update={"status": status}))
        for item in _news(pool.status, status):
            await self.events.record(stored, item.reason, item.message, type=item.type)


def _cause(pool: SandboxPool, because: str = "") -> Cause:
    return Cause(f"pool/{pool.metadata.name}", "replicas", because=because)


def _deletion(entry: Entry, cause: Cause) -> Delete:
    return Delete(
        Sandbox,
        entry.key.name,
        entry.key.namespace,
        uid=entry.uid,
        resource_version=str(entry.revision),
        cause=cause,
    )


def _news(before: SandboxPoolStatus, after: SandboxPoolStatus) -> Iterator[News]:
    """Tell that the pool is ready, and that something in it failed for good."""
    ready, stalled = restated(before, after, "Ready"), restated(before, after, "Stalled")
    if ready is not None and ready.status == "True":
        yield News(reason=ready.reason, message=ready.message)
    if stalled is not None and stalled.status == "True":
        yield News(reason=stalled.reason, message=stalled.message, type="Warning")


def _conditions(settled: Fact, failure: str, *, is_ready: bool, told: str) -> dict[str, Fact]:
    """Return the three conditions kstatus reads: Stalled or Reconciling, never both."""
    busy = settled.status == "False" and not failure
    return {
        "Ready": Fact("True", "Ready", told) if is_ready else Fact("False", settled.reason, told),
        "Reconciling": Fact("True" if busy else "False", settled.reason, settled.message),
        "Stalled": Fact("True", "SandboxFailed", failure)
        if failure
        else Fact("False", "Progressing" if busy else "AsWished", settled.message),
    }


def _sandbox(pool: SandboxPool, template: str) -> Sandbox:
    given, written = pool.metadata, pool.spec.template
    suffix = "".join(secrets.choice(_LETTERS) for _ in range(_SUFFIX_LENGTH))
    owner = OwnerReference(
        api_version=pool.api_version,
        kind=pool.kind,
        name=given.name,
        uid=given.uid,
        controller=True,
        block_owner_deletion=True,
    )
    labels = {**written.metadata.labels, LABEL_POOL: given.name, LABEL_TEMPLATE: template}
    metadata = ObjectMeta(
        name=f"{given.name[:_PREFIX_LENGTH].rstrip('-.')}-{suffix}",
        namespace=given.namespace,
        labels=labels,
        annotations=written.metadata.annotations,
        owner_references=(owner,),
    )
    return Sandbox(metadata=metadata, spec=written.spec)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MAX_NAMES]) + (", …" if len(names) > MAX_NAMES else "")
    return f"{len(names)} sandbox{'es' if len(names) != 1 else ''}: {shown}"
