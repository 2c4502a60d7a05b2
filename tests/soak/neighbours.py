"""Those who share the hosts: a user with containers of their own, and another installation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.installation import Installation, is_ready
from tests.rig import Rig
from tests.soak.listing import list_host

_PATIENCE_S = 120.0

# One with nothing special, one that is named as ours are and carries a label of ours that is not
# one of this installation.
_OWN = """\
set -e
podman run -d --name mine -v mine:/d {image} sleep 100000
podman run -d --name sbx-0123456789ab --label sandboxer.dev/uid=mine {image} sleep 100000
mkdir /build/sbx-0123456789ab && echo mine >/build/sbx-0123456789ab/file
"""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What others have on each host, by name of the host, as it was before."""

    things: dict[str, frozenset[str]]

    @classmethod
    def move_in(cls, rig: Rig, directory: Path) -> Neighbours:
        """Let others make what is theirs; *directory* is for the other installation."""
        for name in rig.hosts:
            done = rig.ssh(name, _OWN.format(image=rig.image))
            assert done.returncode == 0, done.stderr
        _install_another(rig, directory)
        return cls({name: list_host(rig, name).names for name in rig.hosts})

    def missing(self, rig: Rig) -> Iterator[str]:
        """Yield what of it is not there any more, each as a sentence."""
        for name, things in self.things.items():
            for thing in sorted(things - list_host(rig, name).names):
                yield f"{name}: somebody else's {thing} is gone."


def _install_another(rig: Rig, directory: Path) -> None:
    """Make one sandbox on each host by an installation whose controller then stops."""
    other = Installation(directory)
    hosts = [host.manifest(probeInterval="2s") for host in rig.hosts.values()]
    sandboxes = [_sandbox(rig, name) for name in rig.hosts]
    other.ok("apply", "-f", "-", stdin=yaml.safe_dump_all([*hosts, *sandboxes]))
    other.start()
    try:
        other.wait_until(
            "another installation is ready",
            lambda: all(map(is_ready, other.sandboxes().values())),
            timeout_s=_PATIENCE_S,
        )
    finally:
        other.stop()


def _sandbox(rig: Rig, host: str) -> dict[str, Any]:
    service = {"image": rig.image, "command": "sleep 100000", "volumes": ["d:/d"]}
    compose = {"services": {"main": service}, "volumes": {"d": {}}}
    return {
        "apiVersion": "sandboxer.dev/v1alpha1",
        "kind": "Sandbox",
        # Named as some of ours are.
        "metadata": {"name": f"s{host.removeprefix('h')}"},
        "spec": {
            "profile": "profile.compose-e2e",
            "placement": {"host": host},
            "inputs": {"compose": json.dumps(compose)},
        },
    }
