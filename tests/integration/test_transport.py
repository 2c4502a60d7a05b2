"""The transport against a real OpenSSH server, and the same promises on the local machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from sandboxer.errors import TerminalError, TransientError, UnreachableError
from sandboxer.kinds.host import Host, HostFacts
from sandboxer.session import Streams, TerminalSize
from sandboxer.transport import Connections, HostSession
from sandboxer.transport.link import Link
from sandboxer.transport.login import open_ssh
from tests.integration.loopback_sshd import LoopbackSSHD, until


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[LoopbackSSHD]:
    directory = tmp_path / "sshd"
    directory.mkdir()
    server = LoopbackSSHD(directory)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    made = Connections()
    yield made
    await made.close()


def local_host() -> Host:
    return Host.parse(
        {
            "apiVersion": "sandboxer.dev/v1alpha1",
            "kind": "Host",
            "metadata": {"name": "local"},
            "spec": {"transport": "local"},
        }
    )


@pytest.fixture(params=["ssh", "local"])
def session(
    request: pytest.FixtureRequest, connections: Connections, sshd: LoopbackSSHD
) -> HostSession:
    """Both transports, for promises that do not depend on which."""
    host = sshd.host() if request.param == "ssh" else local_host()
    return HostSession(connections, host=host, facts=HostFacts(), engine=None)


class Sink:
    """Collects a stream."""

    def __init__(self) -> None:
        self.data = b""
        self.grew = asyncio.Event()

    async def __call__(self, data: bytes) -> None:
        self.data += data
        self.grew.set()

    async def until(self, wanted: bytes) -> None:
        async with asyncio.timeout(60):
            while wanted not in self.data:
                self.grew.clear()
                await self.grew.wait()


async def test_arguments_arrive_as_they_are(session: HostSession) -> None:
    """Whatever an argument holds, the program gets exactly that."""
    hostile = ["", "a b", "$(id)", "`id`", "'", '"', "\\", "x\ny", ";rm", "*", "ü", "\udcff", "-n"]

    done = await session.run(["printf", "%s\\0", *hostile])

    assert done.stdout.split(b"\0")[:-1] == [os.fsencode(text) for text in hostile]


async def test_input_output_and_status(session: HostSession) -> None:
    """Input goes in, both outputs come out apart, and the exit status is the command's."""
    done = await session.script('cat; echo "$1" >&2; exit 7', "why", stdin=b"in\0put")

    assert (done.exit_status, done.stdout, done.stderr) == (7, b"in\0put", b"why\n")


async def test_death_by_signal_is_told(session: HostSession) -> None:
    """A command that is killed has minus the signal as its status."""
    done = await session.script("kill -9 $$")

    assert done.exit_status in (-9, 128 + 9)


async def test_missing_program_is_a_status(session: HostSession) -> None:
    """A program that is not there ends with 127, as a shell says it."""
    done = await session.run(["no-such-program-here"])

    assert done.exit_status == 127


async def test_timeout_leaves_the_outcome_unknown(session: HostSession) -> None:
    """A command over its time is unreachable, not failed."""
    with pytest.raises(UnreachableError) as caught:
        await session.run(["sleep", "30"], timeout_s=0.3)

    assert caught.value.reason == "CommandTimeout"


async def test_output_is_bounded(session: HostSession) -> None:
    """A command that never stops printing costs at most its limit."""
    with pytest.raises(TransientError) as caught:
        await session.run(["sh", "-c", "yes; true"], max_output_bytes=100_000)

    assert caught.value.reason == "OutputTooLarge"


async def test_big_output_within_the_bound_is_whole(session: HostSession) -> None:
    """Eight megabytes arrive complete."""
    done = await session.run(["head", "-c", str(8 * 2**20), "/dev/zero"])

    assert len(done.stdout) == 8 * 2**20


async def test_fifty_commands_at_once(session: HostSession) -> None:
    """More commands than a server allows at once queue, and each gets its own answer."""
    done = await asyncio.gather(*(session.run(["echo", str(n)]) for n in range(50)))

    assert [int(one.stdout) for one in done] == list(range(50))


async def test_stream_on_a_terminal(session: HostSession) -> None:
    """A terminal has the size that was asked for, takes input and follows a resize."""
    out, resizes = Sink(), asyncio.Queue[TerminalSize]()

    async def follow() -> AsyncIterator[TerminalSize]:
        while True:
            yield await resizes.get()

    async def typed() -> AsyncIterator[bytes]:
        await out.until(b"24 80")
        await resizes.put(TerminalSize(columns=132, rows=50))
        yield b"go\n"

    script = 'stty size; read word; while [ "$(stty size)" != "50 132" ]; do sleep 0.05; done; echo got $word; tty -s && exit 3'
    streams = Streams(
        stdout=out,
        stderr=out,
        stdin=typed(),
        terminal=TerminalSize(columns=80, rows=24),
        resizes=follow(),
    )
    async with asyncio.timeout(60):
        status = await session.stream(["sh", "-c", script], streams)

    assert status == 3
    assert b"got go" in out.data


async def test_stream_without_a_terminal(session: HostSession) -> None:
    """Input is passed on piece by piece, and the outputs stay apart."""
    out, err = Sink(), Sink()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one\n"
        await out.until(b"one")
        yield b"two\n"

    script = "while read line; do echo $line; done; echo end >&2; exit 4"
    streams = Streams(stdout=out, stderr=err, stdin=pieces())
    status = await session.stream(["sh", "-c", script], streams)

    assert (status, out.data, err.data) == (4, b"one\ntwo\n", b"end\n")


async def test_cancelled_stream_ends(session: HostSession) -> None:
    """Whoever follows a log can go away, and the place is free again."""
    out = Sink()
    following = asyncio.create_task(
        session.stream(["sh", "-c", "echo here; exec sleep 5"], Streams(stdout=out, stderr=out))
    )
    await out.until(b"here")

    following.cancel()

    with pytest.raises(asyncio.CancelledError):
        await following
    assert (await session.run(["true"])).exit_status == 0


async def test_lost_link_is_not_success(sshd: LoopbackSSHD, connections: Connections) -> None:
    """When the server's process dies under a command, its outcome is unknown."""
    host = sshd.host()
    link = await connections.link(host)
    session = HostSession(connections, host=host, facts=HostFacts(), engine=None)
    running = asyncio.create_task(session.run(["sleep", "20"]))
    await session.run(["true"])

    assert sshd.kill_sessions() == 1

    with pytest.raises(UnreachableError):
        await running
    assert not link.alive


async def test_lost_stream_is_not_success(sshd: LoopbackSSHD, connections: Connections) -> None:
    """A followed command whose link dies is unreachable too."""
    session = HostSession(connections, host=sshd.host(), facts=HostFacts(), engine=None)
    out = Sink()
    running = asyncio.create_task(
        session.stream(["sh", "-c", "echo up; sleep 20"], Streams(stdout=out, stderr=out))
    )
    await out.until(b"up")

    sshd.kill_sessions()

    with pytest.raises(UnreachableError):
        await running


async def test_link_is_opened_again(sshd: LoopbackSSHD, connections: Connections) -> None:
    """After a loss the next command opens a new connection by itself."""
    session = HostSession(connections, host=sshd.host(), facts=HostFacts(), engine=None)
    await session.run(["true"])
    sshd.kill_sessions()
    await until(lambda: connections.open_link("h1") is None)

    done = await session.run(["echo", "again"])

    assert done.stdout == b"again\n"


async def test_one_connection_for_everybody(sshd: LoopbackSSHD, connections: Connections) -> None:
    """Callers that come together share the one connection that is opened."""
    links = await asyncio.gather(*(connections.link(sshd.host()) for _ in range(10)))

    assert len(set(map(id, links))) == 1


async def test_changed_address_means_a_new_connection(
    sshd: LoopbackSSHD, connections: Connections
) -> None:
    """A Host that leads elsewhere does not go on with the old connection."""
    before = await connections.link(sshd.host())

    after = await connections.link(sshd.host(address="localhost"))

    assert after is not before
    assert not before.alive


async def test_connection_nobody_waits_for_any_more_is_closed(
    sshd: LoopbackSSHD, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that opens after its Host was forgotten is closed, not left open for ever."""
    opened: list[Link] = []

    async def opening(*arguments: Any, **options: Any) -> Link:
        opened.append(await open_ssh(*arguments, **options))
        await connections.forget("h1")
        return opened[0]

    monkeypatch.setattr("sandboxer.transport.connections.open_ssh", opening)

    with pytest.raises(UnreachableError):
        await connections.link(sshd.host())

    assert not opened[0].alive


async def test_unknown_host_key_is_refused(sshd: LoopbackSSHD, connections: Connections) -> None:
    """Without a pinned key nothing is sent, and the message holds the key that was shown."""
    with pytest.raises(TerminalError) as caught:
        await connections.link(sshd.host(hostKey=None))

    assert caught.value.reason == "HostKeyUnknown"
    assert sshd.host_key in caught.value.message
    assert "SHA256:" in caught.value.message
    assert "spec.hostKey" in caught.value.remedy


async def test_wrong_host_key_is_refused(
    sshd: LoopbackSSHD, connections: Connections, tmp_path: Path
) -> None:
    """A key other than the pinned one is refused, trust on first use or not."""
    (tmp_path / "other").mkdir()
    other = LoopbackSSHD(tmp_path / "other").host_key

    with pytest.raises(TerminalError) as caught:
        await connections.link(sshd.host(hostKey=other, trustOnFirstUse=True))

    assert caught.value.reason == "HostKeyMismatch"


async def test_trust_on_first_use_shows_the_key(
    sshd: LoopbackSSHD, connections: Connections
) -> None:
    """With trustOnFirstUse the key is accepted once and told, so that it can be recorded."""
    link = await connections.link(sshd.host(hostKey=None, trustOnFirstUse=True))

    assert link.host_key == sshd.host_key


async def test_second_key_is_not_trusted(
    sshd: LoopbackSSHD, connections: Connections, tmp_path: Path
) -> None:
    """After the first use another key at the same address is refused, recorded or not."""
    host = sshd.host(hostKey=None, trustOnFirstUse=True)
    link = await connections.link(host)
    sshd.stop()
    await until(lambda: not link.alive)
    (tmp_path / "second").mkdir()
    second = LoopbackSSHD(tmp_path / "second", more=f"Port {sshd.port}")
    (tmp_path / "second" / "authorized_keys").write_bytes(
        (sshd.directory / "authorized_keys").read_bytes()
    )
    second.start()

    try:
        with pytest.raises((TerminalError, UnreachableError)) as caught:
            await connections.link(host)
    finally:
        second.stop()

    assert caught.value.reason == "HostKeyMismatch"


async def test_refused_login_is_terminal(
    sshd: LoopbackSSHD, connections: Connections, tmp_path: Path
) -> None:
    """A key the account does not know needs a person."""
    (tmp_path / "other").mkdir()
    stranger = LoopbackSSHD(tmp_path / "other").identity

    with pytest.raises(TerminalError) as caught:
        await connections.link(sshd.host(identityFile=str(stranger)))

    assert caught.value.reason == "LoginRefused"


async def test_readable_private_key_is_refused(
    sshd: LoopbackSSHD, connections: Connections
) -> None:
    """A private key other accounts can read is not used, as with ssh."""
    sshd.identity.chmod(0o644)

    with pytest.raises(TerminalError) as caught:
        await connections.link(sshd.host())

    assert caught.value.reason == "IdentityUnusable"


async def test_dead_host_is_told_at_once(sshd: LoopbackSSHD) -> None:
    """After a failure the next caller is told without a new attempt, until the pause is over."""
    clock = StillClock()
    connections = Connections(clock)
    sshd.stop()
    with pytest.raises(UnreachableError) as first:
        await connections.link(sshd.host())
    sshd.start()

    with pytest.raises(UnreachableError) as second:
        await connections.link(sshd.host())
    assert second.value.message == first.value.message

    clock.now_s += 60
    assert (await connections.link(sshd.host())).alive
    await connections.close()


class StillClock:
    """Time that stands still until the test moves it."""

    now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    def now(self) -> datetime:
        raise AssertionError


@pytest.mark.parametrize("sessions", [2, 5])
async def test_fewer_sessions_than_usual(
    tmp_path: Path, connections: Connections, sessions: int
) -> None:
    """A server that allows fewer sessions is busy, never unreachable."""
    server = LoopbackSSHD(tmp_path, more=f"MaxSessions {sessions}")
    server.start()
    session = HostSession(connections, host=server.host(), facts=HostFacts(), engine=None)

    try:
        done = await asyncio.gather(*(session.run(["echo", str(n)]) for n in range(20)))
    finally:
        server.stop()

    assert [int(one.stdout) for one in done] == list(range(20))
