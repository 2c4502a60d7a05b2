"""`doctor`: check this installation, each finding with what to do about it."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, NamedTuple

import click

from sandboxer import __version__
from sandboxer.cli.access import with_api
from sandboxer.cli.exits import Exit
from sandboxer.cli.inspect import look_at
from sandboxer.cli.printing import safe_text, write
from sandboxer.errors import SandboxerError
from sandboxer.kinds.host import Host
from sandboxer.kinds.profile import Profile
from sandboxer.kinds.registration import Extension
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.settings import Settings, settings_from_environment

if TYPE_CHECKING:
    from sandboxer.cli.access import Access
    from sandboxer.client.client import Client

_WHO_AM_I = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


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
    Check this installation: data directory, API, controller, store, extensions, hosts.

    Exit code 1 when a check fails.
    """
    settings = settings_from_environment()
    first = [Check("sandboxer", True, f"{__version__} on Python {sys.version.split()[0]}")]  # noqa: FBT003 - a record, read by position
    if not settings.server:
        first.append(check_data_dir(settings))
    for check in first:
        write(check.line())
    if not all(check.fine for check in first):
        return Exit.NO

    async def work(access: Access) -> int:
        failed = 0
        async for check in _checks(access):
            write(check.line())
            failed += not check.fine
        return Exit.NO if failed else Exit.OK

    try:
        return with_api(work, writes=True)
    except SandboxerError as error:
        name = "API" if settings.server else "store"
        write(Check(name, False, error.message, error.remedy).line())  # noqa: FBT003 - as above
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


async def _checks(access: Access) -> AsyncIterator[Check]:
    client = access.client
    yield await _api(access)
    if not access.is_remote:
        yield _controller(access)
    yield await _objects(access)
    for check in await _extensions(access):
        yield check
    hosts = (await client.list(Host)).items
    for host in sorted(hosts, key=lambda h: h.metadata.name):
        yield await _host(client, host)


async def _api(access: Access) -> Check:
    client = access.client
    if access.manager is not None:
        return Check("API", fine=True, finding="served by this command to itself")
    release = str((await client.document("/version")).get("gitVersion", "")).partition("+")[2]
    review = await client.document(_WHO_AM_I, method="POST", body={})
    user = review.get("status", {}).get("userInfo", {}).get("username", "?")
    finding = f"{client.server.where}, {release or 'unknown version'}, as {user}"
    return Check("API", fine=True, finding=finding)


def _controller(access: Access) -> Check:
    if not access.somebody_works():
        finding = "not running; commands that wait reconcile by themselves"
        return Check("controller", fine=True, finding=finding)
    pid = access.controller_pid()
    return Check("controller", fine=True, finding=f"running{f' (pid {pid})' if pid else ''}")


async def _objects(access: Access) -> Check:
    counts = []
    for kind in (Sandbox, Host, Profile):
        number = len((await access.client.list(kind)).items)
        counts.append(f"{number} {kind.__name__.lower() if number == 1 else kind.plural}")
    place = "" if access.is_remote else f"{access.settings.database_path}: "
    return Check("store", fine=True, finding=place + ", ".join(counts))


async def _extensions(access: Access) -> list[Check]:
    """Check what serves: this process's own extensions, or what the controller says of its."""
    if access.manager is not None:
        problems, versions = (
            access.manager.extension_problems(),
            access.manager.extension_versions(),
        )
    else:
        problems, versions = _reported((await access.client.list(Extension)).items)
    remedy = "Repair or uninstall the package that provides it."
    broken = [
        Check(f"extension {name}", fine=False, finding=problem, remedy=remedy)
        for name, problem in problems.items()
    ]
    return broken + [
        Check(f"extension {name}", fine=True, finding=version or "loaded")
        for name, version in versions.items()
    ]


def _reported(extensions: Iterable[Extension]) -> tuple[dict[str, str], dict[str, str]]:
    """Return why extensions cannot be used and the versions of those that can, by name."""
    problems, versions = {}, {}
    for extension in extensions:
        name, ready = extension.metadata.name, extension.status.condition("Ready")
        if ready is not None and ready.status == "False":
            problems[name] = ready.message or ready.reason
        else:
            versions[name] = extension.status.version
    return problems, versions


async def _host(client: Client, host: Host) -> Check:
    name = f"host {host.metadata.name}"
    try:
        seen = await look_at(client, host)
    except SandboxerError as error:
        return Check(name, fine=False, finding=error.message, remedy=error.remedy)
    facts = seen.facts
    engine = f"{facts.engine} {facts.engine_version}".strip() or "no container engine"
    finding = f"answers in {seen.round_trip_ms:.1f} ms, {facts.os}, {engine}"
    return Check(name, fine=True, finding=finding)
