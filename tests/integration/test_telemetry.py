"""Telemetry against a real sshd: probing, views, refresh, hints, loss."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from pathlib import Path

import pytest

from sandboxer.clock import SystemClock
from sandboxer.errors import TerminalError, TransientError, UnreachableError
from sandboxer.extension import Extension, Inputs, Instance, Observation, Offer, Provisioned
from sandboxer.kinds.host import Host
from sandboxer.session import Session
from sandboxer.telemetry import Telemetry
from sandboxer.transport import Connections
from sandboxer.transport.engine_socket import OWN_SOCKET_NAME
from tests.integration.loopback_sshd import LoopbackSSHD, until
from tests.integration.podman_service import kill_service

PROGRAMS = [
    "sh",
    "ls",
    "cat",
    "id",
    "uname",
    "nproc",
    "tr",
    "cut",
    "df",
    "mkdir",
    "chmod",
    "timeout",
    "true",
    "false",
]
BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class FileExtension(Extension):
    """A backend whose sandboxes are files in the work root: the name is the uid."""

    name = "ext.file"
    capabilities = frozenset({"watch"})

    def __init__(self) -> None:
        self.hints: asyncio.Queue[str | Exception] = asyncio.Queue()
        self.observed: list[str] = []
        self.broken = ""
        self.bug = False

    def offer(self, host: Host, inputs: Inputs) -> Offer:
        return Offer(fits=True, reason="always")

    async def provision(self, session: Session, instance: Instance) -> Provisioned:
        raise NotImplementedError

    async def wait_ready(self, session: Session, instance: Instance) -> None:
        raise NotImplementedError

    async def observe(
        self, session: Session, environment: str, uid: str = ""
    ) -> Sequence[Observation]:
        self.observed.append(uid)
        if self.bug:
            raise KeyError("State")
        if self.broken:
            raise TransientError(self.broken)
        done = await session.run(["ls", session.facts.work_root])
        names = done.stdout.decode().split()
        return [Observation(uid=n, state="Running") for n in names if uid in ("", n)]

    async def teardown(self, session: Session, instance: Instance) -> None:
        raise NotImplementedError

    async def reap(self, session: Session, environment: str, uid: str) -> None:
        raise NotImplementedError

    async def watch(self, session: Session, environment: str) -> AsyncIterator[str]:
        while True:
            hint = await self.hints.get()
            if isinstance(hint, Exception):
                raise hint
            yield hint


class World:
    """One host, its telemetry, and what was told."""

    def __init__(self, sshd: LoopbackSSHD, host: Host) -> None:
        self.sshd = sshd
        self.host = host
        self.work = sshd.directory / "work"
        self.extension = FileExtension()
        self.connections = Connections()
        self.told: list[set[str]] = []
        self.telemetry = Telemetry(
            connections=self.connections,
            extensions={"ext.file": self.extension},
            environment="env",
            clock=SystemClock(),
        )
        self.telemetry.on_change = self._tell

    async def probe(self) -> None:
        await self.telemetry.probe(self.host, extensions={"ext.file"})

    def state(self, uid: str) -> str:
        observation = self.telemetry.view("ext.file", "h1", uid).observation
        return "unknown" if observation is None else observation.state

    def _tell(self, host: str, uids: Collection[str], _by: str) -> None:
        assert host == "h1"
        self.told.append(set(uids))


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[LoopbackSSHD]:
    # No engine there: these tests are not about it, and asking it takes seconds.
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in PROGRAMS:
        (programs / name).symlink_to(f"/bin/{name}")
    server = LoopbackSSHD(tmp_path, more=f"SetEnv SHLVL=2 PATH={programs}")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def world(sshd: LoopbackSSHD) -> AsyncIterator[World]:
    made = World(sshd, sshd.host(composeCommand=["false"]))
    yield made
    await made.telemetry.close()
    await made.connections.close()


async def test_facts_and_load_of_a_real_machine(world: World) -> None:
    """A probe over SSH finds this machine: its kernel, memory, disk and a private work root."""
    report = await world.telemetry.probe(world.host)

    assert report.facts.boot_id == BOOT_ID
    assert report.facts.work_root == str(world.work)
    assert world.work.stat().st_mode & 0o777 == 0o700
    assert report.facts.cpus >= 1
    assert report.load.disk_total_bytes > report.load.disk_free_bytes > 0
    assert report.load.memory_available_bytes > 0
    assert report.host_key == world.sshd.host_key
    assert report.round_trip_ms > 0
    assert "composeCommand" not in report.facts.compose_refused
    assert "cannot be run" in report.facts.compose_refused
    assert report.facts.engine_socket == ""


async def test_local_machine_is_probed_without_ssh(world: World, tmp_path: Path) -> None:
    """The local host gives the same facts, and no host key."""
    document = {
        "apiVersion": "sandboxer.dev/v1alpha1",
        "kind": "Host",
        "metadata": {"name": "local"},
        "spec": {"transport": "local", "workRoot": str(tmp_path / "local")},
    }

    try:
        report = await world.telemetry.probe(Host.parse(document))
    finally:
        kill_service(str(tmp_path / "local" / OWN_SOCKET_NAME))

    assert report.facts.work_root == str(tmp_path / "local")
    assert report.host_key == ""


async def test_work_root_that_is_a_link_is_refused(world: World, tmp_path: Path) -> None:
    """A work root somebody replaced by a link is not used."""
    (tmp_path / "elsewhere").mkdir()
    world.work.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(TerminalError) as caught:
        await world.probe()

    assert caught.value.reason == "WorkRootUnusable"


async def test_views_follow_the_probes(world: World) -> None:
    """Unknown before the first probe, then what the extension saw, then what changed."""
    world.work.mkdir(mode=0o700)
    (world.work / "a").touch()
    assert world.state("a") == "unknown"
    await world.probe()
    assert (world.state("a"), world.state("b")) == ("Running", "Absent")
    assert [o.uid for o in world.telemetry.inventory("h1")] == ["a"]

    (world.work / "a").unlink()
    (world.work / "b").touch()
    world.told.clear()
    await world.probe()

    assert (world.state("a"), world.state("b")) == ("Absent", "Running")
    assert world.told == [{"a", "b"}]


async def test_nothing_changed_nobody_is_told(world: World) -> None:
    """A probe that finds the same wakes nobody."""
    await world.probe()
    world.told.clear()

    await world.probe()

    assert world.told == []


async def test_probes_at_the_same_time_are_one(world: World) -> None:
    """Ten callers cost one look at the host."""
    await world.probe()
    world.extension.observed.clear()

    await asyncio.gather(*(world.probe() for _ in range(10)))

    assert world.extension.observed == [""]


async def test_probe_for_more_extensions_waits_its_turn(world: World) -> None:
    """A probe that asks for more than the running one is made after it."""
    await asyncio.gather(world.telemetry.probe(world.host), world.probe())

    assert world.state("a") == "Absent"


async def test_refresh_looks_at_one(world: World) -> None:
    """A refresh asks for one sandbox and its view is new at once."""
    await world.probe()
    (world.work / "a").touch()

    observation = await world.telemetry.refresh("ext.file", world.host, "a")

    assert observation.state == "Running"
    assert world.state("a") == "Running"
    assert world.extension.observed[-1] == "a"


async def test_lost_host_makes_everything_unknown(world: World) -> None:
    """While the host does not answer nothing is known of it, and those it carries are told."""
    world.work.mkdir(mode=0o700)
    (world.work / "a").touch()
    await world.probe()
    world.told.clear()
    world.sshd.stop()

    with pytest.raises(UnreachableError):
        await world.probe()

    assert world.state("a") == "unknown"
    assert world.told == [{"a"}]


async def test_extension_that_fails_is_unknown_alone(world: World) -> None:
    """An extension that cannot observe does not make the host unreachable, and recovers."""
    await world.probe()
    world.extension.broken = "the engine is ill"

    report = await world.telemetry.probe(world.host, extensions={"ext.file"})
    assert report.problems == {"ext.file": "the engine is ill"}
    assert world.state("a") == "unknown"

    world.extension.broken = ""
    world.told.clear()
    await world.probe()
    assert world.state("a") == "Absent"
    assert world.told == [{"a"}]


async def test_bug_of_an_extension_is_its_own(world: World) -> None:
    """An extension that fails in a way it should not is named, and the host stays reachable."""
    await world.probe()
    world.extension.bug = True

    report = await world.telemetry.probe(world.host, extensions={"ext.file"})

    assert "KeyError" in report.problems["ext.file"]
    assert world.state("a") == "unknown"


async def test_bug_in_a_look_does_not_blind_the_follower(world: World) -> None:
    """After a look at everything that failed by a bug, the next hint is looked at again."""
    await world.probe()
    (world.work / "a").touch()
    world.extension.bug = True
    world.extension.observed.clear()
    for number in range(20):
        world.extension.hints.put_nowait(f"b{number}")
    await until(lambda: "" in world.extension.observed)
    world.extension.bug = False

    world.extension.hints.put_nowait("a")

    await until(lambda: world.state("a") == "Running")


async def test_bug_of_an_event_stream_is_its_own(world: World) -> None:
    """A stream that ends by a bug is followed anew, and the probe that does so succeeds."""
    await world.probe()
    world.extension.hints.put_nowait(ValueError("not JSON"))
    await until(world.extension.hints.empty)
    await world.probe()
    (world.work / "a").touch()

    world.extension.hints.put_nowait("a")

    await until(lambda: world.state("a") == "Running")


async def test_hints_become_looks(world: World) -> None:
    """A hint of the event stream changes the view without a probe, and those concerned are told."""
    await world.probe()
    world.told.clear()
    (world.work / "a").touch()

    world.extension.hints.put_nowait("a")
    world.extension.hints.put_nowait("a")

    await until(lambda: bool(world.told))
    assert world.told == [{"a"}]
    assert world.state("a") == "Running"
    assert world.extension.observed.count("a") == 1


async def test_broken_stream_is_followed_again(world: World) -> None:
    """After the stream broke the next probe follows it anew; nothing becomes unknown."""
    await world.probe()
    world.extension.hints.put_nowait(UnreachableError("the stream broke"))
    await until(world.extension.hints.empty)
    assert world.state("a") == "Absent"
    await world.probe()
    (world.work / "a").touch()

    world.extension.hints.put_nowait("a")

    await until(lambda: world.state("a") == "Running")


async def test_session_carries_the_facts(world: World) -> None:
    """A session is ready to use without a probe before it."""
    session = await world.telemetry.session(world.host)

    assert session.facts.work_root == str(world.work)
    assert session.target == f"{world.host.spec.user}@127.0.0.1:{world.sshd.port}"
    assert (await session.run(["true"])).exit_status == 0


async def test_forgotten_host_is_unknown(world: World) -> None:
    """A host that is dropped leaves nothing behind, its connection neither."""
    await world.probe()

    await world.telemetry.forget("h1")

    assert world.state("a") == "unknown"
    assert world.connections.open_link("h1") is None


async def test_greeting_of_the_login_shell_is_tolerated(world: World, tmp_path: Path) -> None:
    """A shell that prints before it runs the probe does not spoil it."""
    noisy = tmp_path / "noisy"
    noisy.write_text('#!/bin/sh\nprintf "Welcome to the machine, no newline"\nexec /bin/sh "$@"\n')
    noisy.chmod(0o755)
    world.sshd.stop()
    config = tmp_path / "sshd_config"
    config.write_text(f'ForceCommand {noisy} -c "$SSH_ORIGINAL_COMMAND"\n' + config.read_text())
    world.sshd.start()

    report = await world.telemetry.probe(world.host)

    assert report.facts.work_root == str(world.work)
