"""A real host whose compose tool breaks: seen from its failures, spared, and used again once mended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import monotonic

import pytest

from sandboxer.kinds.event import Event
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import API_VERSION
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.manager import Manager
from sandboxer.manager.engine import running
from sandboxer.settings import Settings
from sandboxer.store import Store
from tests.changing import change_spec
from tests.rig import Rig
from tests.rig.host import compose_program

# Seconds a test waits for something to become true on two shared cores.
PATIENCE_S = 90.0

TOOL, BROKEN = "/root/compose", "/root/compose-is-broken"
# Says its version always, and does nothing else while it is broken.
WRAPPER = f"""#!/bin/sh
[ "$1" = version ] || [ ! -e {BROKEN} ] || {{ echo "error: no registry answers" >&2; exit 1; }}
exec {compose_program()} "$@"
"""

CROWD = ("s1", "s2", "s3")


@pytest.fixture
async def store(rig: Rig, tmp_path: Path) -> AsyncIterator[Store]:
    """A controller with one host, whose compose tool is broken."""
    await asyncio.to_thread(rig.clean, "h1")
    install = f"cat >{TOOL} && chmod 755 {TOOL} && touch {BROKEN}"
    await asyncio.to_thread(rig.ssh, "h1", install, stdin=WRAPPER.encode())
    settings = Settings(data_dir=tmp_path, database_url=f"sqlite:///{tmp_path / 'store.db'}")
    async with Manager.open(settings) as manager:
        await manager.register()
        store = manager.store
        async with running(manager.engine(lambda _key: True)):
            manifest = rig.hosts["h1"].manifest(probeInterval="1s", composeCommand=[TOOL])
            await store.create(Host.parse(manifest))
            yield store
            for sandbox in store.list(Sandbox):
                await store.delete(Sandbox, sandbox.metadata.name)
            await until(lambda: not store.list(Sandbox))
    await asyncio.to_thread(rig.ssh, "h1", f"rm -f {TOOL} {BROKEN}")
    await asyncio.to_thread(rig.clean, "h1")


async def until(holds: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE_S
    while not holds():
        assert monotonic() < deadline, "it did not come to hold"
        await asyncio.sleep(0.05)


def made(rig: Rig, name: str) -> Sandbox:
    """Return a sandbox with one container that fits h1 only."""
    service = {"image": rig.image, "command": "sleep 100000"}
    spec = {
        "profile": "profile.compose-e2e",
        "placement": {"host": "h1"},
        "inputs": {"compose": json.dumps({"services": {"web": service}})},
    }
    head = {"apiVersion": API_VERSION, "kind": "Sandbox"}
    metadata = {"name": name, "namespace": "default"}
    return Sandbox.parse({**head, "metadata": metadata, "spec": spec})


def message(store: Store, name: str, type_: str) -> str:
    found = store.get(Sandbox, name)
    stated = found.status.condition(type_) if found is not None else None
    return stated.message if stated is not None else ""


def host_says(store: Store) -> str:
    found = store.get(Host, "h1")
    ready = found.status.condition("Ready") if found is not None else None
    return ready.reason if ready is not None else ""


async def touch(store: Store) -> None:
    """Change the Host's document, as whoever mended it may do to have it tried at once."""
    await change_spec(store, Host, "h1", probeInterval="2s")


@pytest.mark.exhaustive
async def test_broken_compose_tool_is_found_out_and_forgiven(rig: Rig, store: Store) -> None:
    """Five failures open the breaker, one success closes it; what is deleted goes meanwhile."""
    for name in CROWD:
        await store.create(made(rig, name))
    await until(lambda: host_says(store) == "ActionsFail")
    await store.create(made(rig, "late"))
    await until(lambda: "the host fails" in message(store, "late", "Routed"))
    late = message(store, "late", "Routed")
    for name in CROWD[1:]:
        await store.delete(Sandbox, name)
    await until(lambda: len(store.list(Sandbox)) == len(("s1", "late")))
    still = host_says(store)
    await asyncio.to_thread(rig.ssh, "h1", f"rm {BROKEN}")
    await touch(store)
    await until(lambda: all(s.status.is_true("Ready") for s in store.list(Sandbox)))
    await until(lambda: host_says(store) == "Ready")

    reasons = {event.reason for event in store.list(Event) if event.involved_object.name == "h1"}
    assert "error: no registry answers" in late
    assert "ext.compose-ssh on h1: the host fails" in late
    assert {"ActionsFail", "ActionsWork"} <= reasons
    assert still == "ActionsFail"
