"""
Thirty sandboxes on three hosts, while the controller is killed again and again.

The seed of the run is printed; `SANDBOXER_TEST_SEED=n` repeats its choices (the instants of the
kills depend on the machine as well, so a failure may need several runs).
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from tests.e2e.installation import Installation, is_ready
from tests.rig import Rig

_SANDBOXES = 30
_ROUNDS = 6
# Per round, drawn anew each time: what is changed, taken away and made.
_CHANGED, _REMOVED, _MADE = 6, 3, 3
# A controller lives between nothing and a few passes; the longest reaches the middle of an `up`.
_SHORTEST_LIFE_S, _LONGEST_LIFE_S = 0.2, 6.0
_CONVERGE_TIMEOUT_S = 300.0

# Everything that can be left on a host, one line each: kind, uid, and what tells versions apart.
_INVENTORY = """\
podman ps -aq --external | xargs -r podman inspect --format \
'container {{index .Config.Labels "sandboxer.dev/uid"}} {{.State.Status}} {{.Config.Env}}'
podman network ls --format '{{.Name}}' | grep -vx podman | sed 's/^/network /'
podman volume ls -q | sed 's/^/volume /'
podman pod ps -q | sed 's/^/pod /'
ls -A /build | grep -e '^sbx-' -e '^[.]new-' | sed 's/^/workspace /'
"""


class World:
    """What is wanted, as the person behind the commands knows it: version by sandbox name."""

    def __init__(self, installation: Installation, rig: Rig, chance: random.Random) -> None:
        self.installation = installation
        self.rig = rig
        self.chance = chance
        self.wanted: dict[str, int] = {}
        self._made = 0

    def make(self, count: int) -> None:
        """Apply new sandboxes, spread over the hosts by the controller's own choice."""
        names = [f"s{number}" for number in range(self._made, self._made + count)]
        self._made += count
        self._apply(dict.fromkeys(names, 0))

    def change(self, count: int) -> None:
        """Apply another version of some of them."""
        names = self.chance.sample(sorted(self.wanted), count)
        self._apply({name: self.wanted[name] + 1 for name in names})

    def remove(self, count: int) -> None:
        """Ask for the deletion of some of them, without waiting."""
        names = self.chance.sample(sorted(self.wanted), count)
        for name in names:
            del self.wanted[name]
        self.installation.ok("delete", "--no-wait", *(f"sandbox/{name}" for name in names))

    def converged(self) -> bool:
        """Tell whether exactly the wanted sandboxes are there and Ready."""
        found = self.installation.sandboxes()
        return set(found) == set(self.wanted) and all(map(is_ready, found.values()))

    def _apply(self, versions: dict[str, int]) -> None:
        self.wanted |= versions
        documents = [_sandbox(name, version, self.rig.image) for name, version in versions.items()]
        self.installation.ok("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))


def _sandbox(name: str, version: int, image: str) -> dict[str, Any]:
    compose = {"services": {"main": {"image": image, "command": "sleep 100000", "volumes": ["d:/d"]}},
               "volumes": {"d": {}}}  # fmt: skip
    return {
        "apiVersion": "sandboxer.dev/v1alpha1",
        "kind": "Sandbox",
        "metadata": {"name": name},
        "spec": {
            "profile": "profile.compose-e2e",
            "placement": {"hostSelector": {"matchLabels": {"rig": "true"}}},
            "inputs": {"compose": json.dumps(compose)},
            "env": {"VERSION": str(version)},
        },
    }


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_killing_the_controller_loses_and_duplicates_nothing(
    installation: Installation, rig: Rig
) -> None:
    """However often it is killed, in the end each wanted sandbox is there once, and nothing else."""
    seed = int(os.environ.get("SANDBOXER_TEST_SEED") or random.SystemRandom().randrange(10**6))
    sys.stdout.write(f"SANDBOXER_TEST_SEED={seed}\n")
    world = World(installation, rig, random.Random(seed))
    for name in rig.hosts:
        rig.clean(name)
    hosts = [host.manifest(probeInterval="2s") for host in rig.hosts.values()]
    installation.ok("apply", "-f", "-", stdin=yaml.safe_dump_all(hosts))

    world.make(_SANDBOXES)
    for _ in range(_ROUNDS):
        _live_and_die(world)

    installation.start()
    installation.wait_until("all Ready", world.converged, timeout_s=_CONVERGE_TIMEOUT_S)
    _check_hosts(world)

    installation.ok("delete", "sandboxes", "--all", "--timeout", "200s")
    for name in rig.hosts:
        assert rig.ssh(name, _INVENTORY).stdout == "", name


def _live_and_die(world: World) -> None:
    """Start a controller, ask for changes, and kill it at a random instant, even in between."""
    life_s = world.chance.uniform(_SHORTEST_LIFE_S, _LONGEST_LIFE_S)
    world.installation.start()
    death = threading.Timer(life_s, world.installation.kill)
    death.start()
    try:
        world.change(_CHANGED)
        world.remove(_REMOVED)
        world.make(_MADE)
    finally:
        death.join()


def _check_hosts(world: World) -> None:
    documents = world.installation.sandboxes().values()
    by_host: dict[str, dict[str, str]] = {name: {} for name in world.rig.hosts}
    for document in documents:
        identity, name = document["metadata"]["uid"], document["metadata"]["name"]
        by_host[document["status"]["host"]][identity] = f"VERSION={world.wanted[name]}"
    for host, versions in by_host.items():
        lines = world.rig.ssh(host, _INVENTORY).stdout.splitlines()
        _check_containers(host, lines, versions)
        _check_the_rest(host, lines, len(versions))


def _check_containers(host: str, lines: Sequence[str], versions: dict[str, str]) -> None:
    containers = [line.split(" ", 3)[1:] for line in lines if line.startswith("container ")]

    assert Counter(uid for uid, _, _ in containers) == Counter(list(versions)), host
    for uid, state, environment in containers:
        assert state == "running", (host, uid)
        assert versions[uid] in environment.strip("[]").split(), (host, uid)


def _check_the_rest(host: str, lines: Sequence[str], count: int) -> None:
    kinds = Counter(line.split(" ", 1)[0] for line in lines)

    assert kinds["network"] == count, (host, lines)
    assert kinds["volume"] == count, (host, lines)
    assert kinds["workspace"] == count, (host, lines)
    assert kinds["pod"] in (0, count), (host, lines)
