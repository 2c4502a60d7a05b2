"""Several processes on one store: writing together, dying, standing still."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sandboxer.clock import SystemClock
from sandboxer.kinds.meta import ObjectMeta
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Change, ExpiredError, Store

WRITER = """
import asyncio, sys
from pathlib import Path
from sandboxer.clock import SystemClock
from sandboxer.errors import ConflictError
from sandboxer.kinds.meta import ObjectMeta
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Store

async def work(store, name, rounds):
    obj = await store.create(Sandbox(metadata=ObjectMeta(name=name)))
    print(name, obj.metadata.resource_version, flush=True)
    for repairs in range(1, rounds):
        status = obj.status.model_copy(update={"repairs": repairs})
        obj = await store.update_status(obj.model_copy(update={"status": status}))
        print(name, obj.metadata.resource_version, flush=True)

async def count(store, rounds):
    done = 0
    while done < rounds:
        obj = store.get(Sandbox, "counter")
        status = obj.status.model_copy(update={"repairs": obj.status.repairs + 1})
        try:
            await store.update_status(obj.model_copy(update={"status": status}))
            done += 1
        except ConflictError:
            await asyncio.sleep(0.001)

async def main(path, mode, prefix, rounds):
    store = await Store.open(Path(path), clock=SystemClock())
    print("ready", flush=True)
    if mode == "count":
        await count(store, rounds)
    else:
        await asyncio.gather(*(work(store, f"{prefix}-{n}", rounds) for n in range(8)))
    await store.close()

asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "store.db"


@pytest.fixture
def start(path: Path) -> Start:
    def run(mode: str, prefix: str, rounds: int) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", WRITER, str(path), mode, prefix, str(rounds)]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

    return run


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(path, clock=SystemClock())
    yield opened
    await opened.close()


async def reach(store: Store, revision: int) -> None:
    """Wait until the store has seen *revision*."""
    async with asyncio.timeout(30):
        watch = store.watch()
        while store.revision < revision:
            await anext(watch)


async def test_others_are_noticed(store: Store, path: Path) -> None:
    """What another process commits appears in memory, in feeds and watches."""
    other = await Store.open(path, clock=SystemClock())
    seen: list[Change] = []
    store.subscribe(seen.append)
    watch = store.watch()

    written = await other.create(Sandbox(metadata=ObjectMeta(name="theirs")))
    async with asyncio.timeout(30):
        change = await anext(watch)

    assert store.get(Sandbox, "theirs") == written
    assert (change.type, change.revision) == ("ADDED", 1)
    assert seen == [change]
    assert other.environment == store.environment
    await other.close()


async def test_opened_together(path: Path) -> None:
    """A new file that several open at the same moment is made once, with one environment."""
    stores = await asyncio.gather(*(Store.open(path, clock=SystemClock()) for _ in range(4)))

    assert len({opened.environment for opened in stores}) == 1
    for opened in stores:
        await opened.close()


async def test_writing_together(store: Store, start: Start) -> None:
    """Two processes that write at once make one history without gaps, seen whole by a third."""
    revisions: list[int] = []
    store.subscribe(lambda change: revisions.append(change.revision))
    children = [start("work", prefix, 40) for prefix in ("x", "y")]
    own = [
        await store.create(Sandbox(metadata=ObjectMeta(name=f"own-{number}")))
        for number in range(20)
    ]

    codes = [await asyncio.to_thread(child.wait, 60) for child in children]
    await reach(store, 2 * 8 * 40 + len(own))

    assert codes == [0, 0]
    assert revisions == list(range(1, store.revision + 1))
    assert len(store.list(Sandbox)) == 16 + len(own)
    for child in children:
        assert child.stdout is not None
        child.stdout.close()


async def test_no_lost_update(store: Store, start: Start) -> None:
    """Compare-and-set holds across processes: every one of many increments counts."""
    await store.create(Sandbox(metadata=ObjectMeta(name="counter")))
    children = [start("count", "", 30) for _ in range(2)]

    codes = [await asyncio.to_thread(child.wait, 60) for child in children]
    await reach(store, 61)

    assert codes == [0, 0]
    counter = store.get(Sandbox, "counter")
    assert counter is not None
    assert counter.status.repairs == 60
    for child in children:
        assert child.stdout is not None
        child.stdout.close()


@pytest.mark.parametrize("attempt", range(3))
async def test_killed_while_writing(path: Path, start: Start, attempt: int) -> None:
    """After a kill at any moment every acknowledged write is there, and the history has no gap."""
    child = start("work", "k", 10_000)
    assert child.stdout is not None
    acknowledged = _read_lines(child, random.randint(20, 400))

    os.kill(child.pid, signal.SIGKILL)
    acknowledged += child.stdout.read().splitlines()
    child.wait()
    child.stdout.close()
    store = await Store.open(path, clock=SystemClock())

    newest: dict[str, int] = {}
    for line in acknowledged:
        name, _, version = line.partition(" ")
        if version:
            newest[name] = int(version)
    for name, revision in newest.items():
        obj = store.get(Sandbox, name)
        assert obj is not None
        assert int(obj.metadata.resource_version) >= revision
    _assert_consistent(path, store)
    await store.close()


def _read_lines(child: subprocess.Popen[str], number: int) -> list[str]:
    assert child.stdout is not None
    return [child.stdout.readline().strip() for _ in range(number)]


def _assert_consistent(path: Path, store: Store) -> None:
    """Assert that changes have no gap, and that objects are what the last change of each says."""
    connection = sqlite3.connect(path)
    try:
        changes = connection.execute(
            "SELECT revision, type, name, body FROM changes ORDER BY revision"
        ).fetchall()
    finally:
        connection.close()
    assert [change[0] for change in changes] == list(range(1, store.revision + 1))
    last = {name: body for _, type_, name, body in changes if type_ != "DELETED"}
    assert last == {entry.key.name: entry.body for entry in store.entries("Sandbox")}


async def test_stood_still_too_long(store: Store, path: Path) -> None:
    """A process that slept through a compaction takes over the whole state and ends its watches."""
    await store.create(Sandbox(metadata=ObjectMeta(name="gone")))
    seen: list[Change] = []
    store.subscribe(seen.append)
    watch = store.watch()
    reader = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    # One transaction of somebody else does it all, so this process cannot look in between.
    connection = sqlite3.connect(path)
    connection.executescript(
        """
        BEGIN IMMEDIATE;
        INSERT INTO objects SELECT kind, namespace, 'new', 'uid-new', 5, 1, 0, '{}',
            replace(replace(body, '"gone"', '"new"'), '"resourceVersion":"1"',
            '"resourceVersion":"5"') FROM objects;
        UPDATE objects SET body = CAST(body AS BLOB);
        DELETE FROM objects WHERE name = 'gone';
        UPDATE meta SET revision = 7, compacted = 7;
        DELETE FROM changes;
        COMMIT;
        """
    )
    connection.close()

    with pytest.raises(ExpiredError):
        await asyncio.wait_for(reader, 10)

    assert store.revision == 7
    assert [obj.metadata.name for obj in store.list(Sandbox)] == ["new"]
    assert {(change.type, change.entry.key.name) for change in seen} == {
        ("ADDED", "new"),
        ("DELETED", "gone"),
    }
    assert (
        await store.create(Sandbox(metadata=ObjectMeta(name="b")))
    ).metadata.resource_version == "8"
