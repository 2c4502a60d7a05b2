"""`doctor`: check this installation, each finding with what to do about it."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NamedTuple

import click

from sandboxer import __version__
from sandboxer.cli.access import with_manager
from sandboxer.cli.exits import Exit
from sandboxer.cli.printing import safe_text, write
from sandboxer.errors import SandboxerError
from sandboxer.kinds.host import Host
from sandboxer.settings import Settings, settings_from_environment

if TYPE_CHECKING:
    from sandboxer.manager import Manager


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    fine: bool
    finding: str
    remedy: str = ""

    def line(self) -> str:
        """Return it for a person."""
        text = f"{'ok  ' if self.fine else 'FAIL'}  {self.name}: {safe_text(self.finding)}\n"
        return text if self.fine or not self.remedy else f"{text}      {safe_text(self.remedy)}\n"


@click.command()
def doctor() -> int:
    """
    Check this installation: data directory, store, extensions, controller, hosts.

    Exit code 1 when a check fails.
    """
    settings = settings_from_environment()
    first = [Check("sandboxer", True, f"{__version__} on Python {sys.version.split()[0]}")]  # noqa: FBT003 - a record, read by position
    first.append(check_data_dir(settings))
    for check in first:
        write(check.line())
    if not all(check.fine for check in first):
        return Exit.NO

    async def work(manager: Manager) -> int:
        await manager.register()
        failed = 0
        async for check in _checks(manager):
            write(check.line())
            failed += not check.fine
        return Exit.NO if failed else Exit.OK

    try:
        return with_manager(work)
    except SandboxerError as error:
        write(Check("store", False, error.message, error.remedy).line())  # noqa: FBT003 - as above
        return Exit.NO


def check_data_dir(settings: Settings) -> Check:
    """Check that the data directory can be used by this user and by nobody else."""
    path = settings.data_dir
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return Check("data directory", fine=True, finding=f"{path} will be made")
    except OSError as error:
        return Check("data directory", fine=False, finding=f"{path}: {error.strerror}")
    if not os.access(path, os.W_OK | os.X_OK):
        remedy = "chown it to yourself, or set SANDBOXER_DATA_DIR to a directory of your own."
        return Check("data directory", fine=False, finding=f"{path} is not writable", remedy=remedy)
    if stat.S_IMODE(mode) & 0o077:
        finding = f"{path} may be entered by others (mode {stat.S_IMODE(mode):04o})"
        return Check("data directory", fine=False, finding=finding, remedy=f"chmod 700 {path}")
    return Check("data directory", fine=True, finding=str(path))


async def _checks(manager: Manager) -> AsyncIterator[Check]:
    store = manager.store
    kinds = ("Sandbox", "Host", "Profile")
    counts = ", ".join(f"{sum(1 for _ in store.entries(k))} {k.lower()}" for k in kinds)
    yield Check("store", fine=True, finding=f"{manager.settings.database_path} ({counts})")
    yield _controller(manager)
    for name, problem in manager.extension_problems().items():
        remedy = "Repair or uninstall the package that provides it."
        yield Check(f"extension {name}", fine=False, finding=problem, remedy=remedy)
    for name, version in manager.extension_versions().items():
        yield Check(f"extension {name}", fine=True, finding=version or "loaded")
    for host in sorted(store.list(Host), key=lambda h: h.metadata.name):
        yield await _host(manager, host)


def _controller(manager: Manager) -> Check:
    if manager.controller_running():
        pid = manager.controller_pid()
        return Check("controller", fine=True, finding=f"running{f' (pid {pid})' if pid else ''}")
    finding = "not running; commands that wait reconcile by themselves"
    return Check("controller", fine=True, finding=finding)


async def _host(manager: Manager, host: Host) -> Check:
    name = f"host {host.metadata.name}"
    try:
        report = await manager.probe(host)
    except SandboxerError as error:
        return Check(name, fine=False, finding=error.message, remedy=error.remedy)
    facts = report.facts
    engine = f"{facts.engine} {facts.engine_version}".strip() or "no container engine"
    finding = f"answers in {report.round_trip_ms:.1f} ms, {facts.os}, {engine}"
    return Check(name, fine=True, finding=finding)
