"""A host with cron: the watcher comes back without anybody's help."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import pytest

from sandboxer.clock import SystemClock
from sandboxer.engine.placements import Placements
from sandboxer.engine.switch import Guard, Switch, Switches
from sandboxer.extension import Inputs, Instance
from sandboxer.kinds.host import Host
from sandboxer.session import Session
from sandboxer.store import Store
from sandboxer.testing.this_machine import local_host
from tests.integration.compose_lab import open_session
from tests.rig import Rig

HOST = "h3"
NEVER = datetime(2090, 1, 1, tzinfo=UTC)
OWN_LINE = "0 0 1 1 * echo mine"
WATCHERS = "pgrep -f '^(/bin/)?sh [^ ]*watch.sh'"
# cron looks once a minute.
CRON_S = 75.0

# BusyBox's cron with tables of its own: those of the machine are not the host's to change.
SET_UP = f"""
mkdir -p /root/bin /root/tables
printf '#!/bin/sh\nexec busybox crontab -c /root/tables "$@"\n' >/root/bin/crontab
cp "$(command -v busybox)" /root/bin/crond
chmod 755 /root/bin/*
echo 'PATH=/root/bin:$PATH' >/root/.bashrc
echo {shlex.quote(OWN_LINE)} | /root/bin/crontab -
/root/bin/crond -c /root/tables
"""
TAKE_DOWN = "pkill -x crond; rm -rf /root/bin /root/tables /root/.bashrc"


@pytest.fixture
async def switches(rig: Rig, tmp_path: Path) -> AsyncIterator[Switches]:
    """The switches of an installation on a host with cron, where its user has a line in the table."""
    rig.clean(HOST)
    ran = rig.ssh(HOST, SET_UP)
    assert ran.returncode == 0, ran.stderr
    store = await Store.open(tmp_path / "store.db", clock=SystemClock())
    async with open_session(rig, HOST) as session:

        async def reach(_: Host) -> Session:
            return session

        yield Switches(store=store, placements=Placements(), reach=reach)
    await store.close()
    rig.ssh(HOST, TAKE_DOWN)
    rig.clean(HOST)


async def watchers(rig: Rig, *, until: bool) -> list[str]:
    """Return the watchers once there are some, or none."""
    deadline = monotonic() + CRON_S
    while bool(found := (await asyncio.to_thread(rig.ssh, HOST, WATCHERS)).stdout.split()) != until:
        assert monotonic() < deadline, "it did not come to hold"
    return found


@pytest.mark.exhaustive
@pytest.mark.timeout(240)
async def test_cron_starts_a_killed_watcher(rig: Rig, switches: Switches, tmp_path: Path) -> None:
    """Nobody renews, and the watcher is there again; what the user has in the table stays."""
    host, instance = local_host(tmp_path), _instance(switches.store.environment)
    guard = Guard(switch=Switch(expires_at=NEVER, lease_s=60, command=("true",)))
    seen = await switches.follow(host, instance, guard, None)
    table = rig.ssh(HOST, "crontab -l").stdout
    first = await watchers(rig, until=True)
    rig.ssh(HOST, f"kill -9 {' '.join(first)}")

    second = await watchers(rig, until=True)
    await switches.disarm(host, [instance.uid])
    await watchers(rig, until=False)

    assert seen is not None
    assert (seen.watcher, seen.survives_reboot) == ("cron", True)
    assert first != second
    assert OWN_LINE in table
    assert "sandboxer-switch-" in table
    assert rig.ssh(HOST, "crontab -l").stdout.splitlines() == [OWN_LINE]


def _instance(environment: str) -> Instance:
    return Instance(
        uid="0a0b0c0d-0000-4000-8000-000000000002", namespace="default", name="hello",
        environment=environment, extension="ext.vm-packer", spec_hash="0" * 16, inputs=Inputs(),
    )  # fmt: skip
