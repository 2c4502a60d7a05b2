"""What writes do to sandboxes is kept with them, for as long as it is promised, and no longer."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from sandboxer.errors import ConflictError
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import Condition, ObjectMeta
from sandboxer.kinds.sandbox import Phase, Sandbox
from sandboxer.kinds.story import Transition
from sandboxer.store import Cause, Create, Delete, News, Store, UpdateStatus
from sandboxer.store.chronicle import KEEP_FINAL, KEEP_TRANSITIONS, MAX_TEXT
from sandboxer.store.retention import MAX_TOMBSTONE_AGE, MAX_TOMBSTONES
from sandboxer.testing.builders import host, sandbox
from sandboxer.testing.clock import EPOCH, ManualClock

ALICE = Cause("user/alice", "request", "kubectl/v1.32.2")
FAILED = News(reason="PullFails", message="No image.", type="Warning")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "store.db", clock=clock)
    yield opened
    await opened.close()


def said(obj: Sandbox, phase: Phase, **fields: Any) -> Sandbox:
    """Return a sandbox whose status says this."""
    status = obj.status.model_copy(update={"phase": phase, **fields})
    return obj.model_copy(update={"status": status})


def held(obj: Sandbox, *finalizers: str) -> Sandbox:
    metadata = obj.metadata.model_copy(update={"finalizers": finalizers})
    return obj.model_copy(update={"metadata": metadata})


def told(story: list[Transition]) -> list[tuple[str, str, str, str]]:
    return [(each.by, each.reason, each.before, each.after) for each in story]


async def test_each_write_leaves_what_it_did(store: Store) -> None:
    """Creation, spec, status and deletion are told in order: who, why, from which phase to which."""
    obj = await store.create(held(sandbox(), "mine"), cause=ALICE)
    changed = obj.model_copy(update={"spec": obj.spec.model_copy(update={"env": {"A": "secret"}})})
    obj = await store.update(changed, cause=Cause("source/specs", "manifest"))
    news = News(reason="Ready", message="It runs.", evidence={"host": "h1", "nothing": ""})
    obj = await store.update_status(said(obj, "Ready", host="h1"), news=[news])
    deleted = await store.delete(Sandbox, "hello", cause=ALICE)
    assert deleted is not None
    await store.update(held(deleted), cause=Cause(trigger="deletion"))

    story = await store.transitions(obj.metadata.uid)
    (stone,) = await store.tombstones()

    assert told(story) == [
        ("user/alice", "Created", "", "Pending"),
        ("source/specs", "SpecChanged", "Pending", "Pending"),
        ("controller", "Ready", "Pending", "Ready"),
        ("user/alice", "DeletionRequested", "Ready", "Ready"),
        ("controller", "Deleted", "Ready", ""),
    ]
    assert [each.number for each in story] == [1, 2, 3, 4, 5]
    assert (story[0].via, story[0].trigger) == ("kubectl/v1.32.2", "request")
    assert story[1].evidence == {"fields": "env"}
    assert story[2].evidence == {"host": "h1"}
    assert (stone.uid, stone.namespace, stone.name) == (obj.metadata.uid, "default", "hello")
    assert (stone.deleted_by, stone.deleted_via) == ("user/alice", "kubectl/v1.32.2")
    assert (stone.host, stone.phase) == ("h1", "Ready")
    assert (stone.created_at, stone.deleted_at) == (EPOCH, EPOCH)


async def test_what_changes_nothing_is_not_told(store: Store) -> None:
    """Neither a refused write, nor one of labels, nor an equal one, nor a rehearsal leaves anything."""
    obj = await store.create(sandbox())
    labels = obj.metadata.model_copy(update={"labels": {"a": "b"}})
    newer = await store.update(obj.model_copy(update={"metadata": labels}))

    with pytest.raises(ConflictError):
        await store.update_status(said(obj, "Ready"), news=[FAILED])
    await store.update_status(newer, news=[FAILED])
    await store.write([UpdateStatus(said(newer, "Ready"), news=(FAILED,))], dry_run=True)
    await store.write([Delete(Sandbox, "hello")], dry_run=True)

    assert [t.reason for t in await store.transitions(obj.metadata.uid)] == ["Created"]
    assert await store.tombstones() == []


async def test_a_change_of_phase_is_told_by_itself(store: Store) -> None:
    """A status whose writer tells nothing leaves its new phase, in the words of its Ready condition."""
    obj = await store.create(sandbox())
    ready = Condition(
        type="Ready", status="False", reason="Broken", message="It fell.", last_transition_time=EPOCH
    )  # fmt: skip

    obj = await store.update_status(said(obj, "Failed", conditions=(ready,)))
    await store.update_status(said(obj, "Failed", conditions=(ready,), repairs=1))

    story = await store.transitions(obj.metadata.uid)
    assert told(story)[1:] == [("controller", "Broken", "Pending", "Failed")]
    assert story[1].message == "It fell."


async def test_only_sandboxes_have_a_story(store: Store) -> None:
    """Other kinds leave neither transitions nor tombstones."""
    created = await store.create(host())
    await store.delete(Host, "h1")

    assert await store.transitions(created.metadata.uid) == []
    assert await store.tombstones() == []


async def test_gone_at_once_is_told(store: Store) -> None:
    """Who deletes what nothing holds is known, and why, though nobody had to ask first."""
    obj = await store.create(sandbox())

    await store.delete(Sandbox, "hello", cause=Cause("collector", "owner", because="Pool x went."))

    (stone,) = await store.tombstones()
    story = await store.transitions(obj.metadata.uid)
    assert (stone.deleted_by, stone.because) == ("collector", "Pool x went.")
    assert stone.deletion_requested_at is None
    assert told(story)[-1] == ("collector", "Deleted", "Pending", "")


async def test_a_repeated_failure_is_counted(store: Store, clock: ManualClock) -> None:
    """The same warning in a row is one transition with a count and its last time; then it is new."""
    obj = await store.create(sandbox())
    for repairs in range(1, 6):
        clock.advance(60)
        obj = await store.update_status(said(obj, "Failed", repairs=repairs), news=[FAILED])
    other = News(reason="NoRoom", message="The disk is full.", type="Warning")
    obj = await store.update_status(said(obj, "Failed", repairs=6), news=[other])
    obj = await store.update_status(said(obj, "Failed", repairs=7), news=[FAILED])

    story = await store.transitions(obj.metadata.uid)

    # The first differs in the phase before it.
    assert [(t.reason, t.count) for t in story[1:]] == [
        ("PullFails", 1), ("PullFails", 4), ("NoRoom", 1), ("PullFails", 1),
    ]  # fmt: skip
    assert story[2].time == EPOCH + timedelta(minutes=2)
    assert story[2].last_time == EPOCH + timedelta(minutes=5)


async def test_a_long_life_keeps_its_beginning_and_its_newest(store: Store) -> None:
    """Old transitions go, but never the creation nor who asked for the deletion."""
    obj = await store.create(held(sandbox(), "mine"), cause=ALICE)
    obj_uid = obj.metadata.uid
    deleted = await store.delete(Sandbox, "hello", cause=ALICE)
    assert deleted is not None
    obj = deleted
    for number in range(KEEP_TRANSITIONS + 20):
        news = News(reason="Step", message=f"Number {number}.")
        obj = await store.update_status(said(obj, "Pending", repairs=number + 1), news=[news])

    living = await store.transitions(obj_uid)
    await store.update(held(obj))
    gone = await store.transitions(obj_uid)

    assert len(living) == KEEP_TRANSITIONS + 2
    assert [t.reason for t in living[:2]] == ["Created", "DeletionRequested"]
    assert living[-1].message == f"Number {KEEP_TRANSITIONS + 19}."
    assert len(gone) == KEEP_FINAL + 2
    assert [t.reason for t in (*gone[:2], gone[-1])] == ["Created", "DeletionRequested", "Deleted"]


async def test_a_long_life_keeps_its_adoption(store: Store) -> None:
    """An object that was rebuilt begins with it, however much came after."""
    news = News(reason="Adopted", message="It was found on host h1.")
    lost = sandbox()
    metadata = lost.metadata.model_copy(update={"uid": str(uuid4()), "creation_timestamp": EPOCH})
    lost = lost.model_copy(update={"metadata": metadata})
    obj = await store.adopt(lost, cause=ALICE, news=[news])
    for number in range(KEEP_TRANSITIONS + 20):
        step = News(reason="Step", message=f"Number {number}.")
        obj = await store.update_status(said(obj, "Pending", repairs=number + 1), news=[step])

    story = await store.transitions(obj.metadata.uid)

    assert "Adopted" in [t.reason for t in story[:2]]


async def test_many_news_of_one_transaction_are_in_order(store: Store) -> None:
    """What several writes of one transaction tell of one sandbox is numbered as it was written."""
    obj = await store.create(sandbox())
    several = tuple(News(reason="Step", message=f"Number {n}.", type="Warning") for n in range(50))

    await store.update_status(said(obj, "Failed", repairs=1), news=several)

    story = await store.transitions(obj.metadata.uid)
    assert [t.message for t in story[1:]] == [f"Number {n}." for n in range(50)]
    assert [t.number for t in story] == list(range(1, 52))


async def test_hostile_text_is_bounded(store: Store) -> None:
    """What a host prints can neither fill the store nor stop its writer."""
    obj = await store.create(sandbox())
    news = News(reason="Odd", message="\ud800" + "x" * 10_000, evidence={"detail": "y" * 10_000})

    await store.update_status(said(obj, "Failed"), news=[news])

    newest = (await store.transitions(obj.metadata.uid))[-1]
    assert len(newest.message) == MAX_TEXT
    assert len(newest.evidence["detail"]) == MAX_TEXT
    assert (await store.create(sandbox("next"))).metadata.uid


async def test_unreadable_is_deleted_and_remembered(
    store: Store, tmp_path: Path, clock: ManualClock
) -> None:
    """A document that no version can read is got rid of, and what can be read of it is kept."""
    obj = await store.create(sandbox())
    await store.close()
    with sqlite3.connect(tmp_path / "store.db") as connection:
        (body,) = connection.execute("SELECT body FROM objects").fetchone()
        broken = body.replace(b'"phase":"Pending"', b'"phase":["?"],"host":7')
        connection.execute("UPDATE objects SET body = ?", (broken,))
    connection.close()

    again = await Store.open(tmp_path / "store.db", clock=clock)
    await again.delete(Sandbox, "hello", cause=ALICE)
    (stone,) = await again.tombstones()
    await again.close()

    assert (stone.uid, stone.host, stone.deleted_by) == (obj.metadata.uid, "", "user/alice")


async def test_tombstones_are_found_by_name_and_uid(store: Store) -> None:
    """The newest of a name comes first; a uid or its beginning finds one in any namespace."""
    uids = []
    for namespace in ("default", "default", "other"):
        obj = await store.create(Sandbox(metadata=ObjectMeta(name="a", namespace=namespace)))
        await store.delete(Sandbox, "a", namespace)
        uids.append(obj.metadata.uid)
    await store.create(sandbox("b"))
    await store.delete(Sandbox, "b")

    named = await store.tombstones("default", "a")
    assert [stone.uid for stone in named] == [uids[1], uids[0]]
    assert [stone.uid for stone in await store.tombstones(uid=uids[2][:13])] == [uids[2]]
    assert len(await store.tombstones()) == 4
    assert [stone.name for stone in await store.tombstones(limit=1)] == ["b"]


async def test_old_tombstones_go_with_their_story(store: Store, clock: ManualClock) -> None:
    """After a month a tombstone and its transitions are gone; what lives keeps its own."""
    living = await store.create(sandbox("living"))
    old = await store.create(sandbox("old"))
    await store.delete(Sandbox, "old")
    clock.advance(MAX_TOMBSTONE_AGE.total_seconds() + 1)
    await store.create(sandbox("new"))
    await store.delete(Sandbox, "new")

    await store.compact()

    assert [stone.name for stone in await store.tombstones()] == ["new"]
    assert await store.transitions(old.metadata.uid) == []
    assert [t.reason for t in await store.transitions(living.metadata.uid)] == ["Created"]


async def test_too_many_tombstones_go(store: Store, tmp_path: Path) -> None:
    """Only so many are kept, the newest."""
    extra = 600
    await store.write([Create(sandbox(f"old{number}")) for number in range(extra)])
    await store.write([Delete(Sandbox, f"old{number}") for number in range(extra)])
    (newest,) = await store.tombstones(limit=1)
    body = json.dumps(newest.to_document())
    at_s, rows = newest.deleted_at.timestamp(), range(MAX_TOMBSTONES)
    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.executemany(
            "INSERT INTO tombstones VALUES (?, 'default', 'new', ?, ?, ?)",
            ((f"u{row}", 10**6 + row, at_s, body) for row in rows),
        )
    connection.close()

    await store.compact()

    with sqlite3.connect(tmp_path / "store.db") as connection:
        kept = connection.execute("SELECT name, count(*) FROM tombstones GROUP BY name").fetchall()
        told = connection.execute("SELECT count(*) FROM transitions").fetchone()
    connection.close()
    assert kept == [("new", MAX_TOMBSTONES)]
    assert told == (0,)


LIFE = """
import asyncio, sys
from pathlib import Path
from sandboxer.clock import SystemClock
from sandboxer.kinds.meta import ObjectMeta
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Cause, Store

PHASES = ("Provisioning", "Starting", "Ready", "Degraded", "Ready", "Terminating")

async def live(store, name):
    metadata = ObjectMeta(name=name, finalizers=("mine",))
    obj = await store.create(Sandbox(metadata=metadata))
    for phase in PHASES:
        if phase == "Terminating":
            obj = await store.delete(Sandbox, name, cause=Cause("user/alice"))
        status = obj.status.model_copy(update={"phase": phase})
        obj = await store.update_status(obj.model_copy(update={"status": status}))
    metadata = obj.metadata.model_copy(update={"finalizers": ()})
    await store.update(obj.model_copy(update={"metadata": metadata}))

async def main(path):
    store = await Store.open(Path(path), clock=SystemClock())
    print("ready", flush=True)
    for number in range(10_000):
        await asyncio.gather(*(live(store, f"s{number}-{n}") for n in range(4)))
        print(number, flush=True)

asyncio.run(main(sys.argv[1]))
"""


def live_and_die(path: Path, rounds: int) -> None:
    """Have sandboxes made, changed and deleted, four at a time, and kill who does it."""
    process = subprocess.Popen(
        [sys.executable, "-c", LIFE, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(rounds + 1):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("rounds", [1, 2, 3, 5, 8])
async def test_killed_between_any_two_writes(tmp_path: Path, rounds: int) -> None:
    """After SIGKILL each status is that of its newest transition, and each that is gone is known."""
    path = tmp_path / "store.db"
    live_and_die(path, rounds)

    store = await Store.open(path, clock=ManualClock())
    stones = {stone.uid: stone for stone in await store.tombstones(limit=10**6)}
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT DISTINCT uid FROM transitions").fetchall()
    connection.close()
    living = {obj.metadata.uid: obj for obj in store.list(Sandbox)}
    stories = {uid: await store.transitions(uid) for (uid,) in rows}
    await store.close()

    assert stories.keys() == living.keys() | stones.keys()
    assert not living.keys() & stones.keys()
    assert len(stones) >= 4 * rounds
    for uid, story in stories.items():
        phases = [each.after for each in story]
        assert [each.before for each in story] == ["", *phases[:-1]]
        assert phases[-1] == (living[uid].status.phase if uid in living else "")
    assert {stone.deleted_by for stone in stones.values()} == {"user/alice"}
