"""Starting, stopping and listening, as clients meet it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sandboxer.api import server
from sandboxer.api.server import MAX_HEAD_BYTES, Exposure, open_endpoint
from sandboxer.errors import ConflictError
from sandboxer.kinds.meta import ObjectMeta
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.testing.clock import ManualClock
from tests.integration.api.serving_lab import SANDBOXES, Lab, served, status_of

MANIFEST = json.dumps({
    "apiVersion": "sandboxer.dev/v1alpha1", "kind": "Sandbox",
    "metadata": {"name": "a", "namespace": "default"},
    "spec": {"profile": "profile.sandbox-canary"},
})  # fmt: skip


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime.now(UTC))


@pytest.fixture
async def lab(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Lab]:
    async with served(tmp_path / "data", clock) as opened:
        yield opened


@pytest.fixture
async def starting(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Lab]:
    """A server whose controller has not let requests in yet."""
    async with served(tmp_path / "data", clock, is_open=False) as opened:
        yield opened


async def test_who_comes_too_early_is_asked_to_come_back(starting: Lab) -> None:
    """While it starts, everything but the look at the process is a 503 with Retry-After."""
    async with starting.client(starting.admin.token) as client:
        early = await client.get(SANDBOXES)
        ready = await client.get("/readyz")
        alive = await client.get("/livez")

    assert status_of(early) == (503, "ServiceUnavailable", "the controller is starting")
    assert early.headers["retry-after"] == "1"
    assert early.json()["details"] == {"retryAfterSeconds": 1}
    assert (ready.status_code, alive.status_code) == (503, 200)


async def test_kubectl_apply_outlives_a_restart(starting: Lab) -> None:
    """An apply that meets a starting controller waits for it and is done afterwards."""
    applying = await starting.start_kubectl("apply", "-v=6", "-f", "-")
    assert applying.stdin is not None
    applying.stdin.write(MANIFEST.encode())
    applying.stdin.close()
    assert applying.stderr is not None
    turned_away = 0
    async with asyncio.timeout(30):
        while turned_away < 2:
            turned_away += b"503 Service Unavailable" in await applying.stderr.readline()

    starting.server.open()

    async with asyncio.timeout(60):
        stdout, stderr = await applying.communicate()
    assert (applying.returncode, stdout) == (0, b"sandbox.sandboxer.dev/a created\n"), stderr
    assert starting.store.get(Sandbox, "a", "default") is not None


@pytest.mark.parametrize("query", ["watch=true", "watch", "watch=0&watch=yes"])
async def test_a_watch_ends_properly_when_the_controller_stops(lab: Lab, query: str) -> None:
    """The stream has its last chunk, so a client resumes instead of reporting a broken one."""
    await lab.store.create(Sandbox(metadata=ObjectMeta(name="a", namespace="default")))

    async with (
        lab.client(lab.admin.token) as client,
        client.stream("GET", f"{SANDBOXES}?{query}") as stream,
    ):
        lines = stream.aiter_lines()
        first = json.loads(await anext(lines))
        lab.server.close()
        async with asyncio.timeout(10):
            rest = [line async for line in lines]
        late = await client.get(SANDBOXES)

    assert first["object"]["metadata"]["name"] == "a"
    assert rest == []
    assert status_of(late) == (503, "ServiceUnavailable", "the controller is stopping")


async def test_kubectl_watching_ends_without_an_error(lab: Lab) -> None:
    """`get -w` prints what it saw and ends with 0, as with a Kubernetes server that restarts."""
    await lab.store.create(Sandbox(metadata=ObjectMeta(name="a", namespace="default")))
    watching = await lab.start_kubectl("get", "sandboxes", "-w", "-o", "name")
    assert watching.stdout is not None
    async with asyncio.timeout(30):
        listed = await watching.stdout.readline()
        # What is made after the list comes by the watch, so the stream is open then.
        await lab.store.create(Sandbox(metadata=ObjectMeta(name="b", namespace="default")))
        watched = await watching.stdout.readline()

        lab.server.close()

        stdout, stderr = await watching.communicate()
    assert (listed, watched) == (b"sandbox.sandboxer.dev/a\n", b"sandbox.sandboxer.dev/b\n")
    assert (watching.returncode, stdout, stderr) == (0, b"", b"")


async def test_a_request_that_was_let_in_is_answered(lab: Lab) -> None:
    """A body that still comes in while the controller stops is read, and gets its answer."""
    address = lab.endpoint.address
    reader, writer = await asyncio.open_connection(
        address.host, address.port, ssl=lab.context(), server_hostname="localhost"
    )
    writer.write(
        b"POST /apis/authentication.k8s.io/v1/selfsubjectreviews HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: 2\r\nExpect: 100-continue\r\n"
        b"Authorization: Bearer " + lab.admin.token.encode() + b"\r\n\r\n"
    )
    async with asyncio.timeout(10):
        # The server says so when the handler has begun to read.
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        lab.server.close()
        writer.write(b"{}")

        await reader.readline()
        assert await reader.readline() == b"HTTP/1.1 201 Created\r\n"
    writer.close()


async def test_nothing_is_left_after_it(tmp_path: Path, clock: ManualClock) -> None:
    """The Unix socket is gone and the port is free for the next one, at once."""
    async with served(tmp_path / "data", clock) as lab:
        address = lab.endpoint.address
        async with lab.client(lab.admin.token) as client:
            await client.get(SANDBOXES)

    assert not lab.settings.socket_path.exists()
    again = open_endpoint(lab.settings, Exposure(address), lab.tokens, clock=clock)
    again.listening.close()
    assert again.address == address


async def test_a_second_server_cannot_have_the_port(lab: Lab, clock: ManualClock) -> None:
    """The port of a running one is refused, and the files of the other installation stay unmade."""
    other = lab.settings.data_dir / "other"
    settings = lab.settings.__class__(data_dir=other, database_url=f"sqlite:///{other / 'x.db'}")

    with pytest.raises(ConflictError, match="the port is taken"):
        open_endpoint(settings, Exposure(lab.endpoint.address), lab.tokens, clock=clock)

    assert not other.exists()


async def test_a_head_that_does_not_end_is_cut_off(lab: Lab) -> None:
    """Before a token was shown nobody may fill our memory; what is long and ends is answered."""
    address = lab.endpoint.address
    fits = "x" * (MAX_HEAD_BYTES // 2)
    async with lab.client() as client:
        assert (await client.get("/version", headers={"X-Long": fits})).status_code == 200

    reader, writer = await asyncio.open_connection(
        address.host, address.port, ssl=lab.context(), server_hostname="localhost"
    )
    writer.write(b"GET /version HTTP/1.1\r\nX-Endless: " + b"x" * MAX_HEAD_BYTES)
    async with asyncio.timeout(10):
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
    writer.close()


@pytest.mark.parametrize("said", [b"", b"GET /version HTTP/1.1\r\nHost:"])
async def test_who_does_not_say_what_it_wants_is_cut_off(
    lab: Lab, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that waits, before or within its first head, is not kept for ever."""
    monkeypatch.setattr(server, "HEAD_S", 0.1)
    address = lab.endpoint.address

    reader, writer = await asyncio.open_connection(
        address.host, address.port, ssl=lab.context(), server_hostname="localhost"
    )
    writer.write(said)
    async with asyncio.timeout(10):
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
    writer.close()


@pytest.mark.parametrize(
    "said", [b"GET /version HTTP/1.1\r\n\r\n", b"PUT /x HTTP/1.1\r\nContent-Length: 9999\r\n\r\n"]
)
async def test_who_goes_on_without_a_request_is_cut_off(
    lab: Lab, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an answer, empty lines and the rest of a refused body keep no connection open."""
    address = lab.endpoint.address
    reader, writer = await asyncio.open_connection(
        address.host, address.port, ssl=lab.context(), server_hostname="localhost"
    )
    writer.write(said)
    async with asyncio.timeout(10):
        await reader.readuntil(b"}")
        monkeypatch.setattr(server, "HEAD_S", 0.1)
        writer.write(b"\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
    writer.close()


async def test_all_addresses_are_served_on_request(tmp_path: Path, clock: ManualClock) -> None:
    """`:PORT` listens everywhere; the kubeconfig leads there from this machine."""
    async with served(tmp_path / "data", clock, host="") as lab:
        assert lab.admin.server == f"https://127.0.0.1:{lab.endpoint.address.port}"
        async with lab.client(lab.admin.token) as client:
            assert (await client.get(SANDBOXES)).status_code == 200
