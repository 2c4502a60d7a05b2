"""A copy of the store, taken while it is written, and a store made of it again."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from sandboxer.clock import SystemClock
from sandboxer.errors import ConflictError, NotFoundError, TerminalError
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import KeyLocks, Store
from sandboxer.store.backup import REPLACED, back_up, restore
from sandboxer.testing.builders import sandbox
from tests.e2e.installation import Installation

# Writes under way while a backup is taken.
WRITES = 400


async def filled(path: Path, *names: str) -> str:
    """Make a store with these sandboxes; return its environment."""
    store = await Store.open(path, clock=SystemClock())
    for name in names:
        await store.create(sandbox(name))
    await store.close()
    return store.environment


async def contents(path: Path) -> tuple[str, set[str]]:
    """Return the environment and the names of sandboxes of a store."""
    store = await Store.open(path, clock=SystemClock())
    names = {each.metadata.name for each in store.list(Sandbox)}
    await store.close()
    return store.environment, names


def names_in(directory: Path) -> set[str]:
    """Return what lies in a directory."""
    return {path.name for path in directory.iterdir()}


def stores_in(directory: Path) -> set[str]:
    """Return what lies there under the name of the store, and what was put aside."""
    return {path.name for path in directory.glob("store.db*")}


async def test_a_backup_while_writes_go_on_is_one_instant(tmp_path: Path) -> None:
    """The copy has a prefix of what was written one after the other, and what came before it all."""
    store = await Store.open(tmp_path / "store.db", clock=SystemClock())
    await store.create(sandbox("first"))

    begun = asyncio.Event()

    async def write() -> None:
        for number in range(WRITES):
            await store.create(sandbox(f"s{number}"))
            if number == 20:
                begun.set()

    writing = asyncio.create_task(write())
    await begun.wait()
    await asyncio.to_thread(back_up, store_path := tmp_path / "store.db", tmp_path / "copy")
    acknowledged = len(store.list(Sandbox))
    assert not writing.done(), "the backup was to be taken in between"
    await writing
    await store.close()

    environment, names = await contents(tmp_path / "copy")
    assert environment == (await contents(store_path))[0]
    assert 22 <= len(names) <= acknowledged + 1
    assert names == {"first", *(f"s{number}" for number in range(len(names) - 1))}


async def test_a_backup_is_one_private_file(tmp_path: Path) -> None:
    """Nothing lies beside it, nobody else may read it, and an older one stays unless it may go."""
    await filled(tmp_path / "data/store.db", "a")
    copy = tmp_path / "backups/copy"
    copy.parent.mkdir()

    back_up(tmp_path / "data/store.db", copy)

    assert names_in(copy.parent) == {"copy"}
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with pytest.raises(ConflictError):
        back_up(tmp_path / "data/store.db", copy)
    back_up(tmp_path / "data/store.db", copy, replace=True)
    with pytest.raises(NotFoundError):
        back_up(tmp_path / "nothing/store.db", tmp_path / "other")


async def test_a_backup_never_takes_the_place_of_the_store(tmp_path: Path) -> None:
    """Neither under its own name nor under another, nor of its log, also by force."""
    path = tmp_path / "store.db"
    store = await Store.open(path, clock=SystemClock())
    await store.create(sandbox("a"))
    (tmp_path / "link").symlink_to(path)

    for name in ("store.db", "store.db-wal", "link"):
        with pytest.raises(ConflictError, match="is the store itself"):
            back_up(path, tmp_path / name, replace=True)

    await store.create(sandbox("b"))
    await store.close()
    assert (await contents(path))[1] == {"a", "b"}


async def test_a_store_is_restored_and_the_old_one_kept(tmp_path: Path) -> None:
    """The restored store is the one of the backup, id included; the other has another name."""
    store, copy = tmp_path / "store.db", tmp_path / "copy"
    environment = await filled(store, "a")
    back_up(store, copy)
    await filled(store, "b")

    with pytest.raises(ConflictError):
        restore(copy, store)
    aside = restore(copy, store, replace=True)

    assert await contents(store) == (environment, {"a"})
    assert aside == tmp_path / f"store.db{REPLACED}"
    assert await contents(aside) == (environment, {"a", "b"})


async def test_no_store_that_was_replaced_is_lost(tmp_path: Path) -> None:
    """Each restore keeps what was there under a name of its own."""
    store, copy = tmp_path / "store.db", tmp_path / "copy"
    await filled(store, "a")
    back_up(store, copy)
    for name in ("b", "c", "d"):
        await filled(store, name)
        restore(copy, store, replace=True)

    kept = [f"store.db{REPLACED}", f"store.db{REPLACED}.2", f"store.db{REPLACED}.3"]
    assert stores_in(tmp_path) == {"store.db", *kept}
    for name, path in zip("bcd", kept, strict=True):
        assert (await contents(tmp_path / path))[1] == {"a", name}


async def test_nobody_gets_between_the_old_store_and_the_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opens the old store just before it goes can neither read nor write it, nor make a log."""
    store, copy = tmp_path / "store.db", tmp_path / "copy"
    await filled(store, "a")
    back_up(store, copy)
    await filled(store, "b")
    late: list[sqlite3.Connection] = []
    link = os.link

    def link_after_a_visit(source: Path, target: Path) -> None:
        late.append(sqlite3.connect(store, timeout=0, isolation_level=None))
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            late[0].execute("PRAGMA journal_mode = WAL")
        link(source, target)

    monkeypatch.setattr(os, "link", link_after_a_visit)
    restore(copy, store, replace=True)

    with closing(late[0]), pytest.raises(sqlite3.OperationalError, match="readonly"):
        late[0].execute("PRAGMA journal_mode = WAL")
    assert stores_in(tmp_path) == {store.name, store.name + REPLACED}
    assert (await contents(store))[1] == {"a"}


async def test_the_log_of_a_lost_store_is_not_read_into_the_restored(tmp_path: Path) -> None:
    """What lies beside a store that is gone is put aside."""
    path, copy = tmp_path / "store.db", tmp_path / "copy"
    await filled(path, "a")
    back_up(path, copy)
    store = await Store.open(path, clock=SystemClock())
    await store.create(sandbox("b"))
    shutil.copy(tmp_path / "store.db-wal", tmp_path / "log")
    await store.close()
    path.unlink()
    (tmp_path / "log").rename(tmp_path / "store.db-wal")

    restore(copy, path)

    assert stores_in(tmp_path) == {"store.db", f"store.db{REPLACED}-wal"}
    assert (await contents(path))[1] == {"a"}


async def test_a_damaged_store_can_be_replaced(tmp_path: Path) -> None:
    """A store that SQLite cannot read is put aside like any other."""
    store, copy = tmp_path / "store.db", tmp_path / "copy"
    await filled(store, "a")
    back_up(store, copy)
    store.write_bytes(b"not a database at all" * 1000)

    restore(copy, store, replace=True)

    assert (await contents(store))[1] == {"a"}


@pytest.mark.parametrize("damage", ["cut", "foreign", "newer", "text"])
async def test_what_is_no_good_backup_is_refused(tmp_path: Path, damage: str) -> None:
    """A damaged, foreign or too new file leaves everything as it was."""
    store, copy = tmp_path / "store.db", tmp_path / "copy"
    await filled(tmp_path / "source.db", *(f"s{number}" for number in range(50)))
    back_up(tmp_path / "source.db", copy)
    if damage == "cut":
        copy.write_bytes(copy.read_bytes()[:-8192])
    elif damage == "text":
        copy.write_text("hello")
    else:
        with closing(sqlite3.connect(copy)) as connection:
            change = "UPDATE alembic_version SET version_num = '9999'"
            connection.execute(change if damage == "newer" else "DROP TABLE alembic_version")
            connection.commit()

    with pytest.raises(TerminalError):
        restore(copy, store)

    assert names_in(tmp_path) == {"source.db", "copy", "manifest.key"}


async def test_a_store_in_use_is_not_replaced(tmp_path: Path) -> None:
    """While a command has the store open, another one does not take its place."""
    path, copy = tmp_path / "store.db", tmp_path / "copy"
    await filled(path, "a")
    back_up(path, copy)
    store = await Store.open(path, clock=SystemClock())

    with pytest.raises(ConflictError):
        restore(copy, path, replace=True)

    await store.create(sandbox("b"))
    await store.close()
    assert (await contents(path))[1] == {"a", "b"}


async def test_the_commands(tmp_path: Path) -> None:
    """`backup` and `restore-store` do it for a data directory; a running controller refuses."""
    here = Installation(tmp_path)
    data = tmp_path / "data"
    environment = await filled(data / "store.db", "a")
    here.ok("backup", "copy")
    with closing(KeyLocks(data / "locks")) as locks:
        assert locks.try_controller()
        refused = here.run("restore-store", "copy", "--force")
    (data / "store.db").unlink()

    here.ok("restore-store", "copy")

    assert refused.returncode == 5
    assert "controller" in refused.stderr
    assert await contents(data / "store.db") == (environment, {"a"})
