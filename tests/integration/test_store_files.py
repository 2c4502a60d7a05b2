"""The store's file: its schema, and what happens when it cannot be used."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlmodel import SQLModel

from sandboxer.clock import SystemClock
from sandboxer.errors import TerminalError, TransientError
from sandboxer.kinds.meta import ObjectMeta
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Store, failures, tables
from sandboxer.store.database import HEAD


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


async def make(path: Path) -> None:
    store = await Store.open(path, clock=SystemClock())
    await store.create(Sandbox(metadata=ObjectMeta(name="a")))
    await store.close()


async def test_schema_is_that_of_the_tables(path: Path) -> None:
    """Migrating a new file gives exactly the tables that are declared."""
    await make(path)
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, SQLModel.metadata)
    engine.dispose()

    assert differences == []
    assert tables.ObjectRow.__tablename__ in SQLModel.metadata.tables


def test_head_is_the_last_migration() -> None:
    """The constant that spares loading Alembic names the last migration there is."""
    config = Config()
    config.set_main_option("script_location", "sandboxer.store:migrations")

    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_migrated_file_needs_no_alembic(path: Path) -> None:
    """Opening a file with the newest schema loads neither Alembic nor SQLModel."""
    asyncio.run(make(path))
    program = (
        "import asyncio, sys; from pathlib import Path; from sandboxer.clock import SystemClock; "
        "from sandboxer.store import Store; "
        "store = asyncio.run(Store.open(Path(sys.argv[1]), clock=SystemClock())); "
        "print(store.revision, [m for m in ('alembic', 'sqlmodel') if m in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )

    assert done.stdout == "1 []\n"


async def test_newer_schema(path: Path) -> None:
    """A store that a newer version has written is refused and left as it is."""
    await make(path)
    _execute(path, "UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(TerminalError) as caught:
        await Store.open(path, clock=SystemClock())

    assert caught.value.reason == "StoreTooNew"
    assert "9999" in caught.value.message
    assert _execute(path, "SELECT version_num FROM alembic_version") == [("9999",)]


def test_interrupted_migration(path: Path) -> None:
    """A file that was created and never migrated, as after a crash, is taken as new."""
    path.touch()

    asyncio.run(make(path))

    assert _execute(path, "SELECT count(*) FROM objects") == [(1,)]


def test_not_a_database(path: Path) -> None:
    """A file of something else is refused with what to do, and not touched."""
    path.write_text("not a database " * 100)

    with pytest.raises(TerminalError) as caught:
        asyncio.run(make(path))

    assert caught.value.reason == "StoreCorrupt"
    assert caught.value.remedy
    assert path.read_text().startswith("not a database")


def test_damaged_file(path: Path) -> None:
    """Damage inside the file is told as such."""
    asyncio.run(make(path))
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))

    with pytest.raises(TerminalError) as caught:
        asyncio.run(make(path))

    assert caught.value.reason == "StoreCorrupt"


async def test_impossible_path(tmp_path: Path) -> None:
    """A store where none can be made is an error that names the path."""
    (tmp_path / "file").touch()

    with pytest.raises(TerminalError) as caught:
        await Store.open(tmp_path / "file" / "store.db", clock=SystemClock())

    assert str(tmp_path / "file") in caught.value.message


def test_loose_permissions(path: Path) -> None:
    """A store others could read is closed to them when it is opened."""
    path.touch(0o644)

    asyncio.run(make(path))

    assert path.stat().st_mode & 0o777 == 0o600


async def test_odd_path(tmp_path: Path) -> None:
    """Characters that mean something in URLs mean nothing in a path."""
    path = tmp_path / "a b?mode=ro%20#x" / "store.db"

    await make(path)

    assert path.exists()


async def test_unreadable_document(path: Path) -> None:
    """A stored document that this version cannot read is an error that names the object."""
    await make(path)
    _execute(path, """UPDATE objects SET body = CAST(replace(body, '"Pending"', '"X"') AS BLOB)""")
    store = await Store.open(path, clock=SystemClock())

    with pytest.raises(TerminalError) as caught:
        store.get(Sandbox, "a")

    assert "Sandbox default/a" in caught.value.message
    await store.delete(Sandbox, "a")
    assert store.get(Sandbox, "a") is None
    await store.close()


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from sandboxer.clock import SystemClock
from sandboxer.errors import TransientError
from sandboxer.kinds.meta import ObjectMeta
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Store

def limit(size_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))

async def main():
    store = await Store.open(Path(sys.argv[1]), clock=SystemClock())
    await store.create(Sandbox(metadata=ObjectMeta(name="before")))
    limit(4096)
    try:
        await store.create(Sandbox(metadata=ObjectMeta(name="during")))
    except TransientError as error:
        print(error.reason, [obj.metadata.name for obj in store.list(Sandbox)])
    limit(resource.RLIM_INFINITY)
    created = await store.create(Sandbox(metadata=ObjectMeta(name="after")))
    print(created.metadata.resource_version, [o.metadata.name for o in store.list(Sandbox)])
    await store.close()

asyncio.run(main())
"""


def test_no_room(path: Path) -> None:
    """When the file cannot grow, the write fails as transient, nothing is lost, and it goes on."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True
    )

    assert done.stdout == "StoreIOError ['before']\n2 ['after', 'before']\n"


@pytest.mark.parametrize(
    ("code", "expected", "reason"),
    [
        pytest.param(sqlite3.SQLITE_BUSY_SNAPSHOT, TransientError, "StoreLocked", id="busy"),
        pytest.param(sqlite3.SQLITE_FULL, TransientError, "StoreDiskFull", id="full"),
        pytest.param(sqlite3.SQLITE_IOERR_FSYNC, TransientError, "StoreIOError", id="io"),
        pytest.param(sqlite3.SQLITE_READONLY, TerminalError, "StoreReadOnly", id="read-only"),
        pytest.param(sqlite3.SQLITE_CORRUPT_INDEX, TerminalError, "StoreCorrupt", id="corrupt"),
    ],
)
def test_explained(path: Path, code: int, expected: type[Exception], reason: str) -> None:
    """Every kind of database error says which file, while doing what, and what to do."""
    cause = sqlite3.OperationalError("the driver's words")
    cause.sqlite_errorcode = code

    error = failures.explain(cause, path, "writing 1 changes")

    assert (type(error), error.reason) == (expected, reason)
    assert error.remedy
    assert all(part in error.message for part in (str(path), "writing", "the driver's words"))


def _execute(path: Path, statement: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        with connection:
            return connection.execute(statement).fetchall()
    finally:
        connection.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_writer_that_dies_is_noticed(tmp_path: Path) -> None:
    """A bug that ends the writer ends whoever relies on it, instead of refusing writes for ever."""
    store = await Store.open(tmp_path / "store.db", clock=SystemClock())

    def bug(_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(TerminalError):
        await store._writer.submit([], bug)

    await asyncio.wait_for(store.broken(), 5)
    await store.close()
