"""What a host has, listed by its engine and its file system and nothing of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tests.rig import Rig

# One line for each thing. Names of networks, volumes, pods and workspaces are unique on a host.
_SCRIPT: Final = """\
podman ps -aq --external --no-trunc | xargs -r podman inspect --format \
'container {{json .ID}} {{json .State.Status}} {{json .Config.Labels}} {{json .Config.Env}}'
podman network ls --format '{{.Name}}' | grep -vx podman | sed 's/^/network /'
podman volume ls -q | sed 's/^/volume /'
podman pod ps --format '{{.Name}}' | sed 's/^/pod /'
ls -A /build | sed 's/^/directory /'
"""

# What the controller may keep in a work root besides workspaces.
_KEPT: Final = (
    ".sandboxer",
    ".locks",
    ".processes",
    ".switches",
    ".engine.sock",
    ".engine.sock.lock",
)


@dataclass(frozen=True, slots=True)
class Container:
    """One container."""

    id: str
    state: str
    uid: str
    """Of the sandbox its label names; empty without one."""
    environment: str
    """Of the installation its label names."""
    version: str
    """Its variable VERSION."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything on one host that something or somebody made."""

    containers: Mapping[str, Container]
    """By id."""
    others: frozenset[str]
    """Kind and name of everything else (`volume sbx-0123_d`)."""

    @property
    def names(self) -> frozenset[str]:
        """Everything as words."""
        return self.others | {f"container {id_}" for id_ in self.containers}


def list_host(rig: Rig, host: str) -> Listing:
    """List a host that answers."""
    done = rig.ssh(host, _SCRIPT)
    assert "Error" not in done.stderr, f"{host} cannot be listed: {done.stderr}"
    lines = done.stdout.splitlines()
    found = [_container(line) for line in lines if line.startswith("container ")]
    others = {line for line in lines if not line.startswith("container ")}
    return Listing(
        {each.id: each for each in found},
        frozenset(line for line in others if line.partition(" ")[2] not in _KEPT),
    )


def _container(line: str) -> Container:
    decoder, words, position = json.JSONDecoder(), [], len("container ")
    while position < len(line):
        word, position = decoder.raw_decode(line, position)
        words.append(word)
        position += 1
    id_, state, labels, env = words
    labels, env = labels or {}, dict(pair.partition("=")[::2] for pair in env or ())
    return Container(
        id_, state, labels.get("sandboxer.dev/uid", ""),
        labels.get("sandboxer.dev/environment", ""), env.get("VERSION", ""),
    )  # fmt: skip
