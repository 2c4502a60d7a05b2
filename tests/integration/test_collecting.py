"""Objects go with their owners: the three policies, mixed owners, circles, mistakes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sandboxer.api.namespaces import NamespacesCollection
from sandboxer.engine.collecting import GRACE_S, Collector
from sandboxer.engine.ownership import FOREGROUND, ORPHAN, Ownership, owner_key
from sandboxer.errors import ConflictError
from sandboxer.kinds.event import Event
from sandboxer.kinds.meta import API_VERSION, Resource
from sandboxer.kinds.namespace import Namespace
from sandboxer.kinds.profile import Profile
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Change, Delete, EventRecorder, KeyLocks, Store
from sandboxer.testing.builders import host, profile
from sandboxer.testing.clock import ManualClock
from sandboxer.testing.fake import FakeObserver
from tests.integration.engine_lab import Lab, make_engine, open_lab
from tests.integration.engine_meddling import MeddlingStore
from tests.integration.test_pools import is_settled, live, pool

LONG_AGO_S = 3600.0


def owned(name: str, *owners: dict[str, Any], namespace: str = "default") -> Sandbox:
    """Return a sandbox with these ownerReferences; its profile is missing, so it stays as it is."""
    return Sandbox.parse(
        {
            "apiVersion": API_VERSION,
            "kind": "Sandbox",
            "metadata": {"name": name, "namespace": namespace, "ownerReferences": list(owners)},
            "spec": {"profile": "missing"},
        }
    )


def ref(owner: Resource, *, blocks: bool = False, **fields: Any) -> dict[str, Any]:
    """Return the ownerReference to a stored object, with *fields* as in a document."""
    reference = {
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.metadata.name,
        "uid": owner.metadata.uid,
        "blockOwnerDeletion": blocks,
    }
    return reference | fields


def names(store: Store) -> set[str]:
    """Return the names of all sandboxes."""
    return {sandbox.metadata.name for sandbox in store.list(Sandbox)}


def owners(store: Store, name: str) -> list[str]:
    """Return the names of a sandbox's owners."""
    found = store.get(Sandbox, name)
    assert found is not None
    return [reference.name for reference in found.metadata.owner_references]


async def delete(store: Store, name: str, *finalizers: str) -> None:
    """Delete a sandbox by a policy, as the API does."""
    (result,) = await store.write([Delete(Sandbox, name, "default", finalizers=finalizers)])
    assert not isinstance(result, Exception)


def order_of_deletion(store: Store) -> list[str]:
    """Return a list that gets the name of every object that goes."""
    gone: list[str] = []

    def note(change: Change) -> None:
        if change.type == "DELETED":
            gone.append(change.entry.key.name)

    store.subscribe(note)
    return gone


async def family(lab: Lab) -> None:
    """Make `a`, its dependent `b`, and the dependent `c` of that."""
    a = await lab.store.create(owned("a"))
    b = await lab.store.create(owned("b", ref(a, blocks=True)))
    await lab.store.create(owned("c", ref(b, blocks=True)))
    await lab.idle()


async def test_dependents_go_in_the_background(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The owner goes at once, then its dependents, then theirs; the log names each."""
    caplog.set_level("INFO")
    async with open_lab(tmp_path) as lab:
        await family(lab)
        gone = order_of_deletion(lab.store)

        await delete(lab.store, "a")
        await lab.until(lambda: not names(lab.store))

    assert gone == ["a", "b", "c"]
    logged = [r.__dict__["object"] for r in caplog.records if r.msg == "deleted with its owner"]
    assert logged == ["Sandbox default/b", "Sandbox default/c"]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_the_owner_waits_in_the_foreground(tmp_path: Path) -> None:
    """The last dependent goes first, the owner last."""
    async with open_lab(tmp_path) as lab:
        await family(lab)
        gone = order_of_deletion(lab.store)

        await delete(lab.store, "a", FOREGROUND)
        await lab.until(lambda: not names(lab.store))

    assert gone == ["c", "b", "a"]


async def test_the_owner_does_not_wait_for_what_does_not_block(tmp_path: Path) -> None:
    """A dependent without blockOwnerDeletion goes too, and holds nobody up."""
    async with open_lab(tmp_path) as lab:
        a = await lab.store.create(owned("a"))
        held = owned("b", ref(a))
        metadata = held.metadata.model_copy(update={"finalizers": ("example.org/hold",)})
        await lab.store.create(held.model_copy(update={"metadata": metadata}))
        await lab.idle()

        await delete(lab.store, "a", FOREGROUND)
        await lab.until(lambda: names(lab.store) == {"b"})
        await lab.until(lambda: _is_deleting(lab.store, "b"))


async def test_orphans_stay_and_lose_their_reference(tmp_path: Path) -> None:
    """The owner goes alone; its dependents are nobody's, and theirs stay theirs."""
    async with open_lab(tmp_path) as lab:
        await family(lab)

        await delete(lab.store, "a", ORPHAN)
        await lab.until(lambda: names(lab.store) == {"b", "c"})
        await lab.idle()

        assert owners(lab.store, "b") == []
        assert owners(lab.store, "c") == ["b"]


async def test_an_orphan_that_changes_meanwhile_is_not_lost(tmp_path: Path) -> None:
    """When a dependent is written at the last moment, its owner waits until it is free."""
    clock = ManualClock()
    store = await MeddlingStore.open(tmp_path / "store.db", clock=clock)
    assert isinstance(store, MeddlingStore)
    ownership, events = Ownership(), EventRecorder(store, clock)
    store.subscribe(ownership.changed)
    collector = Collector(store=store, ownership=ownership, events=events, clock=clock)
    a = await store.create(owned("a"))
    await store.create(owned("b", ref(a)))
    await delete(store, "a", ORPHAN)

    store.meddle = lambda: _label(store, "b")
    with pytest.raises(ConflictError):
        await collector.reconcile(owner_key(a.metadata.uid))
    waiting = names(store)
    for _ in range(3):
        await collector.reconcile(owner_key(a.metadata.uid))
    left, whose = names(store), owners(store, "b")
    await store.close()

    assert waiting == {"a", "b"}
    assert (left, whose) == ({"b"}, [])


@pytest.mark.parametrize("finalizer", [None, FOREGROUND])
async def test_who_has_another_owner_stays(tmp_path: Path, finalizer: str | None) -> None:
    """The reference to the owner that goes is removed, the other one holds."""
    async with open_lab(tmp_path) as lab:
        a = await lab.store.create(owned("a"))
        b = await lab.store.create(owned("b"))
        await lab.store.create(owned("c", ref(a, blocks=True), ref(b, blocks=True)))
        await lab.idle()

        await delete(lab.store, "a", *([finalizer] if finalizer else []))
        await lab.until(lambda: "a" not in names(lab.store) and owners(lab.store, "c") == ["b"])
        await delete(lab.store, "b")
        await lab.until(lambda: not names(lab.store))


@pytest.mark.parametrize("finalizer", [None, FOREGROUND])
async def test_a_circle_goes(tmp_path: Path, finalizer: str | None) -> None:
    """Three that own each other go when one of them is deleted, also in the foreground."""
    async with open_lab(tmp_path) as lab:
        await family(lab)
        c = lab.store.get(Sandbox, "c")
        assert c is not None
        await _own(lab.store, "a", ref(c, blocks=True))
        await lab.idle()

        await delete(lab.store, "a", *([finalizer] if finalizer else []))
        await lab.until(lambda: not names(lab.store))


async def test_who_owns_itself_can_be_deleted(tmp_path: Path) -> None:
    """An object does not wait for itself."""
    async with open_lab(tmp_path) as lab:
        a = await lab.store.create(owned("a"))
        await _own(lab.store, "a", ref(a, blocks=True))

        await delete(lab.store, "a", FOREGROUND)
        await lab.until(lambda: not names(lab.store))


async def test_an_owner_that_never_was_counts_as_gone_later(tmp_path: Path) -> None:
    """A namesake with another uid is no owner; the dependent goes after its grace."""
    async with open_lab(tmp_path) as lab:
        a = await lab.store.create(owned("a"))
        await lab.store.create(owned("b", ref(a, uid="0" * 8)))
        await lab.idle()
        lab.clock.advance(GRACE_S - 1)
        await lab.idle()
        young = names(lab.store)

        await lab.until(lambda: names(lab.store) == {"a"})

    assert young == {"a", "b"}


async def test_an_owner_that_comes_in_time_is_one(tmp_path: Path) -> None:
    """Within its grace a dependent may be there before its owner is seen."""
    async with open_lab(tmp_path) as lab:
        a = await lab.store.create(owned("a"))
        await lab.store.create(owned("b", ref(a, name="later")))
        await lab.idle()

        await _own(lab.store, "b", ref(a))
        lab.clock.advance(2 * GRACE_S)
        await lab.idle()

        assert names(lab.store) == {"a", "b"}


async def test_an_owner_elsewhere_is_ignored_and_told(tmp_path: Path) -> None:
    """A reference across namespaces deletes nothing while that owner is there, and is a Warning."""
    async with open_lab(tmp_path) as lab:
        a = await lab.store.create(owned("a", namespace="other"))
        await lab.store.create(owned("b", ref(a)))
        await lab.idle()
        lab.clock.advance(LONG_AGO_S)

        await lab.until(lambda: _told(lab.store, "OwnerRefInvalidNamespace") == 1)
        lab.engine.wakeups.resync()
        await lab.idle()

        assert names(lab.store) == {"a", "b"}
        assert _told(lab.store, "OwnerRefInvalidNamespace") == 1


async def test_what_belongs_to_no_namespace_is_not_owned_by_what_does(tmp_path: Path) -> None:
    """A cluster-scoped object with a namespaced owner is never collected."""
    async with open_lab(tmp_path) as lab:
        a = await lab.store.create(owned("a"))
        document = profile().to_document()
        document["metadata"]["ownerReferences"] = [ref(a)]
        await lab.store.create(Profile.parse(document))

        await delete(lab.store, "a")
        lab.clock.advance(LONG_AGO_S)
        await lab.until(lambda: _told(lab.store, "OwnerRefInvalidNamespace") == 1)
        await lab.idle()

        assert lab.store.get(Profile, "fake") is not None


async def test_a_namespace_that_nobody_made_is_there(tmp_path: Path) -> None:
    """It is shown for as long as it is in use, and stored nowhere; who names it as owner stays."""
    async with open_lab(tmp_path) as lab:
        shown = NamespacesCollection(lab.store).get("", "default")
        assert shown is not None
        owner = Namespace.model_validate_json(shown.body)
        await lab.store.create(owned("a", ref(owner)))
        await lab.idle()
        lab.clock.advance(LONG_AGO_S)
        lab.engine.wakeups.resync()
        await lab.idle()

        assert names(lab.store) == {"a"}


async def test_an_unknown_kind_of_owner_is_there(tmp_path: Path) -> None:
    """What nobody here can look up is not taken for gone, and does hold a dependent."""
    async with open_lab(tmp_path) as lab:
        a = await lab.store.create(owned("a"))
        stranger = ref(a, apiVersion="example.org/v1", name="x", uid="1" * 8)
        await lab.store.create(owned("b", stranger))
        await lab.store.create(owned("c", stranger, ref(a)))
        lab.clock.advance(LONG_AGO_S)
        await lab.idle()

        await delete(lab.store, "a")
        await lab.until(lambda: names(lab.store) == {"b", "c"} and owners(lab.store, "c") == ["x"])
        await lab.idle()

        assert names(lab.store) == {"b", "c"}


@pytest.mark.parametrize("finalizer", [None, FOREGROUND, ORPHAN])
async def test_what_happened_before_the_start_is_done_after_it(
    tmp_path: Path, finalizer: str | None
) -> None:
    """Deletions while no controller ran are finished by the next one."""
    async with open_lab(tmp_path) as lab:
        await family(lab)
        await lab.engine.stop()
        await delete(lab.store, "a", *([finalizer] if finalizer else []))
        locks = KeyLocks(tmp_path / "locks")
        successor = make_engine(lab.store, FakeObserver(lab.world), lab.clock, locks)
        running = asyncio.create_task(successor.run())
        lab.clock.advance(LONG_AGO_S)
        try:
            left = {"b", "c"} if finalizer == ORPHAN else set()
            await lab.until(lambda: names(lab.store) == left)
        finally:
            await successor.stop(budget_s=1.0)
            await running
            locks.close()


async def test_a_deleted_pool_takes_its_sandboxes_along(tmp_path: Path) -> None:
    """Nothing of the pool is left, in the store or on the host."""
    async with open_lab(tmp_path) as lab:
        await _filled(lab)

        await lab.store.delete(type(pool()), "warm")
        await lab.until(lambda: not lab.store.list(Sandbox))

        assert lab.world.things == {}


async def test_a_pool_deleted_in_the_foreground_waits(tmp_path: Path) -> None:
    """The pool goes after the last of its sandboxes, and makes none meanwhile."""
    async with open_lab(tmp_path) as lab:
        await _filled(lab)
        gone = order_of_deletion(lab.store)

        await _delete_pool(lab.store, FOREGROUND)
        await lab.until(lambda: not lab.store.list(type(pool())))

        assert len(gone) == 4
        assert gone[-1] == "warm"
        assert lab.store.list(Sandbox) == []


async def test_an_orphaned_pool_leaves_its_sandboxes(tmp_path: Path) -> None:
    """All three stay Ready and belong to nobody."""
    async with open_lab(tmp_path) as lab:
        await _filled(lab)

        await _delete_pool(lab.store, ORPHAN)
        await lab.until(lambda: not lab.store.list(type(pool())))
        lab.clock.advance(LONG_AGO_S)
        await lab.idle()

        assert len(live(lab.store)) == 3
        assert all(s.status.is_true("Ready") for s in live(lab.store))
        assert all(s.metadata.owner_references == () for s in live(lab.store))


async def _filled(lab: Lab) -> None:
    await lab.store.create(profile())
    await lab.store.create(host())
    await lab.store.create(pool(3))
    await lab.until(lambda: is_settled(lab.store))


async def _delete_pool(store: Store, finalizer: str) -> None:
    await store.write([Delete(type(pool()), "warm", "default", finalizers=(finalizer,))])


async def _own(store: Store, name: str, reference: dict[str, Any]) -> None:
    """Give a sandbox this one owner."""
    found = store.get(Sandbox, name)
    assert found is not None
    document = found.to_document()
    document["metadata"]["ownerReferences"] = [reference]
    await store.update(Sandbox.parse(document))


async def _label(store: Store, name: str) -> None:
    found = store.get(Sandbox, name)
    assert found is not None
    metadata = found.metadata.model_copy(update={"labels": {"touched": "yes"}})
    await store.update(found.model_copy(update={"metadata": metadata}))


def _is_deleting(store: Store, name: str) -> bool:
    found = store.get(Sandbox, name)
    return found is not None and found.metadata.deletion_timestamp is not None


def _told(store: Store, reason: str) -> int:
    return sum(event.count for event in store.list(Event) if event.reason == reason)
