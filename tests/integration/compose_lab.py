"""`ext.compose-ssh` on the rig's hosts: sessions, instances, and waiting for them."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sandboxer.errors import (
    TransientError,
    Waiting,
)
from sandboxer.extension import Instance, Observation
from sandboxer.kinds.host import Host
from sandboxer.session import Session, Streams
from sandboxer.telemetry.probe import read_facts
from sandboxer.transport.connections import Connections
from sandboxer.transport.rest import RestEngine
from sandboxer.transport.session import HostSession
from sandboxer_extensions.compose_ssh import ComposeSSHExtension
from sandboxer_extensions.compose_ssh.inputs import ComposeInputs
from tests.rig import Rig

ENVIRONMENT = "env-1"
EXTENSION = ComposeSSHExtension()
# Seconds a test waits for something to become true on two shared cores.
PATIENCE_S = 60.0

TWO_SERVICES = """
services:
  db:
    image: localhost/sbx-base:1
    command: [sleep, "1000"]
    volumes: ["data:/data"]
  app:
    image: localhost/sbx-base:1
    command: [sleep, "1000"]
    depends_on: [db]
volumes: {data: }
"""
LISTING = (
    "podman ps -aq; podman volume ls -q; podman network ls -q | grep -vx podman; "
    "ls -d /build/sbx-* /build/.new-* 2>/dev/null; ls /build/.locks 2>/dev/null"
)


@asynccontextmanager
async def open_session(rig: Rig, name: str, **spec: Any) -> AsyncIterator[Session]:
    """Open the session the controller would use; *spec* goes over the Host's fields."""
    host = Host.parse(rig.hosts[name].manifest(**spec))
    connections = Connections()
    try:
        facts = await read_facts(await connections.link(host), host, None)

        async def open_socket() -> Any:
            return await (await connections.link(host)).open_socket(facts.engine_socket)

        engine = RestEngine(name, open_socket) if rig.hosts[name].engine_socket else None
        yield HostSession(connections, host=host, facts=facts, engine=engine)
        if engine is not None:
            await engine.close()
    finally:
        await connections.close()


def empty(rig: Rig, name: str) -> None:
    """Remove everything from a host; containers that need others go together with them."""
    rig.ssh(name, "podman rm -fa -t 0")
    rig.clean(name)


@pytest.fixture(params=["h1", "h3"], ids=["socket", "command"])
async def place(rig: Rig, request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, Session]]:
    """A clean host with its session, once with and once without the engine's socket."""
    empty(rig, request.param)
    async with open_session(rig, request.param) as session:
        yield request.param, session
    empty(rig, request.param)


@pytest.fixture
async def h1(rig: Rig) -> AsyncIterator[Session]:
    """A clean host with an engine socket."""
    empty(rig, "h1")
    async with open_session(rig, "h1") as session:
        yield session
    empty(rig, "h1")


def instance(rig: Rig, **fields: Any) -> Instance:
    """Return an instance with one service, or with the inputs given."""
    inputs = fields.pop("inputs", {"image": rig.image, "command": "sleep 1000"})
    known = {
        "uid": str(uuid.uuid4()), "namespace": "default", "name": "hello",
        "environment": ENVIRONMENT, "extension": EXTENSION.name, "spec_hash": "0123456789abcdef",
    }  # fmt: skip
    return Instance(inputs=ComposeInputs(**inputs), **(known | fields))


async def observed(session: Session, wanted: Instance) -> Observation | None:
    """Return what is seen of one sandbox."""
    seen = await EXTENSION.observe(session, ENVIRONMENT, wanted.uid)
    return seen[0] if seen else None


async def state(session: Session, wanted: Instance) -> str:
    """Return the state of one sandbox, `Absent` when it is not listed."""
    seen = await observed(session, wanted)
    return seen.state if seen else "Absent"


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return once *condition* holds; fail when it does not within `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while not await condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.1)


async def settle(call: Callable[[], Awaitable[object]]) -> None:
    """Call until it neither waits nor fails for the moment, as the worker does."""

    async def done() -> bool:
        try:
            await call()
        except (Waiting, TransientError):
            return False
        return True

    await until(done)


async def run_inside(session: Session, wanted: Instance, *argv: str, **options: Any) -> Any:
    """Return exit status and output of a command in the sandbox."""
    output = bytearray()

    async def write(chunk: bytes) -> None:
        output.extend(chunk)

    streams = Streams(stdout=write, stderr=write)
    return await EXTENSION.exec(session, wanted, argv, streams, **options), output.decode()
