"""
Giving a store the id of the installation whose store was lost.

Every process has the id in memory from the moment it opens the store, and puts it on whatever it
makes. So it changes only while no other process has the file open, and none can open it meanwhile.
"""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from sandboxer.errors import ConflictError, TerminalError
from sandboxer.store import statements
from sandboxer.store.database import BUSY_TIMEOUT_MS
from sandboxer.store.failures import explain

# NOTE: with it, SQLite refuses to begin while another connection has the file open, in WAL mode
# also an idle one, and lets none in before this one is closed. Source: sqlite.org/wal.html, 8.
_ALONE: Final = ("PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE")

# As `database.py` makes them. It goes into labels, paths and commands on every host.
_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def take_over(store: Path, environment: str) -> None:
    """
    Make *environment* the id of the installation; doing it again changes nothing.

    Args:
        store: File of the store, which this process does not have open.
        environment: Id on the labels of what lies on hosts.

    Raises:
        ConflictError: Another process uses the store, or sandboxes of it were placed under its
            own id.
        TransientError: The file cannot be written now.
        TerminalError: It cannot be used, or *environment* is no id.
    """
    if not _ID.fullmatch(environment):
        raise TerminalError(
            f"{environment[:80]!r} is not the id of an installation.", reason="EnvironmentInvalid"
        )
    try:
        with closing(
            sqlite3.connect(store, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None)
        ) as connection:
            _become_alone(connection, store)
            if connection.execute(statements.READ_META).fetchone()[0] == environment:
                return
            _check_unused(connection)
            connection.execute(statements.WRITE_ENVIRONMENT, (environment,))
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise explain(error, store, "taking over an installation") from error


def _become_alone(connection: sqlite3.Connection, store: Path) -> None:
    try:
        for statement in _ALONE:
            connection.execute(statement)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise
        raise ConflictError(
            f"Another process uses {store}.",
            reason="StoreInUse",
            remedy="Stop the controller, and try again when other commands have ended.",
        ) from error


def _check_unused(connection: sqlite3.Connection) -> None:
    for namespace, name, body in connection.execute(statements.READ_SANDBOXES):
        if json.loads(body).get("status", {}).get("extension"):
            raise ConflictError(
                f"Sandbox {namespace}/{name} was placed under the present id of this installation, "
                "and would be lost under another one.",
                reason="EnvironmentInUse",
                remedy="Adopt into an empty store: set SANDBOXER_DATA_DIR to another directory.",
            )
