"""The rig itself: hosts that are apart, faults that hurt and heal, a slot that is handed on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from sandboxer.kinds.host import Host
from tests.rig import Relay, Rig
from tests.rig.commands import run_as_root


@pytest.fixture
def host(rig: Rig) -> Iterator[str]:
    """A clean host whose faults are cured afterwards."""
    rig.clean("h1")
    yield "h1"
    rig.heal("h1")


def test_each_host_sees_its_own_containers_only(rig: Rig, host: str) -> None:
    """A container started on one host is not on another."""
    rig.ssh(host, f"podman run -d --name only-here {rig.image} sleep 100")

    assert rig.ssh(host, "podman ps --format '{{.Names}}'").stdout.split() == ["only-here"]
    assert rig.ssh("h2", "podman ps --format '{{.Names}}'").stdout.split() == []


def test_a_manifest_is_a_valid_host(rig: Rig) -> None:
    """The document of a rig host is accepted by the kind, with fields of the caller's choice."""
    manifest = rig.hosts["h2"].manifest(probeInterval="1s")

    assert Host.parse(manifest).spec.probe_interval == "1s"


def test_compose_tool_runs_on_a_host(rig: Rig) -> None:
    """The compose command of the manifest works there, wherever the checkout is."""
    command = rig.hosts["h1"].manifest()["spec"]["composeCommand"]

    assert "podman-compose version" in rig.ssh("h1", f"{' '.join(command)} --version").stdout


def test_clean_removes_everything_of_ours(rig: Rig, host: str) -> None:
    """Containers, volumes, networks and workspaces are gone, the image stays."""
    rig.ssh(host, f"podman volume create v; podman network create n; mkdir /build/w; "
                  f"podman run -d -v v:/v --network n {rig.image} sleep 100")  # fmt: skip

    rig.clean(host)

    listing = "podman ps -aq; podman volume ls -q; ls /build; podman network ls -q"
    assert rig.ssh(host, listing).stdout.split() == ["podman"]
    assert rig.ssh(host, f"podman image exists {rig.image}").returncode == 0


@pytest.mark.parametrize(
    ("hurt", "cure"), [("cut", "mend"), ("drop", "undrop"), ("reset", "unreset"), ("kill", "boot")]
)
def test_a_fault_makes_the_host_unreachable_until_cured(
    rig: Rig, host: str, hurt: str, cure: str
) -> None:
    """A faulty host does not answer over SSH, and a cured one does."""
    getattr(rig, hurt)(host)
    assert rig.ssh(host, "true").returncode == 255

    getattr(rig, cure)(host)
    assert rig.ssh(host, "true").returncode == 0


def test_a_hung_server_accepts_and_stays_silent(rig: Rig, host: str) -> None:
    """A connection to a hung SSH server opens and never gets a banner."""
    address = (rig.hosts[host].address, rig.hosts[host].port)
    rig.hang(host)
    with socket.create_connection(address, timeout=30) as connection:
        connection.settimeout(1)
        with pytest.raises(TimeoutError):
            connection.recv(1)

        rig.unhang(host)
        connection.settimeout(30)
        assert connection.recv(4) == b"SSH-"


def test_power_loss_keeps_the_disk(rig: Rig, host: str) -> None:
    """After a power loss containers are still known, do not run, and start again."""
    rig.ssh(host, f"podman run -d --name lasting {rig.image} sleep 100")

    rig.kill(host)
    rig.boot(host)

    assert rig.ssh(host, "podman ps -q").stdout == ""
    assert rig.ssh(host, "podman start lasting").returncode == 0


def test_a_full_disk_refuses_writes(rig: Rig, host: str) -> None:
    """Nothing can be written while the disk is full, and again after."""
    rig.fill(host)
    assert rig.ssh(host, "echo x > /build/x").returncode != 0

    rig.unfill(host)
    assert rig.ssh(host, "echo x > /build/x").returncode == 0


def test_a_second_rig_lives_beside_the_first(rig: Rig) -> None:
    """Two rigs on one machine do not share hosts, and the second leaves nothing."""
    with Rig.start(1) as other:
        assert other.slot != rig.slot
        assert other.ssh("h1", "hostname").stdout.strip() == "h1"
        bridge, directory = other.slot.bridge, other.slot.directory

    assert run_as_root("ip", "link", "show", bridge, check=False) == ""
    assert not directory.exists()
    assert rig.ssh("h1", "true").returncode == 0


def test_a_slot_left_by_a_killed_run_is_taken_over(rig: Rig) -> None:
    """Hosts of a run that was killed are removed by the next one in their slot."""
    with Rig.start(1) as abandoned:
        abandoned.ssh("h1", "touch /build/left")

        successor = Rig(abandoned.slot, count=1)
        successor.up()

        assert successor.ssh("h1", "ls -A /build").stdout == ""


async def test_relay_cuts_at_the_exact_byte(rig: Rig, host: str) -> None:
    """A connection through the relay is reset after the chosen number of bytes."""
    async with Relay(rig.hosts[host].address, rig.hosts[host].port, rst_after=10) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(b"SSH-2.0-x\r\n")

        received = await reader.readexactly(10)
        assert received.startswith(b"SSH-2.0-")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.transport.abort()


async def test_relay_delays_each_direction(rig: Rig, host: str) -> None:
    """The server's banner arrives no earlier than the delay."""
    async with Relay(rig.hosts[host].address, rig.hosts[host].port, delay_s=0.3) as relay:
        loop = asyncio.get_running_loop()
        started = loop.time()
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)

        assert await reader.readexactly(4) == b"SSH-"
        assert loop.time() - started >= 0.3
        writer.transport.abort()
