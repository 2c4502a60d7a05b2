"""
The SQLite file of the store: made with private permissions, migrated, opened, explained.

Alembic is imported only when the file's schema is not the newest, so that an ordinary command
does not pay for it.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from sandboxer.errors import TerminalError
from sandboxer.store import statements
from sandboxer.store.failures import explain

HEAD: Final = "0003"
"""Newest schema; the name of the last file in `migrations/versions`."""

# Milliseconds to wait for another process's write transaction. Ours last milliseconds; five
# seconds cover a migration or a compaction there.
BUSY_TIMEOUT_MS: Final = 5_000

# Pages of 4 KiB after which the log is copied into the file, with two more fsyncs. Four times
# SQLite's default: pages written again and again in between are copied once.
CHECKPOINT_PAGES: Final = 4_000

# Bytes to which a write-ahead log that has grown (a bulk apply, a slow reader) is cut back.
JOURNAL_SIZE_LIMIT_BYTES: Final = 64 * 2**20


class Database:
    """
    One open file. Connections may be used from any thread, one thread at a time.

    Args:
        path: The file; it and its directory are made when they are missing.

    Raises:
        TerminalError: The file cannot be used, or a newer version has written it.
        TransientError: It is locked, or the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _make_private(path)
        self._engine: Engine = sqlalchemy.create_engine(
            # NOTE: URL.create, because a path may hold `?` and `%`, which a URL text would decode.
            sqlalchemy.URL.create("sqlite", database=str(path)),
            # No implicit BEGIN: a transaction that starts by reading and then writes can fail
            # with SQLITE_BUSY at once; ours start with BEGIN IMMEDIATE.
            connect_args={"isolation_level": None, "check_same_thread": False},
        )
        sqlalchemy.event.listen(self._engine, "connect", _configure)
        try:
            self._migrate()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all pooled connections."""
        self._engine.dispose()

    @contextmanager
    def connect(self, doing: str) -> Iterator[Connection]:
        """Lend a connection; errors are explained with what was being done (a gerund)."""
        with self.explained(doing), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def explained(self, doing: str) -> Iterator[None]:
        """Turn database errors inside into errors of `sandboxer.errors`."""
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            raise explain(error, self.path, doing) from error

    def _migrate(self) -> None:
        with self.connect("opening it") as connection:
            if _schema(connection) == HEAD:
                return
            with transaction(connection):
                # NOTE: looked at again under the lock; another process may have migrated since.
                found = _schema(connection)
                if found != HEAD:
                    _upgrade(connection, self.path, found)
                connection.exec_driver_sql(statements.INSERT_META, (str(uuid.uuid4()),))


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Hold the write lock of the file; commit durably at the end, roll back on any error."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        yield
        connection.commit()
    except BaseException:
        # A failed commit may have ended the transaction already; the driver knows.
        connection.rollback()
        raise


def _make_private(path: Path) -> None:
    """Make directory (0700) and file (0600); SQLite gives its log files the file's mode."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_mode & 0o077:
                os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise TerminalError(
            f"Store {path} cannot be opened ({error.strerror or error}).",
            reason="StoreUnavailable",
            remedy="Check that this user may write there, or set SANDBOXER_DATA_DIR.",
        ) from error


def _configure(connection: sqlite3.Connection, _record: Any) -> None:
    # FULL: an acknowledged write survives a power cut. Group commit makes it cost about a tenth
    # more than NORMAL (`benchmarks/README.md`).
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
        f"journal_size_limit = {JOURNAL_SIZE_LIMIT_BYTES}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _schema(connection: Connection) -> str:
    """Return the schema's name, empty for a new file."""
    if not connection.exec_driver_sql(statements.HAS_SCHEMA).scalar_one():
        return ""
    return str(connection.exec_driver_sql(statements.READ_SCHEMA).scalar() or "")


def _upgrade(connection: Connection, path: Path, found: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "sandboxer.store:migrations")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found and found not in known:
        raise TerminalError(
            f"Store {path} has schema {found}, which this version of sandboxer does not know; "
            "a newer version has written it.",
            reason="StoreTooNew",
            remedy="Upgrade sandboxer, or set SANDBOXER_DATA_DIR to another directory.",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
