"""`ext.compose-ssh` on real hosts: up, ready, exec, logs, update, suspend, teardown."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from sandboxer.errors import (
    NotFoundError,
    Waiting,
)
from sandboxer.extension import PortLease
from sandboxer.kinds.sandbox import Resources
from sandboxer.session import Session, Streams
from sandboxer.units import Quantity
from tests.integration.compose_lab import (
    ENVIRONMENT,
    EXTENSION,
    LISTING,
    TWO_SERVICES,
    instance,
    observed,
    run_inside,
    settle,
    state,
    until,
)
from tests.rig import Rig


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
    # Podman waits ten seconds for what does not end at SIGTERM, as this does not; it got SIGKILL.
    assert took_s < 10


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
