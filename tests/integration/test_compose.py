"""`ext.compose-ssh` on real hosts: up, ready, exec, drift, ghosts, teardown."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from sandboxer.errors import (
    InvalidSpecError,
    NotFoundError,
    SandboxerError,
    TerminalError,
    TransientError,
    Waiting,
)
from sandboxer.extension import Instance, Observation, PortLease
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import Resources
from sandboxer.session import Session, Streams
from sandboxer.telemetry.probe import read_facts
from sandboxer.transport.connections import Connections
from sandboxer.transport.rest import RestEngine
from sandboxer.transport.session import HostSession
from sandboxer.units import Quantity
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


async def test_a_canary_lives_and_leaves_nothing(rig: Rig, place: tuple[str, Session]) -> None:
    """One image comes up, is ready, runs a command, and is gone after teardown."""
    name, session = place
    wanted = instance(rig)

    provisioned = await EXTENSION.provision(session, wanted)
    await EXTENSION.wait_ready(session, wanted)
    seen = await observed(session, wanted)
    ran = await run_inside(session, wanted, "sh", "-c", "echo hi; exit 7")
    started = time.monotonic()
    await EXTENSION.teardown(session, wanted)
    took_s = time.monotonic() - started

    assert seen is not None
    assert (seen.state, seen.spec_hash) == ("Running", wanted.spec_hash)
    assert wanted.labels().items() <= dict(seen.labels).items()
    assert {r.kind for r in seen.resources} == {"container", "network", "workspace"}
    assert provisioned.isolation.level == "container"
    assert provisioned.reachability.remote_dir == f"/build/{wanted.short_id}/repo"
    assert ran == (7, "hi\n")
    assert await observed(session, wanted) is None
    assert rig.ssh(name, LISTING).stdout == ""
    assert took_s < 8


async def test_drift_is_seen_and_healed(rig: Rig, place: tuple[str, Session]) -> None:
    """Killed, paused and removed containers are told apart, and provision heals each."""
    name, session = place
    wanted = instance(rig, inputs={"compose": TWO_SERVICES})
    await EXTENSION.provision(session, wanted)
    of_it = f"podman ps -aq --filter label=sandboxer.dev/uid={wanted.uid}"
    app = f"$({of_it} --filter label=sandboxer.dev/service=app)"

    for harm, expected in (
        (f"podman kill {app}", "Stopped"),
        (f"podman pause {app}", "Stopped"),
        (f"podman rm -f -t 0 --depend {app}", "Incomplete"),
        (f"podman rm -f -t 0 --depend $({of_it})", "Incomplete"),
    ):  # fmt: skip
        rig.ssh(name, harm)

        seen = await observed(session, wanted)

        assert seen is not None
        assert seen.state == expected
        assert "app" in seen.message
        await EXTENSION.provision(session, wanted)
        assert await state(session, wanted) == "Running"


async def test_a_lost_workspace_is_seen_and_made_again(
    rig: Rig, place: tuple[str, Session]
) -> None:
    """Containers without their workspace are Incomplete; a workspace without containers too."""
    name, session = place
    wanted = instance(rig)
    await EXTENSION.provision(session, wanted)

    rig.ssh(name, "rm -rf /build/sbx-*")
    without_workspace = await state(session, wanted)
    await EXTENSION.provision(session, wanted)
    rig.ssh(name, "podman rm -fa -t 0; podman network prune -f")
    without_containers = await state(session, wanted)

    assert without_workspace == without_containers == "Incomplete"


async def test_a_new_spec_replaces_containers_and_keeps_volumes(
    rig: Rig, place: tuple[str, Session]
) -> None:
    """Another spec hash gives new containers with the new environment, on the old data."""
    _, session = place
    first = instance(rig, inputs={"compose": TWO_SERVICES})
    second = instance(
        rig, uid=first.uid, inputs={"compose": TWO_SERVICES}, env={"A": "x $y 'z'"},
        spec_hash="fedcba9876543210",
    )  # fmt: skip
    await EXTENSION.provision(session, first)
    await run_inside(session, first, "touch", "/data/kept", container="db")

    await EXTENSION.provision(session, second)

    seen = await observed(session, second)
    assert seen is not None
    assert (seen.state, seen.spec_hash) == ("Running", second.spec_hash)
    assert (await run_inside(session, second, "ls", "/data", container="db")) == (0, "kept\n")
    printed = await run_inside(session, second, "sh", "-c", 'echo "$A"', container="app")
    assert printed == (0, "x $y 'z'\n")


async def test_an_equal_provision_changes_nothing(rig: Rig, h1: Session) -> None:
    """Asked again, the containers are the same ones."""
    wanted = instance(rig)
    await EXTENSION.provision(h1, wanted)
    before = rig.ssh("h1", "podman ps -q --no-trunc").stdout

    await EXTENSION.provision(h1, wanted)

    assert rig.ssh("h1", "podman ps -q --no-trunc").stdout == before


async def test_secrets_reach_the_process_and_no_argument_or_label(rig: Rig, h1: Session) -> None:
    """A secret is in the environment inside, in no label, and in no recorded command line."""
    value = 'hush $HOME "quoted" #not a comment'
    wanted = instance(rig, secrets={"TOKEN": SecretStr(value)})

    await EXTENSION.provision(h1, wanted)

    assert await run_inside(h1, wanted, "sh", "-c", 'echo "$TOKEN"') == (0, f"{value}\n")
    recorded = rig.ssh(
        "h1", "podman inspect -f '{{.Config.CreateCommand}} {{.Config.Labels}}' $(podman ps -q)"
    )
    assert "hush" not in recorded.stdout
    modes = rig.ssh(
        "h1", "stat -c '%a %n' /build/sbx-*/* /build/sbx-* /build/sbx-*/.sandboxer.json"
    )
    assert {line.split()[0] for line in modes.stdout.splitlines()} == {"600", "700"}


async def test_limits_and_ports_hold(rig: Rig, place: tuple[str, Session]) -> None:
    """The memory limit is the engine's, and a leased port answers on loopback only."""
    name, session = place
    lease = PortLease(name="web", container_port=8000, host_port=42001)
    command = "sh -c 'mkdir /w; echo served > /w/index.html; exec httpd -f -p 8000 -h /w'"
    wanted = instance(
        rig, inputs={"image": rig.image, "command": command}, ports=(lease,),
        resources=Resources(memory=Quantity("64Mi"), pids=50),
    )  # fmt: skip

    provisioned = await EXTENSION.provision(session, wanted)

    assert provisioned.reachability.ports == {"web": 42001}
    assert provisioned.message == ""
    limits = rig.ssh(name, "podman inspect -f '{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} "
                           "{{.HostConfig.PortBindings}}' $(podman ps -q)").stdout  # fmt: skip
    assert limits.startswith("67108864 50 ")
    assert "127.0.0.1" in limits


async def test_health_checks_are_driven(rig: Rig, place: tuple[str, Session]) -> None:
    """Without systemd a check never runs by itself: starting until it passes, then ready."""
    _, session = place
    compose = f"""
services:
  main:
    image: {rig.image}
    command: [sleep, "1000"]
    healthcheck: {{test: [CMD, test, -e, /tmp/ready], interval: 1s, timeout: 5s, retries: 3}}
"""
    wanted = instance(rig, inputs={"compose": compose})
    await EXTENSION.provision(session, wanted)

    with pytest.raises(Waiting, match="health check of service main"):
        await EXTENSION.wait_ready(session, wanted)
    await run_inside(session, wanted, "touch", "/tmp/ready")
    await settle(lambda: EXTENSION.wait_ready(session, wanted))

    assert await state(session, wanted) == "Running"


async def test_suspend_keeps_data_and_resume_brings_it_back(
    rig: Rig, place: tuple[str, Session]
) -> None:
    """Suspended is whole and stopped, a second suspend changes nothing, resume runs again."""
    _, session = place
    wanted = instance(rig, inputs={"compose": TWO_SERVICES})
    await EXTENSION.provision(session, wanted)
    await run_inside(session, wanted, "touch", "/data/kept", container="db")

    await EXTENSION.suspend(session, wanted)
    await EXTENSION.suspend(session, wanted)
    suspended = await state(session, wanted)
    await EXTENSION.resume(session, wanted)

    assert suspended == "Suspended"
    assert await state(session, wanted) == "Running"
    assert await run_inside(session, wanted, "ls", "/data", container="db") == (0, "kept\n")


async def test_a_repository_is_copied_once_and_worked_on(
    rig: Rig, h1: Session, tmp_path: Path
) -> None:
    """The file's relative mounts work, and a repair does not undo work in the copy."""
    (tmp_path / "compose.yaml").write_text(
        f"services:\n  web:\n    image: {rig.image}\n    command: [sleep, '1000']\n"
        "    volumes: ['./:/src']\n    ports: ['8080:80']\n"
    )
    (tmp_path / "hello.txt").write_text("from the repository")
    wanted = instance(rig, inputs={"repo": str(tmp_path)})

    provisioned = await EXTENSION.provision(h1, wanted)
    read = await run_inside(h1, wanted, "cat", "/src/hello.txt")
    await run_inside(h1, wanted, "sh", "-c", "echo work > /src/new.txt; kill 1")
    await EXTENSION.provision(h1, wanted)

    assert read == (0, "from the repository")
    assert "spec.ports" in provisioned.message
    assert await run_inside(h1, wanted, "cat", "/src/new.txt") == (0, "work\n")


async def test_a_link_planted_inside_does_not_lead_out(
    rig: Rig, h1: Session, tmp_path: Path
) -> None:
    """A mount source replaced by a link to a host directory is refused before anything starts."""
    (tmp_path / "data").mkdir()
    (tmp_path / "compose.yaml").write_text(
        f"services:\n  web:\n    image: {rig.image}\n    command: [sleep, '1000']\n"
        "    volumes: ['./:/src', './data:/data']\n"
    )
    wanted = instance(rig, inputs={"repo": str(tmp_path)})
    await EXTENSION.provision(h1, wanted)
    await run_inside(h1, wanted, "sh", "-c", "rm -r /src/data; ln -s /root /src/data")
    rig.ssh("h1", "podman rm -fa -t 0")

    with pytest.raises(InvalidSpecError, match="symbolic link"):
        await EXTENSION.provision(h1, wanted)

    assert rig.ssh("h1", "podman ps -aq").stdout == ""
    await EXTENSION.teardown(h1, wanted)
    assert rig.ssh("h1", LISTING).stdout == ""


async def test_a_failed_up_says_what_the_tool_said(rig: Rig, h1: Session) -> None:
    """An image that cannot be had is a failure for now, with the tool's words and no secret."""
    wanted = instance(
        rig, inputs={"image": "localhost/nowhere:1"}, secrets={"T": SecretStr("nowhere")}
    )

    with pytest.raises(TransientError) as caught:
        await EXTENSION.provision(h1, wanted)

    assert "service main has no container" in caught.value.message.lower()
    assert "nowhere" not in caught.value.message
    assert await state(h1, wanted) == "Incomplete"
    await EXTENSION.teardown(h1, wanted)
    assert rig.ssh("h1", LISTING).stdout == ""


async def test_a_ghost_up_is_waited_for_and_leaves_nothing(rig: Rig, h1: Session) -> None:
    """While a command of a dead controller runs, ours waits; after teardown nothing is left."""
    wanted = instance(rig, inputs={"compose": TWO_SERVICES})
    async with open_session(rig, "h1") as dying:
        ghost = asyncio.create_task(EXTENSION.provision(dying, wanted))
        await until(lambda: _locked(rig, wanted))
        ghost.cancel()
        with pytest.raises((asyncio.CancelledError, SandboxerError)):
            await ghost

    with pytest.raises(Waiting, match="earlier command"):
        await EXTENSION.provision(h1, wanted)
    await settle(lambda: EXTENSION.teardown(h1, wanted))

    assert await observed(h1, wanted) is None
    assert rig.ssh("h1", LISTING).stdout == ""


async def _locked(rig: Rig, wanted: Instance) -> bool:
    lock = f"/build/.locks/{wanted.short_id}"
    return rig.ssh("h1", f"test -e {lock} && ! flock -n {lock} true").returncode == 0


async def test_reap_removes_ours_and_refuses_others(rig: Rig, place: tuple[str, Session]) -> None:
    """An orphan goes by its uid alone, unless it is another installation's."""
    name, session = place
    ours, theirs = instance(rig), instance(rig, environment="env-2")
    await EXTENSION.provision(session, ours)
    await EXTENSION.provision(session, theirs)

    await EXTENSION.reap(session, ENVIRONMENT, ours.uid)
    await EXTENSION.reap(session, ENVIRONMENT, ours.uid)
    with pytest.raises(TerminalError, match="env-2"):
        await EXTENSION.reap(session, ENVIRONMENT, theirs.uid)

    assert await EXTENSION.observe(session, ENVIRONMENT) == []
    assert len(await EXTENSION.observe(session, "env-2")) == 1
    assert len(rig.ssh(name, "podman ps -q").stdout.split()) == 1


async def test_one_observation_lists_all_sandboxes(rig: Rig, place: tuple[str, Session]) -> None:
    """Without a uid every sandbox of the environment is listed, and nobody else's container."""
    name, session = place
    first, second = instance(rig), instance(rig)
    rig.ssh(name, f"podman run -d --name stranger {rig.image} sleep 100")
    await EXTENSION.provision(session, first)
    await EXTENSION.provision(session, second)

    seen = await EXTENSION.observe(session, ENVIRONMENT)

    assert {o.uid for o in seen} == {first.uid, second.uid}
    await EXTENSION.teardown(session, first)
    assert [o.uid for o in await EXTENSION.observe(session, ENVIRONMENT)] == [second.uid]
    assert rig.ssh(name, "podman ps -q --filter name=stranger").stdout


async def test_a_workspace_that_is_not_ours_is_left_alone(rig: Rig, h1: Session) -> None:
    """A directory at the workspace's place without our marker stops provision and teardown."""
    wanted = instance(rig)
    rig.ssh("h1", f"mkdir /build/{wanted.short_id} && touch /build/{wanted.short_id}/theirs")

    with pytest.raises(TerminalError, match="not this sandbox's workspace"):
        await EXTENSION.provision(h1, wanted)
    with pytest.raises(TerminalError, match="not this sandbox's workspace"):
        await EXTENSION.teardown(h1, wanted)

    assert rig.ssh("h1", f"ls /build/{wanted.short_id}").stdout == "theirs\n"


async def test_a_killed_container_is_reported_by_the_watch(rig: Rig, h1: Session) -> None:
    """The uid of a sandbox whose container dies comes through the event stream."""
    wanted = instance(rig)
    await EXTENSION.provision(h1, wanted)
    stream = EXTENSION.watch(h1, ENVIRONMENT)
    first = asyncio.ensure_future(anext(stream))

    async def told() -> bool:
        rig.ssh("h1", "podman restart -t 0 $(podman ps -aq)")
        return first.done()

    await until(told)

    assert first.result() == wanted.uid
    await stream.aclose()  # type: ignore[attr-defined]


async def test_logs_name_their_service(rig: Rig, h1: Session) -> None:
    """With several services each line carries its service; with one named it does not."""
    services = "".join(
        f"  {n}:\n    image: {rig.image}\n    command: [sh, -c, 'echo from {n}; exec sleep 1000']\n"
        for n in ("one", "two")
    )
    wanted = instance(rig, inputs={"compose": f"services:\n{services}"})
    await EXTENSION.provision(h1, wanted)
    output = bytearray()

    async def write(chunk: bytes) -> None:
        output.extend(chunk)

    streams = Streams(stdout=write, stderr=write)
    await EXTENSION.logs(h1, wanted, streams)
    both = sorted(output.decode().splitlines())
    output.clear()
    await EXTENSION.logs(h1, wanted, streams, container="two", tail=1)

    assert both == ["one | from one", "two | from two"]
    assert output == b"from two\n"
    with pytest.raises(NotFoundError, match="one, two"):
        await EXTENSION.exec(h1, wanted, ["true"], streams, container="three")


async def test_a_one_shot_service_may_end(rig: Rig, h1: Session) -> None:
    """A service others wait for to complete is Running once it ended with 0, Stopped with 3."""
    compose = (
        "services:\n  prepare:\n    image: {image}\n    command: [sh, -c, 'exit {status}']\n"
        "  app:\n    image: {image}\n    command: [sleep, '1000']\n"
        "    depends_on: {{prepare: {{condition: service_completed_successfully}}}}\n"
    )
    good = instance(rig, inputs={"compose": compose.format(image=rig.image, status=0)})
    bad = instance(rig, inputs={"compose": compose.format(image=rig.image, status=3)})

    await EXTENSION.provision(h1, good)
    await settle(lambda: EXTENSION.wait_ready(h1, good))
    await EXTENSION.provision(h1, bad)

    async def stopped() -> bool:
        return await state(h1, bad) == "Stopped"

    await until(stopped)
    seen = await observed(h1, bad)
    assert seen is not None
    assert "prepare ended with status 3" in seen.message


@pytest.mark.parametrize("delay_s", [0.05, 0.25, 0.5, 0.75, 1.0, 1.4])
async def test_power_loss_during_up_heals(rig: Rig, h1: Session, delay_s: float) -> None:
    """All commands of a provision killed at some moment: the next one completes it."""
    wanted = instance(rig, inputs={"compose": TWO_SERVICES})
    doomed = asyncio.create_task(EXTENSION.provision(h1, wanted))
    # NOTE: a chosen moment, not a wait for something; each one leaves another partial state.
    await asyncio.sleep(delay_s)
    rig.ssh("h1", "pkill -9 flock; pkill -9 -f podman_compose; pkill -9 -x podman-compose; "
                  "pkill -9 -f 'podman (create|start|network|volume) '")  # fmt: skip
    await asyncio.wait([doomed], timeout=PATIENCE_S)

    await settle(lambda: EXTENSION.provision(h1, wanted))

    assert await state(h1, wanted) == "Running"
    await settle(lambda: EXTENSION.teardown(h1, wanted))
    assert await observed(h1, wanted) is None
    assert rig.ssh("h1", LISTING).stdout == ""
