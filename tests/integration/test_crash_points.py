"""Killed by SIGKILL at every store write and every backend call, a controller leaves a whole world."""

from __future__ import annotations

import json
import os
import re
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.integration.crash_points import VERBS, Play, Stage
from tests.integration.crash_stages import FakeStage, RealStage
from tests.rig import Rig
from tests.rig.vm import VM
from tests.soak.harm import processes

# What has to be done before a verb can be.
BEFORE = {
    "create": (), "update": ("create",), "suspend": ("create",), "resume": ("create", "suspend"),
    "move": ("create",), "delete": ("create",), "expire": ("create",), "reap": ("create",),
}  # fmt: skip

# Lives of a sandbox on a real backend; in each verb of it the controller dies.
LIVES = (
    ("create", "update", "suspend", "resume", "delete"),
    ("create", "expire"),
    ("create", "reap"),
)

VM_LIVES = (("create", "update", "delete"), ("create", "expire"), ("create", "reap"))

# More points than any verb has; ends a loop that would never end.
POINTS_MAX = 200
ALL = range(1, POINTS_MAX)

# The point CI dies at on real backends: in the middle of the work of most verbs.
SOME = (10,)

# What the local sandbox runs, which nothing else on this machine does.
COMMAND = ("sleep", "2147483021")

# The uids of an installation's containers, $e, and the markers of all workspaces and halves of one.
CONTAINERS = """\
podman ps -aq --external --filter "label=sandboxer.dev/environment=$e" | xargs -r podman inspect \
--format '{{index .Config.Labels "sandboxer.dev/uid"}}'"""
MARKERS = "cat /build/sbx-*/.sandboxer.json /build/.new-*/.sandboxer.json 2>/dev/null"
UID = re.compile(r'"sandboxer\.dev/uid": ?"([0-9a-f-]{36})"')

# All there can be on a host.
EVERYTHING = """\
podman ps -aq --external; podman volume ls -q; podman pod ps -q
podman network ls --format '{{.Name}}' | grep -vx podman; ls -A /build | grep sbx-"""


@pytest.fixture
def memory() -> Iterator[Path]:
    """
    A directory in memory, where there is one.

    What a killed process has written the kernel keeps, so nothing is gained by a disk, and its
    fsyncs are most of the time.
    """
    shared = Path("/dev/shm")
    where = shared if os.access(shared, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where) as directory:
        yield Path(directory)


def play(
    stage: Stage, directory: Path, verbs: Sequence[str], dying: Sequence[str], at: int
) -> Play:
    """Do verbs one after the other, with a controller that dies at a point of some of them."""
    directory.mkdir()
    played = Play(stage, directory)
    for name in verbs:
        played.do(name, die_at=at if name in dying else 0)
    return played


@pytest.mark.parametrize("name", VERBS)
def test_dying_at_every_point_of_the_fake(name: str, memory: Path) -> None:
    """Wherever it dies, nothing is there twice, too much or lost, and the end is as undisturbed."""
    verbs = [*BEFORE[name], name]
    undisturbed = play(FakeStage(), memory / "0", verbs, (), 0)

    for at in ALL:
        played = play(FakeStage(), memory / str(at), verbs, (name,), at)

        assert played.ends == undisturbed.ends, f"killed at point {at} of {name}"
        if not played.deaths:
            break
    else:
        pytest.fail(f"{name} has more than {POINTS_MAX} points: raise POINTS_MAX")

    # Intention, call and result, each before and after, are the least there is.
    assert at > 6


def die_at(
    stage: Stage, memory: Path, points: Sequence[int], lives: Sequence[Sequence[str]] = LIVES
) -> int:
    """Die at these points of every verb of some lives; return how often a controller died."""
    deaths = 0
    for at in points:
        before = deaths
        for number, verbs in enumerate(lives):
            played = play(stage, memory / f"{at}-{number}", verbs, verbs, at)
            deaths += len(played.deaths)
        if deaths == before:
            break
    else:
        assert points is not ALL, "there are more points: raise POINTS_MAX"
    return deaths


@pytest.fixture
def local(memory: Path) -> Iterator[RealStage]:
    """`ext.local` on this machine; at the end nothing of it runs."""
    work_root = memory / "work"
    work_root.mkdir(mode=0o700)
    spec = {"transport": "local", "workRoot": str(work_root), "probeInterval": "1s"}
    head = {"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Host"}
    seen: set[str] = set()

    def instances(environment: str) -> Iterator[str]:
        seen.add(environment)
        found = processes(environment).items()
        running = [uid for uid, pids in found for pid in pids if _is_command(pid)]
        kept = {uid for marker in work_root.glob("*/.sandboxer.json") for uid in _marked(marker)}
        yield from [*running, *sorted(kept - set(running))]

    inputs = {"command": f"exec {' '.join(COMMAND)}"}
    host = {**head, "metadata": {"name": "local"}, "spec": spec}
    yield RealStage("ext.local", host, {"inputs": inputs}, instances)
    left = [pid for each in seen for pids in processes(each).values() for pid in pids]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left
    assert not [path for path in work_root.iterdir() if "sbx-" in path.name]


def _marked(marker: Path) -> list[str]:
    try:
        return [json.loads(marker.read_text())["labels"]["sandboxer.dev/uid"]]
    except FileNotFoundError:  # a script that the dead controller left runs on
        return []


def _is_command(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return False
    return words == [word.encode() for word in COMMAND]


@pytest.fixture
def compose(rig: Rig) -> Iterator[RealStage]:
    """`ext.compose-ssh` on a host of the rig; at the end nothing is there."""
    rig.clean("h1")

    def instances(environment: str) -> Iterator[str]:
        found = rig.ssh("h1", f"e={environment}; {CONTAINERS}").stdout.split()
        kept = set(UID.findall(rig.ssh("h1", MARKERS).stdout))
        yield from [*found, *sorted(kept - set(found))]

    service = {"image": rig.image, "command": "sleep 100000", "volumes": ["d:/d"]}
    document = json.dumps({"services": {"main": service}, "volumes": {"d": {}}})
    host = rig.hosts["h1"].manifest(probeInterval="1s")
    yield RealStage("ext.compose-ssh", host, {"inputs": {"compose": document}}, instances)
    left = rig.ssh("h1", EVERYTHING).stdout
    rig.clean("h1")
    assert left == ""


@pytest.fixture
def vm_stage(vm: VM) -> Iterator[RealStage]:
    """`ext.vm-packer` attached to the VM; at the end nothing is there."""

    def instances(_environment: str) -> Iterator[str]:
        yield from sorted(set(UID.findall(vm.ssh(MARKERS).stdout)))

    yield RealStage("ext.vm-packer", vm.manifest(), {"inputs": {"vm": "vm"}}, instances)
    assert vm.ssh("ls -A /build | grep sbx-").stdout == ""


def test_dying_at_a_point_here(local: RealStage, memory: Path) -> None:
    """The same with real processes, at one point of a life; the exhaustive run has them all."""
    assert die_at(local, memory, SOME, [("create", "suspend", "delete")]) == 3


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("life", LIVES, ids="-".join)
def test_dying_at_every_point_here(local: RealStage, memory: Path, life: Sequence[str]) -> None:
    """The same at every point."""
    assert die_at(local, memory, ALL, [life]) > len(life)


@pytest.mark.exhaustive
@pytest.mark.timeout(300)
def test_dying_at_a_point_on_a_host(compose: RealStage, memory: Path) -> None:
    """A controller of containers over SSH dies and is followed, at one point of a life."""
    assert die_at(compose, memory, SOME, [("create", "delete")]) == 2


@pytest.mark.exhaustive
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("life", LIVES, ids="-".join)
def test_dying_at_every_point_on_a_host(
    compose: RealStage, memory: Path, life: Sequence[str]
) -> None:
    """The same at every point."""
    assert die_at(compose, memory, ALL, [life]) > len(life)


@pytest.mark.exhaustive
@pytest.mark.timeout(300)
def test_dying_at_a_point_on_a_vm(vm_stage: RealStage, memory: Path) -> None:
    """A controller of workspaces on a pre-built VM dies and is followed, at one point of a life."""
    assert die_at(vm_stage, memory, SOME, [("create", "delete")]) == 2


@pytest.mark.exhaustive
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("life", VM_LIVES, ids="-".join)
def test_dying_at_every_point_on_a_vm(
    vm_stage: RealStage, memory: Path, life: Sequence[str]
) -> None:
    """The same on a pre-built VM, where nothing can be suspended."""
    assert die_at(vm_stage, memory, ALL, [life]) > len(life)
