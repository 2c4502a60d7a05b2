"""Connections to ports of a machine, over SSH and here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sandboxer.errors import TerminalError, TransientError, UnreachableError
from sandboxer.kinds.host import Host, HostFacts
from sandboxer.session import Streams
from sandboxer.transport import Connections, HostSession
from sandboxer.transport import link as link_module
from sandboxer.transport.channels import MAX_STREAMS
from tests.integration.loopback_sshd import LoopbackSSHD

LOCAL = {
    "apiVersion": "sandboxer.dev/v1alpha1",
    "kind": "Host",
    "metadata": {"name": "local"},
    "spec": {"transport": "local"},
}


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[LoopbackSSHD]:
    """A real OpenSSH server."""
    yield from started(tmp_path / "sshd")


def started(directory: Path, *, more: str = "") -> Iterator[LoopbackSSHD]:
    """Run a server with *more* in its configuration."""
    directory.mkdir()
    server = LoopbackSSHD(directory, more=more)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    """The links of one process."""
    made = Connections()
    yield made
    await made.close()


def session_to(host: Host, connections: Connections) -> HostSession:
    """Return a session without an engine."""
    return HostSession(connections, host=host, facts=HostFacts(), engine=None)


@pytest.fixture(params=["ssh", "local"])
def session(
    request: pytest.FixtureRequest, connections: Connections, sshd: LoopbackSSHD
) -> HostSession:
    """Both transports, for promises that do not depend on which."""
    host = sshd.host() if request.param == "ssh" else Host.parse(LOCAL)
    return session_to(host, connections)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A port whose program answers once its input has ended: how many bytes, and all of them."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            data = await reader.read()
            writer.write(f"{len(data)} ".encode() + data)
            await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_each_direction_ends_on_its_own(session: HostSession, port: int) -> None:
    """What is sent arrives whole, and the answer comes after our end."""
    data = bytes(range(256)) * 10_000
    connection = await session.connect("127.0.0.1", port)

    await connection.write(data)
    connection.write_eof()
    answer = b""
    while chunk := await connection.read():
        answer += chunk
    connection.close()
    connection.close()

    assert answer == f"{len(data)} ".encode() + data


async def test_nobody_listens(session: HostSession, port: int) -> None:
    """A closed port is said to be closed, with its number, and may be open later."""
    with pytest.raises(TransientError, match=r"port 1 of 127\.0\.0\.1") as caught:
        await session.connect("127.0.0.1", 1)

    assert caught.value.reason == "ConnectionRefused"
    assert not isinstance(caught.value, UnreachableError)


async def test_lost_link_is_no_end(sshd: LoopbackSSHD, connections: Connections, port: int) -> None:
    """A connection whose link broke does not look like one that its program has ended."""
    connection = await session_to(sshd.host(), connections).connect("127.0.0.1", port)
    reading = asyncio.create_task(connection.read())
    await asyncio.sleep(0)

    sshd.kill_sessions()

    with pytest.raises(UnreachableError, match="the connection was lost"):
        await reading
    with pytest.raises(UnreachableError):
        await connection.write(b"x")


async def test_forbidden_by_the_server(tmp_path: Path, connections: Connections, port: int) -> None:
    """An SSH server that forbids it is named, with what to change."""
    for server in started(tmp_path / "strict", more="AllowTcpForwarding no"):
        with pytest.raises(TerminalError) as caught:
            await session_to(server.host(), connections).connect("127.0.0.1", port)

        assert "AllowTcpForwarding" in caught.value.remedy


async def test_more_streams_than_a_host_takes(
    sshd: LoopbackSSHD, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one too many is refused in words instead of waiting for ever."""
    monkeypatch.setattr(link_module, "STREAM_PATIENCE_S", 0.05)
    session = session_to(sshd.host(), connections)
    began: asyncio.Queue[bytes] = asyncio.Queue()
    streams = Streams(stdout=began.put, stderr=began.put)
    running = [
        asyncio.create_task(session.stream(["sh", "-c", "echo on; sleep 1000"], streams))
        for _ in range(MAX_STREAMS)
    ]
    for _ in running:
        await began.get()

    with pytest.raises(TransientError, match=f"already serves {MAX_STREAMS} streams"):
        await session.stream(["true"], streams)

    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
