"""What can go wrong in the store, in the words of `sandboxer.errors`."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from sqlalchemy.exc import DBAPIError

from sandboxer.errors import SandboxerError, TerminalError, TransientError

# Extended SQLite result codes carry the primary code in their low byte.
# Source: https://www.sqlite.org/rescode.html, "Primary Result Codes versus Extended Result Codes".
_PRIMARY_CODE: Final = 0xFF

# By primary code: error class, reason, what is wrong, what to do.
_MEANINGS: Final[dict[int, tuple[type[SandboxerError], str, str, str]]] = {
    sqlite3.SQLITE_BUSY: (
        TransientError,
        "StoreLocked",
        "is locked by another process",
        "If this goes on, find the process that has the file open (`fuser`) and end it.",
    ),
    sqlite3.SQLITE_LOCKED: (
        TransientError,
        "StoreLocked",
        "is locked by another connection",
        "If this goes on, restart the controller.",
    ),
    sqlite3.SQLITE_FULL: (
        TransientError,
        "StoreDiskFull",
        "cannot grow because the disk is full",
        "Free disk space; nothing that was acknowledged is lost.",
    ),
    sqlite3.SQLITE_IOERR: (
        TransientError,
        "StoreIOError",
        "cannot be read or written",
        "Check the disk, its free space and its quotas.",
    ),
    sqlite3.SQLITE_READONLY: (
        TerminalError,
        "StoreReadOnly",
        "is read-only",
        "Give this user write access to the file and its directory.",
    ),
    sqlite3.SQLITE_PERM: (
        TerminalError,
        "StoreForbidden",
        "may not be opened by this user",
        "Give this user access to the file and its directory.",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        TerminalError,
        "StoreUnavailable",
        "cannot be opened",
        "Check that its directory exists and that this user may write there.",
    ),
    sqlite3.SQLITE_CORRUPT: (
        TerminalError,
        "StoreCorrupt",
        "is damaged",
        "Stop all sandboxer processes, then restore a backup or move the file away.",
    ),
    sqlite3.SQLITE_NOTADB: (
        TerminalError,
        "StoreCorrupt",
        "is not a database of sandboxer",
        "Move the file away or set SANDBOXER_DATABASE_URL to another path.",
    ),
}


class ExpiredError(SandboxerError):
    """The changes a watch asked for are gone; list again and watch from the newest revision."""

    default_reason = "Expired"


def explain(error: DBAPIError | sqlite3.Error, path: Path, doing: str) -> SandboxerError:
    """
    Turn a database error into one that says what to do.

    Args:
        error: As SQLAlchemy or sqlite3 raised it.
        path: File of the store.
        doing: What was attempted, as a gerund: `writing 3 objects`.
    """
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY_CODE
    kind, reason, wrong, remedy = _MEANINGS.get(
        code, (TransientError, "StoreError", "gave an error", "")
    )
    return kind(f"Store {path} {wrong} ({doing}: {cause}).", reason=reason, remedy=remedy)
