"""
A copy of the store in one file, and a store from such a copy.

A backup is taken by SQLite itself from one snapshot, while others read and write. It is an
ordinary database without a write-ahead log; nothing but this file is needed to restore it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Final

from sandboxer.errors import ConflictError, NotFoundError, TerminalError
from sandboxer.store import statements
from sandboxer.store.database import BUSY_TIMEOUT_MS, Database
from sandboxer.store.failures import explain

REPLACED: Final = ".replaced"
"""Suffix of the store that was there before another one was restored; the next has `.2` more."""

_CHECK: Final = "PRAGMA integrity_check(1)"
_PLAIN: Final = "PRAGMA journal_mode = DELETE"
_MODE: Final = "PRAGMA journal_mode"

# What SQLite keeps beside a database, and takes for part of whichever file has that name.
_BESIDE: Final = ("-wal", "-shm", "-journal")

# Extended SQLite result codes carry the primary code in their low byte.
_PRIMARY_CODE: Final = 0xFF


def back_up(store: Path, target: Path, *, replace: bool = False) -> int:
    """
    Copy the store into a file of its own, mode 0600, which appears when it is complete.

    Args:
        store: File of the store; it may be in use.
        target: Where the copy goes.
        replace: Take the place of a file that is there.

    Returns:
        Bytes of the copy.

    Raises:
        NotFoundError: There is no store.
        ConflictError: *target* exists, or is the store itself.
        TerminalError: It cannot be read or written, or the copy is damaged.
    """
    if not store.is_file():
        raise NotFoundError(f"There is no store at {store}.", remedy="Set SANDBOXER_DATA_DIR.")
    _check_target(store, target, replace=replace)
    with _new_file(target) as partial:
        _copy(store, partial)
        _check(partial)
        size = partial.stat().st_size
        partial.replace(target)
        _sync(target.parent)
    return size


def restore(backup: Path, store: Path, *, replace: bool = False) -> Path | None:
    """
    Make a backup the store; the caller holds the controller's lock.

    Args:
        backup: Made by `back_up`, by this version or an older one.
        store: File of the store.
        replace: Put a store that is there aside.

    Returns:
        Where the store that was there is now.

    Raises:
        NotFoundError: There is no such backup.
        ConflictError: There is a store, or a command is using it.
        TerminalError: The backup is damaged, no store, or of a newer version.
    """
    if not backup.is_file():
        raise NotFoundError(f"There is no backup at {backup}.")
    if store.exists() and not replace:
        raise ConflictError(
            f"There is a store at {store}.",
            remedy="Use --force to put it aside, or set SANDBOXER_DATA_DIR to another directory.",
        )
    store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _new_file(store) as partial:
        _copy(backup, partial)
        _check(partial)
        _check_schema(partial, backup)
        aside = _take_place(partial, store)
        _sync(store.parent)
    return aside


def _check_target(store: Path, target: Path, *, replace: bool) -> None:
    """
    Refuse to put a copy where it must not go.

    Raises:
        ConflictError: *target* is the store or a file of its log, or is there and may not be
            replaced.
    """
    if not target.exists():
        return
    own = (store, *_beside(store))
    if any(each.exists() and target.samefile(each) for each in own):
        raise ConflictError(
            f"{target} is the store itself, and no place for its copy.",
            remedy="Name another file.",
        )
    if not replace:
        raise ConflictError(f"{target} exists already.", remedy="Use --force to replace it.")


@contextmanager
def _new_file(beside: Path) -> Iterator[Path]:
    """Yield an empty private file in the directory of *beside*; what is left of it goes."""
    path = beside.with_name(f".{beside.name}.{os.getpid()}")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield path
    except OSError as error:
        raise TerminalError(
            f"{beside} cannot be written ({error.strerror or error}).",
            reason="NotWritable",
            remedy="Check the directory and the free space.",
        ) from error
    finally:
        for each in (path, *_beside(path)):
            each.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    try:
        with closing(_opened(source)) as reading, closing(_opened(target)) as writing:
            # NOTE: all pages in one step, which is one snapshot; in several, a write in between
            # would begin it anew.
            reading.backup(writing)
            writing.execute(_PLAIN)
    except sqlite3.Error as error:
        raise explain(error, source, "copying it") from error
    _sync(target)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None)


def _check(path: Path) -> None:
    try:
        with closing(_opened(path)) as connection:
            (found,) = connection.execute(_CHECK).fetchone()
    except sqlite3.Error as error:
        found = str(error)
    if found != "ok":
        raise TerminalError(
            f"The copy is damaged: {found}.",
            reason="StoreDamaged",
            remedy="Use another backup; check the disk.",
        )


def _check_schema(partial: Path, backup: Path) -> None:
    """Refuse what is no store of ours, and bring an older one up to date."""
    with closing(_opened(partial)) as connection:
        is_ours = connection.execute(statements.HAS_SCHEMA).fetchone()[0]
    if not is_ours:
        raise TerminalError(f"{backup} is no backup of sandboxer's store.", reason="NotAStore")
    Database(partial).close()
    with closing(_opened(partial)) as connection:
        connection.execute(_PLAIN)
    _sync(partial)


def _take_place(partial: Path, store: Path) -> Path | None:
    """Make a complete file the store; return the other name of the one that was there."""
    if store.exists():
        with _kept_from_others(store):
            aside = _put_aside(store)
            partial.replace(store)
            return aside
    # The log of a store that was lost would be taken for one of the restored store.
    _put_log_aside(store, _free_name(store))
    try:
        os.link(partial, store)
    except FileExistsError as error:
        raise ConflictError(
            f"A command has just made a store at {store}.", remedy="Use --force to put it aside."
        ) from error
    return None


@contextmanager
def _kept_from_others(store: Path) -> Iterator[None]:
    """
    Let nobody use a store inside the block, also who opened it before; it is in one file then.

    One that is damaged is left as it is: nobody can use it, and it may be why another is restored.

    Raises:
        ConflictError: Somebody uses it.
    """
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(closing(_opened(store)))
            # NOTE: takes the log in, and fails while any other process has the file open. Without
            # a log, whoever waits for the lock finds that the file has moved, and writes nothing.
            connection.execute(_PLAIN)
            connection.execute("BEGIN EXCLUSIVE")
            if connection.execute(_MODE).fetchone()[0] != "delete":
                raise _in_use(store)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & _PRIMARY_CODE in (
                sqlite3.SQLITE_BUSY,
                sqlite3.SQLITE_LOCKED,
            ):
                raise _in_use(store) from error
        yield


def _in_use(store: Path) -> ConflictError:
    return ConflictError(f"A command is using {store}.", remedy="Try again when it has ended.")


def _put_aside(store: Path) -> Path:
    """Give a store another name besides its own, and what is beside it the like."""
    aside = _free_name(store)
    # NOTE: a second name and no move, so that there is a store at every instant.
    os.link(store, aside)
    _put_log_aside(store, aside)
    return aside


def _put_log_aside(store: Path, aside: Path) -> None:
    for own, other in zip(_beside(store), _beside(aside), strict=True):
        if own.exists():
            own.replace(other)


def _free_name(store: Path) -> Path:
    """Return a name for a replaced store that no file has, so that none is ever lost."""
    names = (f"{store.name}{REPLACED}{f'.{number}' if number > 1 else ''}" for number in count(1))
    free = (store.with_name(name) for name in names)
    return next(p for p in free if not any(map(os.path.lexists, (p, *_beside(p)))))


def _beside(path: Path) -> tuple[Path, ...]:
    return tuple(path.with_name(path.name + suffix) for suffix in _BESIDE)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
