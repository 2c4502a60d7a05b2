"""A real podman's REST API through the SSH connection, started by us where nobody serves it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxer.errors import TransientError, UnreachableError
from sandboxer.kinds.host import Host, HostFacts
from sandboxer.transport import Connections
from sandboxer.transport.engine_socket import OWN_SOCKET_NAME, EngineSocket
from sandboxer.transport.rest import RestEngine
from tests.integration.loopback_sshd import LoopbackSSHD
from tests.integration.podman_service import kill_service, services

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="podman's own storage needs root here")


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[LoopbackSSHD]:
    server = LoopbackSSHD(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def facts(tmp_path: Path) -> Iterator[HostFacts]:
    work = tmp_path / "work"
    work.mkdir(mode=0o700)
    socket = str(work / OWN_SOCKET_NAME)
    yield HostFacts(work_root=str(work), engine="podman", engine_socket=socket)
    kill_service(socket)


@pytest.fixture(params=["ssh", "local"])
async def engine(
    request: pytest.FixtureRequest, sshd: LoopbackSSHD, facts: HostFacts
) -> AsyncIterator[RestEngine]:
    document = {
        "apiVersion": "sandboxer.dev/v1alpha1",
        "kind": "Host",
        "metadata": {"name": "local"},
        "spec": {"transport": "local"},
    }
    host = sshd.host() if request.param == "ssh" else Host.parse(document)
    connections = Connections()
    made = RestEngine("h1", EngineSocket(connections, host, facts).open)
    yield made
    await made.close()
    await connections.close()


def podman(*arguments: str) -> None:
    subprocess.run(["podman", *arguments], check=False, capture_output=True)


async def test_lists_by_the_api(engine: RestEngine) -> None:
    """A list asked with a filter is the decoded JSON of podman."""
    query = {"all": "true", "filters": json.dumps({"label": ["sandboxer.dev/none=x"]})}

    assert await engine.get("/containers/json", query=query) == []


async def test_error_of_the_engine_is_told(engine: RestEngine) -> None:
    """An answer other than 200 is a TransientError with the engine's own words."""
    with pytest.raises(TransientError) as caught:
        await engine.get("/containers/no-such-container/json")

    assert caught.value.reason == "EngineError"
    assert "no-such-container" in caught.value.message


async def test_one_service_however_many_ask(engine: RestEngine, facts: HostFacts) -> None:
    """Ten requests at once start one service."""
    await asyncio.gather(*(engine.get("/version") for _ in range(10)))

    assert len(services(facts.engine_socket)) == 1


async def test_service_that_died_is_started_again(engine: RestEngine, facts: HostFacts) -> None:
    """A killed service leaves its socket behind, and the next request gets an answer all the same."""
    before = (await engine.get("/version"))["Version"]
    kill_service(facts.engine_socket)

    async with asyncio.timeout(60):
        while True:
            # The first request may still meet the dying connection; that one is told as broken.
            with contextlib.suppress(UnreachableError):
                assert (await engine.get("/version"))["Version"] == before
                break


async def test_events_arrive_and_end_as_unreachable(engine: RestEngine, facts: HostFacts) -> None:
    """An event is yielded when it happens, and a stream that breaks says so."""
    name = f"sbx-test-{os.getpid()}"
    await engine.get("/version")
    filters = json.dumps({"type": ["volume"]})
    events = engine.events(query={"filters": filters})
    first = asyncio.ensure_future(anext(events))
    try:
        async with asyncio.timeout(60):
            # podman's stream begins some time after the request; create until it is seen.
            while not first.done():
                await asyncio.to_thread(podman, "volume", "create", name)
                await asyncio.to_thread(podman, "volume", "rm", name)
                await asyncio.wait([first], timeout=0.2)
    finally:
        await asyncio.to_thread(podman, "volume", "rm", "--force", name)
    assert (await first)["Type"] == "volume"

    kill_service(facts.engine_socket)

    with pytest.raises(UnreachableError):
        await read_to_the_end(events)


async def read_to_the_end(events: AsyncIterator[Any]) -> None:
    async with asyncio.timeout(60):
        async for _ in events:
            pass


async def test_forbidden_forwarding_is_told(tmp_path: Path, facts: HostFacts) -> None:
    """A server that forbids sockets is told apart from an engine that does not answer."""
    (tmp_path / "strict").mkdir()
    server = LoopbackSSHD(tmp_path / "strict", more="AllowStreamLocalForwarding no")
    server.start()
    connections = Connections()

    try:
        with pytest.raises(TransientError) as caught:
            await EngineSocket(connections, server.host(), facts).open()
    finally:
        await connections.close()
        server.stop()

    assert caught.value.reason == "ForwardingForbidden"
