"""A real host whose disk fills up: nothing new is sent there, and only what nobody uses is removed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from sandboxer.extension import Pruning
from sandboxer.kinds.event import Event
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import API_VERSION
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.manager import Manager
from sandboxer.manager.engine import running
from sandboxer.session import Session
from sandboxer.settings import Settings
from sandboxer.store import Store
from tests.changing import change_spec
from tests.integration.compose_lab import EXTENSION, instance
from tests.rig import Rig

# Seconds a test waits for something to become true on two shared cores.
PATIENCE_S = 60.0

MIB = 2**20
EVERYTHING = 2**50

BIG, SMALL, TAGGED = "docker.io/else/big:1", "docker.io/else/small:1", "docker.io/else/tagged:1"
USED, KEPT = "docker.io/else/used:1", "docker.io/else/kept:1"
IMAGES = "podman images --format '{{.Repository}}:{{.Tag}}' | grep /else/ | sort"
USED_PERCENT = "df -Pk /build | awk 'END { print int(100 - 100 * $4 / $2) }'"
OTHERS = "podman ps -aq --no-trunc; podman volume ls -q; podman network ls -q"


def make_image(rig: Rig, host: str, name: str, *, size_bytes: int = MIB) -> None:
    """Put an image of that size on a host."""
    command = (
        f"d=$(mktemp -d) && head -c {size_bytes} /dev/zero >$d/data && cp /bin/true $d/true && "
        f"tar -C $d -c . | podman import -q - {name}; status=$?; rm -rf $d; exit $status"
    )
    assert rig.ssh(host, command).returncode == 0


@pytest.fixture
def clean_images(rig: Rig) -> Any:
    """Remove the images a test made."""
    yield
    for host in ("h1", "h3"):
        rig.ssh(host, f"{IMAGES} | xargs -r podman rmi -f; podman image prune -f")


async def lines(rig: Rig, host: str, command: str) -> list[str]:
    done = await asyncio.to_thread(rig.ssh, host, command)
    return done.stdout.splitlines()


@pytest.mark.usefixtures("clean_images")
async def test_unused_images_go_and_nothing_else(rig: Rig, place: tuple[str, Session]) -> None:
    """What containers use, sandboxes name, or the owner keeps stays, with everybody's volumes."""
    host, session = place
    make_image(rig, host, BIG, size_bytes=8 * MIB)
    make_image(rig, host, SMALL)
    make_image(rig, host, USED)
    make_image(rig, host, KEPT)
    rig.ssh(
        host, f"podman create --name theirs -v data:/data {USED} /true; podman tag {BIG} {TAGGED}"
    )
    made = instance(rig)
    await EXTENSION.provision(session, made)
    rig.ssh(host, "podman rm -fa -t 0 --filter label=sandboxer.dev/uid")
    before = await lines(rig, host, OTHERS)

    pruned = await EXTENSION.prune(
        session, Pruning(free_bytes=EVERYTHING, keep_images=("else/kept",))
    )

    assert sorted(await lines(rig, host, IMAGES)) == [KEPT, USED]
    assert await lines(rig, host, f"podman image exists {rig.image} && echo there") == ["there"]
    assert await lines(rig, host, OTHERS) == before
    assert set(pruned.removed) == {SMALL, pruned.removed[0]}
    assert pruned.removed[0] in (BIG, TAGGED)
    assert pruned.freed_bytes >= 8 * MIB
    again = await EXTENSION.prune(
        session, Pruning(free_bytes=EVERYTHING, keep_images=("else/kept",))
    )
    assert (again.removed, again.kept, again.freed_bytes) == ((), 0, 0)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("clean_images")
async def test_no_more_goes_than_is_wanted(rig: Rig, place: tuple[str, Session]) -> None:
    """The largest goes first, and with enough room nothing else does."""
    host, session = place
    make_image(rig, host, SMALL, size_bytes=2 * MIB)
    make_image(rig, host, BIG, size_bytes=16 * MIB)
    (free,) = await lines(rig, host, "df -Pk /var/lib/containers | awk 'END { print $4 * 1024 }'")
    keep = (rig.image,)

    enough = await EXTENSION.prune(session, Pruning(free_bytes=int(free) - MIB, keep_images=keep))
    more = await EXTENSION.prune(session, Pruning(free_bytes=int(free) + 8 * MIB, keep_images=keep))

    assert enough.removed == ()
    assert more.removed == (BIG,)
    assert await lines(rig, host, IMAGES) == [SMALL]


@pytest.fixture
async def store(rig: Rig, tmp_path: Path) -> AsyncIterator[Store]:
    """A controller over nothing yet."""
    await asyncio.to_thread(rig.clean, "h1")
    settings = Settings(data_dir=tmp_path, database_url=f"sqlite:///{tmp_path / 'store.db'}")
    async with Manager.open(settings) as manager:
        await manager.register()
        engine = manager.engine(lambda _key: True, orphan_grace_s=120.0)
        async with running(engine):
            yield manager.store
            if manager.store.get(Sandbox, "shop") is not None:
                await manager.store.delete(Sandbox, "shop")
                await until(lambda: manager.store.get(Sandbox, "shop") is None)
    await asyncio.to_thread(rig.clean, "h1")


async def until(holds: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE_S
    while not holds():
        assert monotonic() < deadline, "it did not come to hold"
        await asyncio.sleep(0.05)


async def ask_to_prune(store: Store) -> None:
    """Change what the Host's document says of its disk."""
    found = store.get(Host, "h1")
    assert found is not None
    disk = found.to_document()["spec"]["disk"] | {"prune": "Unused"}
    await change_spec(store, Host, "h1", disk=disk)


def pressure(store: Store) -> str:
    """Return what is said of the disks of h1."""
    found = store.get(Host, "h1")
    stated = found.status.condition("DiskPressure") if found is not None else None
    return stated.status if stated is not None else ""


def shop(rig: Rig) -> Sandbox:
    service = {"image": rig.image, "command": "sleep 100000"}
    spec = {
        "profile": "profile.compose-e2e",
        "placement": {"host": "h1"},
        "inputs": {"compose": json.dumps({"services": {"web": service}})},
    }
    head = {"apiVersion": API_VERSION, "kind": "Sandbox"}
    metadata = {"name": "shop", "namespace": "default"}
    return Sandbox.parse({**head, "metadata": metadata, "spec": spec})


@pytest.mark.exhaustive
@pytest.mark.usefixtures("clean_images")
async def test_full_host_makes_room_when_it_is_asked(rig: Rig, store: Store) -> None:
    """A full host takes nothing new; told to prune it frees what nobody uses, and takes it then."""
    await asyncio.to_thread(make_image, rig, "h1", BIG, size_bytes=64 * MIB)
    (used,) = await lines(rig, "h1", USED_PERCENT)
    marks = {"highWatermark": int(used), "lowWatermark": int(used) - 3}
    disk: dict[str, Any] = {**marks, "keepImages": [rig.image]}
    await store.create(Host.parse(rig.hosts["h1"].manifest(probeInterval="1s", disk=disk)))
    await until(lambda: pressure(store) == "True")
    await store.create(shop(rig))
    await until(lambda: _routed(store) == "NoFit")
    told = store.get(Sandbox, "shop")
    untouched = await lines(rig, "h1", IMAGES)
    await ask_to_prune(store)
    await until(lambda: pressure(store) == "False")
    await until(lambda: _is_ready(store))

    events = {event.reason: event.message for event in store.list(Event)}
    assert untouched == [BIG]
    assert told is not None
    routed = told.status.condition("Routed")
    assert routed is not None
    assert "the host has a full disk" in routed.message
    assert await lines(rig, "h1", IMAGES) == []
    assert (
        f"removed 1 images that nobody used ({BIG}); 64 MiB more are free."
        in (events["ImagesPruned"])
    )
    assert "of 1.0 GiB in use" in events["DiskPressure"]
    assert "DiskHasRoom" in events


def _routed(store: Store) -> str:
    found = store.get(Sandbox, "shop")
    routed = found.status.condition("Routed") if found is not None else None
    return routed.reason if routed is not None else ""


def _is_ready(store: Store) -> bool:
    found = store.get(Sandbox, "shop")
    return found is not None and found.status.is_true("Ready")
