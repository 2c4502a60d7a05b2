"""Whatever belongs to whatever, and whatever is deleted: what stays is what Kubernetes leaves."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Iterable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandboxer.engine.collecting import Collector
from sandboxer.engine.ownership import FOREGROUND, ORPHAN, Ownership, owner_key
from sandboxer.errors import ConflictError
from sandboxer.kinds.catalog import KINDS
from sandboxer.kinds.meta import API_VERSION, OwnerReference
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Change, Delete, EventRecorder, Store
from sandboxer.testing.clock import ManualClock
from tests.integration.engine_crash import CrashAt

NAMES = ["a", "b", "c", "d", "e", "f"]
GHOST = "ghost"
"""An owner that never was."""

Graph = dict[str, dict[str, bool]]
"""By object its owners, and whether they wait for it."""

OWNERS = st.dictionaries(st.sampled_from([*NAMES, GHOST]), st.booleans(), max_size=3)
GRAPHS = st.dictionaries(st.sampled_from(NAMES), OWNERS, min_size=1)
DELETIONS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(["", FOREGROUND, ORPHAN]),
        st.integers(-1, 6),
    ),
    max_size=4,
)
"""What is deleted, how, and at which suspension of the passes the process dies; -1 for never."""


def settled(graph: Graph) -> Graph:
    """Return what is left when everybody goes whose owners, of which there were some, are gone."""
    left = dict(graph)
    while gone := [name for name, owners in left.items() if owners and not owners.keys() & left]:
        for name in gone:
            del left[name]
    return {
        name: {owner: blocks for owner, blocks in owners.items() if owner in left}
        for name, owners in left.items()
    }


def without(graph: Graph, name: str, policy: str) -> Graph:
    """Return what Kubernetes leaves after the deletion of one object."""
    rest = {other: owners for other, owners in graph.items() if other != name}
    if policy == ORPHAN:
        return {
            other: {owner: blocks for owner, blocks in owners.items() if owner != name}
            for other, owners in rest.items()
        }
    return settled(rest)


class Yard:
    """A store, and a collector over it that works in a random order and may die."""

    def __init__(self, store: Store, clock: ManualClock, chance: random.Random) -> None:
        self.store = store
        self.gone: list[str] = []
        self._clock = clock
        self._chance = chance
        self._pending: set[str] = set()
        self._start()
        store.subscribe(self._changed)

    def _start(self) -> None:
        self._ownership = Ownership()
        events = EventRecorder(self.store, self._clock)
        self._collector = Collector(
            store=self.store, ownership=self._ownership, events=events, clock=self._clock
        )
        for kind in KINDS:
            for entry in self.store.entries(kind):
                self._ownership.put(entry)
        self._pending = set(self._ownership.owners())

    def _changed(self, change: Change) -> None:
        self._pending |= self._ownership.changed(change)
        if change.type == "DELETED":
            self.gone.append(change.entry.key.name)

    async def make(self, graph: Graph) -> None:
        """Store the objects, then say whose they are."""
        uids = {GHOST: "0" * 8}
        for name in graph:
            metadata = {"name": name, "namespace": "default"}
            document = {"apiVersion": API_VERSION, "kind": "Sandbox", "metadata": metadata}
            uids[name] = (await self.store.create(Sandbox.parse(document))).metadata.uid
        for name, owners in graph.items():
            await self._own(
                name, [_reference(o, uids.get(o, "1" * 8), b) for o, b in owners.items()]
            )

    async def _own(self, name: str, references: Iterable[OwnerReference]) -> None:
        found = self.store.get(Sandbox, name)
        assert found is not None
        metadata = found.metadata.model_copy(update={"owner_references": tuple(references)})
        await self.store.update(found.model_copy(update={"metadata": metadata}))

    async def delete(self, name: str, policy: str) -> None:
        """Delete an object, if it is there, as the API does."""
        finalizers = (policy,) if policy else ()
        await self.store.write([Delete(Sandbox, name, "default", finalizers=finalizers)])

    async def live(self, dies_at: int = -1) -> None:
        """Collect until nothing is left to do, once dying and starting anew."""
        if dies_at >= 0:
            await CrashAt(self._work(), dies_at)
            self._start()
        await self._work()

    async def _work(self) -> None:
        for _ in range(500):
            if not self._pending:
                return
            uid = self._chance.choice(sorted(self._pending))
            self._pending.discard(uid)
            try:
                done = await self._collector.reconcile(owner_key(uid))
            except ConflictError:
                self._pending.add(uid)
                continue
            if done.after_s is not None:
                self._clock.advance(done.after_s)
                self._pending.add(uid)
        raise AssertionError("it does not come to rest")

    def graph(self) -> Graph:
        """Return what there is; nothing of it may be half deleted."""
        objects = self.store.list(Sandbox)
        assert all(obj.metadata.deletion_timestamp is None for obj in objects)
        return {
            obj.metadata.name: {
                owner.name: owner.block_owner_deletion for owner in obj.metadata.owner_references
            }
            for obj in objects
        }


def _reference(name: str, uid: str, blocks: bool) -> OwnerReference:  # noqa: FBT001 - the field's value
    return OwnerReference(
        api_version=API_VERSION, kind="Sandbox", name=name, uid=uid, block_owner_deletion=blocks
    )


async def _check(graph: Graph, deletions: list[tuple[str, str, int]], seed: int) -> None:
    clock = ManualClock()
    with tempfile.TemporaryDirectory() as directory:
        store = await Store.open(Path(directory) / "store.db", clock=clock)
        try:
            yard = Yard(store, clock, random.Random(seed))
            await yard.make(graph)
            await yard.live()
            model = settled(graph)
            assert yard.graph() == model
            for name, policy, dies_at in deletions:
                await _delete(yard, model, name, policy, dies_at)
                model = without(model, name, policy) if name in model else model
                assert yard.graph() == model
        finally:
            await store.close()


async def _delete(yard: Yard, model: Graph, name: str, policy: str, dies_at: int) -> None:
    before = len(yard.gone)
    await yard.delete(name, policy)
    await yard.live(dies_at)
    gone = yard.gone[before:]
    if policy == FOREGROUND and not _is_circular(model):
        for child in gone:
            for owner, blocks in model[child].items():
                if len(model[child]) == 1 and blocks and owner in gone:
                    assert gone.index(child) < gone.index(owner), f"{owner} did not wait"


def _is_circular(graph: Graph) -> bool:
    """Tell whether somebody is among his own owners' owners."""
    left = dict(graph)
    while free := [name for name, owners in left.items() if not owners.keys() & left.keys()]:
        for name in free:
            del left[name]
    return bool(left)


@given(graph=GRAPHS, deletions=DELETIONS, seed=st.integers(0, 2**16))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_stays_is_what_kubernetes_leaves(
    graph: Graph, deletions: list[tuple[str, str, int]], seed: int
) -> None:
    """Random owners, circles and ghosts included, random deletions, deaths of the process."""
    asyncio.run(_check(graph, deletions, seed))
