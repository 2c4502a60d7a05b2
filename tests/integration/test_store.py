"""The store on a real file, in one process."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from sandboxer.clock import SystemClock
from sandboxer.errors import ConflictError, NotFoundError, TerminalError, TransientError
from sandboxer.kinds.event import Event
from sandboxer.kinds.host import Host, HostSpec
from sandboxer.kinds.meta import FINALIZER, Key, ObjectMeta
from sandboxer.kinds.sandbox import Sandbox, SandboxSpec
from sandboxer.store import (
    Change,
    Create,
    Delete,
    EventRecorder,
    ExpiredError,
    InventoryEntry,
    Store,
    Update,
    UpdateStatus,
    database,
    feed,
)
from sandboxer.testing.clock import ManualClock


def sandbox(name: str = "a", **metadata: object) -> Sandbox:
    return Sandbox(metadata=ObjectMeta.model_validate({"name": name, **metadata}))


def with_env(obj: Sandbox, **env: str) -> Sandbox:
    return obj.model_copy(update={"spec": SandboxSpec(env=env)})


def with_phase(obj: Sandbox, phase: str) -> Sandbox:
    return obj.model_copy(update={"status": obj.status.model_copy(update={"phase": phase})})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "store.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(path, clock=SystemClock())
    yield opened
    await opened.close()


async def test_written_is_readable_at_once(store: Store) -> None:
    """Whoever awaited a write finds it in memory."""
    created = await store.create(sandbox())
    assert store.get(Sandbox, "a") == created

    updated = await store.update(with_env(created, A="1"))
    assert store.get(Sandbox, "a", "default") == updated

    ready = await store.update_status(with_phase(updated, "Ready"))
    assert store.get(Sandbox, "a") == ready
    assert (ready.spec.env, ready.metadata.generation) == ({"A": "1"}, 2)
    assert store.revision == int(ready.metadata.resource_version) == 3

    assert await store.delete(Sandbox, "a") is None
    assert store.get(Sandbox, "a") is None


async def test_reopened(store: Store, path: Path) -> None:
    """A store that is opened again holds the same objects, revision and environment."""
    created = await store.create(sandbox(labels={"l": "1"}))
    environment, entry = store.environment, store.entry(created.key)
    await store.close()

    again = await Store.open(path, clock=SystemClock())

    assert (again.environment, again.revision) == (environment, 1)
    assert again.entry(created.key) == entry
    assert again.get(Sandbox, "a") == created
    await again.close()


async def test_private_files(store: Store, path: Path) -> None:
    """Directory and files of a new store are closed to other users."""
    await store.create(sandbox())

    modes = {file.stat().st_mode & 0o777 for file in path.parent.iterdir()}

    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert modes == {0o600}


async def test_list(store: Store) -> None:
    """Lists are ordered by namespace and name and select by kind, namespace and labels."""
    await store.create(sandbox("b", labels={"team": "x", "tier": "1"}))
    await store.create(sandbox("a", labels={"team": "x"}))
    await store.create(sandbox("a", namespace="other"))
    await store.create(Host(metadata=ObjectMeta(name="h"), spec=HostSpec(address="h")))

    def names(**chosen: object) -> list[str]:
        listed = store.list(Sandbox, **chosen)  # type: ignore[arg-type]  # the cases below are typed
        return [f"{obj.metadata.namespace}/{obj.metadata.name}" for obj in listed]

    assert names() == ["default/a", "default/b", "other/a"]
    assert names(namespace="other") == ["other/a"]
    assert names(labels={"team": "x"}) == ["default/a", "default/b"]
    assert names(labels={"team": "x", "tier": "1"}) == ["default/b"]
    assert [host.metadata.name for host in store.list(Host)] == ["h"]


async def test_noop_is_no_write(store: Store) -> None:
    """Writing the same again keeps the version and tells nobody."""
    created = await store.create(sandbox())
    seen: list[Change] = []
    store.subscribe(seen.append)

    assert await store.update(created) == created
    assert await store.update_status(created) == created
    await store.create(sandbox("b"))

    assert [change.entry.key.name for change in seen] == ["b"]
    assert store.revision == 2


async def test_lost_race(store: Store) -> None:
    """Of two writes based on the same version the second is refused and changes nothing."""
    created = await store.create(sandbox())

    results = await asyncio.gather(
        store.update(with_env(created, A="1")),
        store.update(with_env(created, A="2")),
        return_exceptions=True,
    )

    assert [type(result) for result in results] == [Sandbox, ConflictError]
    assert store.get(Sandbox, "a") == results[0]


async def test_each_judged_alone(store: Store) -> None:
    """In one transaction a refused write neither stops nor undoes the others."""
    known = await store.create(sandbox("known"))

    results = await store.write([
        Create(sandbox("new")),
        Create(sandbox("known")),
        Delete(Sandbox, "missing"),
        UpdateStatus(with_phase(known, "Ready")),
        Update(with_env(known, A="1")),
        Delete(Sandbox, "new"),
        Create(sandbox("new")),
    ])  # fmt: skip

    assert [type(result) for result in results] == [
        Sandbox, ConflictError, NotFoundError, Sandbox, ConflictError, type(None), Sandbox,
    ]  # fmt: skip
    assert [obj.metadata.name for obj in store.list(Sandbox)] == ["known", "new"]
    assert store.get(Sandbox, "new") == results[-1]


async def test_deletion_waits_for_finalizers(store: Store) -> None:
    """A finalizer keeps a deleted object until an update takes the last one away."""
    created = await store.create(sandbox(finalizers=(FINALIZER,)))
    seen: list[Change] = []
    store.subscribe(seen.append)

    deleting = await store.delete(Sandbox, "a")
    assert deleting is not None
    assert deleting.metadata.deletion_timestamp is not None
    entry = store.entry(created.key)
    assert entry is not None
    assert entry.deleting
    freed = deleting.model_copy(
        update={"metadata": deleting.metadata.model_copy(update={"finalizers": ()})}
    )
    last = await store.update(freed)

    assert store.get(Sandbox, "a") is None
    assert [change.type for change in seen] == ["MODIFIED", "DELETED"]
    assert seen[-1].revision == int(last.metadata.resource_version)
    assert Sandbox.model_validate_json(seen[-1].entry.body) == last


async def test_subscriber_finds_the_change(store: Store) -> None:
    """A subscriber is called after the cache has the change, and no more once it has left."""
    seen: list[Sandbox | None] = []
    leave = store.subscribe(lambda _: seen.append(store.get(Sandbox, "a")))

    created = await store.create(sandbox())
    await asyncio.sleep(0)
    leave()
    await store.create(sandbox("b"))

    assert seen == [created]


async def test_failing_subscriber(store: Store) -> None:
    """A subscriber that fails keeps neither the writer nor other subscribers from the change."""
    failures: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    seen: list[Change] = []
    store.subscribe(lambda _: 1 / 0)
    store.subscribe(seen.append)

    await store.create(sandbox())
    await asyncio.sleep(0)

    assert [change.revision for change in seen] == [1]
    assert isinstance(failures[0]["exception"], ZeroDivisionError)


async def test_watch_resumes(store: Store) -> None:
    """A watch tells what came after its start, stored or still to come, once and in order."""
    for name in ("a", "b", "c"):
        await store.create(sandbox(name))
    watch = store.watch(since=1)

    first = await anext(watch)
    await store.delete(Sandbox, "a")
    rest = [await anext(watch), await anext(watch)]

    told = [(change.type, change.entry.key.name, change.revision) for change in (first, *rest)]
    assert told == [("ADDED", "b", 2), ("ADDED", "c", 3), ("DELETED", "a", 4)]


async def test_watch_from_now(store: Store) -> None:
    """A watch without a start begins at the call, not at the first look."""
    await store.create(sandbox("before"))
    watch = store.watch()
    await store.create(sandbox("after"))

    assert (await anext(watch)).entry.key.name == "after"


@pytest.mark.parametrize("since", [pytest.param(1, id="compacted"), pytest.param(99, id="future")])
async def test_expired_watch(store: Store, since: int) -> None:
    """A watch whose changes are not there says so."""
    for name in ("a", "b", "c"):
        await store.create(sandbox(name))
    await store.compact(keep=1)

    with pytest.raises(ExpiredError):
        await anext(store.watch(since=since))


async def test_slow_watch(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch that is not read is ended instead of growing."""
    monkeypatch.setattr(feed, "MAX_LAG", 2)
    watch = store.watch()
    await store.create(sandbox("first"))
    assert (await anext(watch)).revision == 1
    await store.write([Create(sandbox(f"s{number}")) for number in range(5)])

    assert [(await anext(watch)).revision, (await anext(watch)).revision] == [2, 3]
    with pytest.raises(ExpiredError):
        await anext(watch)


async def test_close_ends_watches(store: Store) -> None:
    """Closing the store ends its watches after the last change."""
    watch = store.watch()
    reader = asyncio.create_task(_revisions(watch))
    await asyncio.sleep(0)

    await store.create(sandbox())
    await store.close()

    assert await reader == [1]


async def _revisions(watch: AsyncIterator[Change]) -> list[int]:
    return [change.revision async for change in watch]


async def test_close_drains(store: Store, path: Path) -> None:
    """What was submitted before closing is durable and answered; later writes are refused."""
    pending = [asyncio.create_task(store.create(sandbox(f"s{number}"))) for number in range(50)]
    await asyncio.sleep(0)

    await store.close()

    assert all(task.done() for task in pending)
    assert _count(path, "objects") == 50
    with pytest.raises(TerminalError):
        await store.create(sandbox("late"))


async def test_cancelled_writer(store: Store) -> None:
    """A caller that gives up does not disturb the store or the others."""
    task = asyncio.create_task(store.create(sandbox("abandoned")))
    await asyncio.sleep(0)
    task.cancel()

    created = await store.create(sandbox("b"))

    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.get(Sandbox, "b") == created


async def test_reading_while_locked_out(store: Store, path: Path) -> None:
    """While another process holds the write lock, reads go on and the write waits."""
    created = await store.create(sandbox())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    task = asyncio.create_task(store.update(with_env(created, A="1")))
    await asyncio.sleep(0)
    assert store.get(Sandbox, "a") == created
    assert not task.done()
    other.execute("ROLLBACK")
    other.close()

    assert (await task).spec.env == {"A": "1"}


async def test_lock_held_too_long(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that gets no lock in time fails as transient, changes nothing and works later."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 20)
    store = await Store.open(path, clock=SystemClock())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(TransientError) as caught:
        await store.create(sandbox())
    other.execute("ROLLBACK")
    other.close()

    assert caught.value.reason == "StoreLocked"
    assert str(path) in caught.value.message
    assert store.get(Sandbox, "a") is None
    assert (await store.create(sandbox())).metadata.resource_version == "1"
    await store.close()


async def test_compaction(store: Store, path: Path) -> None:
    """Compaction keeps the newest changes, and all objects."""
    for number in range(10):
        await store.create(sandbox(f"s{number}"))

    assert await store.compact(keep=4) == 6
    assert await store.compact(keep=4) == 0

    assert _count(path, "changes") == 4
    assert len(store.list(Sandbox)) == 10
    assert (await anext(store.watch(since=6))).revision == 7


async def test_compaction_by_age(path: Path) -> None:
    """Changes go after a day although there are few, and a watch from before says so."""
    clock = ManualClock()
    store = await Store.open(path, clock=clock)
    await store.create(sandbox("old"))
    clock.advance(timedelta(days=1, seconds=1).total_seconds())
    await store.create(sandbox("new"))

    assert await store.compact() == 1

    assert (await anext(store.watch(since=1))).entry.key.name == "new"
    with pytest.raises(ExpiredError):
        await anext(store.watch(since=0))
    await store.close()


async def test_inventory(store: Store) -> None:
    """Each source has its own inventory, replaced as a whole, in the order of keys."""
    first = InventoryEntry(Key("Host", "", "h"), "uid-h", "d1")
    second = InventoryEntry(Key("Sandbox", "default", "a"), "uid-a", "d2")

    await store.save_inventory("dir", [second, first])
    await store.save_inventory("git", [second])
    await store.save_inventory("git", [])

    assert await store.load_inventory("dir") == [first, second]
    assert await store.load_inventory("git") == []


async def test_repeated_event(path: Path) -> None:
    """The same thing happening again raises the count of one event."""
    clock = ManualClock()
    store = await Store.open(path, clock=clock)
    recorder = EventRecorder(store, clock)
    obj = await store.create(sandbox("x" * 63))

    await recorder.record(obj, "Provisioned", "It is there.")
    clock.advance(60)
    await recorder.record(obj, "Provisioned", "It is there.")
    await recorder.record(obj, "Failed", "It is not.", type="Warning")

    failed, provisioned = sorted(store.list(Event), key=lambda event: event.reason)
    assert (provisioned.count, failed.count, failed.type) == (2, 1, "Warning")
    assert provisioned.involved_object.uid == obj.metadata.uid
    assert provisioned.first_timestamp is not None
    assert provisioned.last_timestamp == provisioned.first_timestamp + timedelta(seconds=60)
    await store.close()


async def test_event_of_cluster_scoped_object(store: Store) -> None:
    """Events about objects without a namespace are in the default one."""
    host = await store.create(Host(metadata=ObjectMeta(name="h"), spec=HostSpec(address="h")))

    await EventRecorder(store, SystemClock()).record(host, "Reachable", "It answers.")

    (event,) = store.list(Event, namespace="default")
    assert (event.involved_object.kind, event.involved_object.namespace) == ("Host", "")


async def test_event_that_cannot_be_written(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """An event that cannot be recorded is logged and does not fail the pass."""
    obj = await store.create(sandbox())
    await store.close()

    with caplog.at_level(logging.WARNING):
        await EventRecorder(store, SystemClock()).record(obj, "Provisioned", "It is there.")

    assert "event not recorded" in caplog.messages


async def test_old_events_are_forgotten(path: Path) -> None:
    """Compaction removes events that have not happened for a day."""
    clock = ManualClock()
    store = await Store.open(path, clock=clock)
    recorder = EventRecorder(store, clock)
    obj = await store.create(sandbox())
    await recorder.record(obj, "Old", "Once.")
    clock.advance(timedelta(hours=25).total_seconds())
    await recorder.record(obj, "New", "Now.")

    await store.compact()

    assert [event.reason for event in store.list(Event)] == ["New"]
    await store.close()


def _count(path: Path, table: str) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    finally:
        connection.close()
