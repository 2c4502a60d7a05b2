"""`backup` and `restore-store`: the store as one file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click

from sandboxer.cli.exits import Exit, RefusedError
from sandboxer.cli.printing import note, write
from sandboxer.errors import ConflictError
from sandboxer.settings import Settings, settings_from_environment
from sandboxer.units import format_bytes

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("file", type=FILE)
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def backup(file: Path, *, force: bool) -> int:
    """
    Copy the store of this data directory into FILE, also while the controller runs.

    FILE holds everything at one instant: objects, leases, what was explained of sandboxes, the id
    of this installation. Tokens, certificates and `manifest.key` are files of their own.
    """
    from sandboxer.store.backup import back_up

    settings = _own_settings("backed up")
    size = back_up(settings.database_path, file.absolute(), replace=force)
    write(f"{file}: {format_bytes(size)}\n")
    return Exit.OK


@click.command("restore-store")
@click.argument("file", type=FILE)
@click.option("--force", is_flag=True, help="Put a store that is there aside.")
def restore_store(file: Path, *, force: bool) -> int:
    """
    Make a backup the store of this data directory; no controller may run.

    What was made after the backup is left on the hosts, and the controller leaves it alone: see
    `inspect stale`.
    """
    from sandboxer.store.backup import restore

    settings = _own_settings("restored")
    with _no_controller(settings):
        aside = restore(file.absolute(), settings.database_path, replace=force)
    write(f"{settings.database_path} restored from {file}\n")
    if aside is not None:
        note(f"The store that was there is {aside} now.")
    return Exit.OK


def _own_settings(done: str) -> Settings:
    settings = settings_from_environment()
    if settings.server:
        raise RefusedError(
            f"The store behind {settings.server} can only be {done} on its own machine.",
            remedy="Run this there, without SANDBOXER_SERVER.",
        )
    return settings


@contextmanager
def _no_controller(settings: Settings) -> Iterator[None]:
    """Keep every controller of this data directory from starting inside the block."""
    from sandboxer.store import KeyLocks

    with closing(KeyLocks(settings.locks_path)) as locks:
        if not locks.try_controller():
            raise ConflictError(
                f"A controller of {settings.data_dir} is running.",
                reason="ControllerRuns",
                remedy="Stop it first.",
            )
        yield
