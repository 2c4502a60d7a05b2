"""Drift under a whole engine on a real host: noticed by the engine's events, told and answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from sandboxer.clock import SystemClock
from sandboxer.engine import Engine
from sandboxer.kinds.event import Event
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import Difference, Sandbox
from sandboxer.registry import Loaded, Registry
from sandboxer.store import KeyLocks, Store
from sandboxer.telemetry import Telemetry
from sandboxer.testing.builders import profile, sandbox
from sandboxer.transport import Connections
from tests.integration.compose_lab import EXTENSION, PATIENCE_S, TWO_SERVICES, empty
from tests.rig import Rig

pytestmark = pytest.mark.timeout(180)

# Far above what a test takes: whatever is noticed was told by the host's engine.
_PROBE_INTERVAL = "10m"


@pytest.fixture
async def store(rig: Rig, tmp_path: Path) -> AsyncIterator[Store]:
    """A store whose engine works on h1 and probes it once only."""
    empty(rig, "h1")
    clock = SystemClock()
    opened = await Store.open(tmp_path / "store.db", clock=clock)
    connections = Connections(clock)
    loaded = Loaded(extension=EXTENSION, distribution="sandboxer", version="1.0")
    registry = Registry(loaded={EXTENSION.name: loaded}, problems={})
    telemetry = Telemetry(
        connections=connections, extensions=registry.extensions, environment=opened.environment,
        clock=clock,
    )  # fmt: skip
    locks = KeyLocks(tmp_path / "locks")
    engine = Engine(opened, telemetry, registry=registry, locks=locks, clock=clock)
    running = asyncio.create_task(engine.run())
    try:
        await opened.create(profile("fake", EXTENSION.name))
        await opened.create(Host.parse(rig.hosts["h1"].manifest(probeInterval=_PROBE_INTERVAL)))
        yield opened
    finally:
        await engine.stop(budget_s=5.0)
        await running
        await telemetry.close()
        await connections.close()
        await opened.close()
        locks.close()
        empty(rig, "h1")


def found(store: Store) -> Sandbox:
    """Return the sandbox."""
    got = store.get(Sandbox, "hello")
    assert got is not None
    return got


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = monotonic() + PATIENCE_S
    while not holds():
        assert monotonic() < deadline, "it did not come to hold"
        await asyncio.sleep(0.01)


async def ready(store: Store, **spec: Any) -> tuple[str, str]:
    """Make the sandbox, wait until it is Ready; return its short id and how to list its app."""
    inputs = {"compose": TWO_SERVICES}
    await store.create(sandbox(inputs=inputs, resources={"memory": "64Mi"}, **spec))
    await until(lambda: found(store).status.is_true("Ready"))
    uid = found(store).metadata.uid
    label = f"--filter label=sandboxer.dev/uid={uid} --filter label=sandboxer.dev/service=app"
    return f"sbx-{uid.replace('-', '')[:12]}", f"$(podman ps -aq {label})"


async def do(rig: Rig, command: str) -> None:
    """Run a command on the host while the engine goes on."""
    done = await asyncio.to_thread(rig.ssh, "h1", command)
    assert done.returncode == 0, done.stderr


def told(store: Store, reason: str) -> str:
    """Return what the events of that reason say."""
    return "\n".join(event.message for event in store.list(Event) if event.reason == reason)


async def test_what_somebody_did_is_told_and_repaired(rig: Rig, store: Store) -> None:
    """A pause is undone and a lost volume made anew, each after an event, and lost data is named."""
    short_id, app = await ready(store)
    db = app.replace("service=app", "service=db")

    await do(rig, f"podman pause {app}")
    await until(lambda: found(store).status.repairs == 1 and found(store).status.is_true("Ready"))
    # Under the sandbox's lock, or the repair of the first step comes before the second.
    harm = f"podman rm -f -t 0 --depend {db} && podman volume rm {short_id}_data"
    await do(rig, f"flock /build/.locks/{short_id} sh -c '{harm}'")
    # With the drift as well, when a look saw it before the repair made the volume anew.
    await until(lambda: "The data of volumes/data is lost." in told(store, "Repaired"))
    await until(lambda: found(store).status.is_true("Ready"))

    assert "Service app is paused." in told(store, "Drifted")
    assert found(store).status.drift == ()


async def test_what_is_only_reported_stays_until_it_is_mended(rig: Rig, store: Store) -> None:
    """With Report the difference is in status and Ready, the spec is untouched, and it can go."""
    short_id, app = await ready(store, driftPolicy="Report")
    before = found(store)

    await do(rig, f"podman network disconnect {short_id}_default {app}")
    await until(lambda: found(store).status.is_true("Drifted"))
    reported = found(store)
    await do(rig, f"podman network connect {short_id}_default {app}")
    await until(lambda: found(store).status.is_true("Ready"))
    mended = found(store)

    wanted = Difference(path="containers/app/networks", wanted=f"{short_id}_default", seen="none")
    said = reported.status.condition("Ready")
    assert reported.status.drift == (wanted,)
    assert said is not None
    assert (said.status, said.reason) == ("False", "DriftReported")
    assert str(wanted) in said.message
    assert (reported.spec, reported.metadata.generation) == (
        before.spec,
        before.metadata.generation,
    )
    assert mended.status.drift == ()
    assert mended.status.repairs == 0
    assert not mended.status.is_true("Drifted")
