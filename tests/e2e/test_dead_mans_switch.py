"""A controller that dies for good: hosts take away what expires, and say so to the next one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.ending_soon import end_soon
from tests.e2e.installation import Installation, condition
from tests.rig import Rig

PROFILE = """
apiVersion: sandboxer.dev/v1alpha1
kind: Profile
metadata: {name: profile.guarded}
spec:
  candidates: [{extension: ext.compose-ssh}, {extension: ext.local}]
  deadMansSwitch: {leaseDuration: 3s}
"""

LOCAL = """
apiVersion: sandboxer.dev/v1alpha1
kind: Host
metadata: {{name: local}}
spec: {{transport: local, workRoot: {root}, probeInterval: 1s}}
"""


@pytest.fixture
def guarded(installation: Installation, rig: Rig) -> Iterator[Installation]:
    """An installation with a profile that asks for a switch, and a host for containers."""
    rig.clean("h1")
    installation.ok("apply", "-f", "-", stdin=PROFILE)
    installation.ok(
        "apply", "-f", "-", stdin=yaml.safe_dump(rig.hosts["h1"].manifest(probeInterval="1s"))
    )
    _work_root(installation).mkdir(mode=0o700)
    installation.ok("apply", "-f", "-", stdin=LOCAL.format(root=_work_root(installation)))
    yield installation
    rig.clean("h1")


def _work_root(installation: Installation) -> Path:
    return installation.directory / "work"


def _manifest(name: str, *, ttl: str, **spec: Any) -> str:
    metadata = {"name": name}
    document = {"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Sandbox", "metadata": metadata}
    wished = {"profile": "profile.guarded", "lifetime": {"ttl": ttl}} | spec
    return yaml.safe_dump(document | {"spec": wished})


def _on_host(rig: Rig) -> list[str]:
    """Return the containers, networks, volumes and workspaces that are on h1."""
    script = (
        "podman ps -aq; podman network ls --format '{{.Name}}' | grep -vx podman;"
        "podman volume ls -q; ls -A /build | grep ^sbx-; true"
    )
    return rig.hosts["h1"].ssh(script).stdout.split()


@pytest.mark.timeout(180)
def test_host_takes_away_what_expires_without_a_controller(guarded: Installation, rig: Rig) -> None:
    """A killed controller never comes back in time; all of the sandbox goes, and it is explained."""
    service = {"image": rig.image, "command": "sleep 100000", "volumes": ["data:/data"]}
    compose = yaml.safe_dump({"services": {"web": service}, "volumes": {"data": {}}})
    inputs = {"compose": compose}
    manifest = _manifest("brief", ttl="1h", inputs=inputs, placement={"host": "h1"})
    guarded.start()
    guarded.ok("apply", "-f", "-", stdin=manifest)
    guarded.ok("wait", "sandbox/brief", "--for=condition=Ready")
    guarded.ok("wait", "sandbox/brief", "--for=condition=DeadMansSwitch")
    end_soon(guarded, manifest)
    made = guarded.sandboxes()["brief"]
    guarded.kill()
    before = _on_host(rig)

    guarded.wait_until("nothing is left", lambda: _on_host(rig) == [], timeout_s=90)
    guarded.start()
    guarded.wait_until("it is over", lambda: "brief" not in guarded.sandboxes(), timeout_s=60)

    story = guarded.ok("explain", "brief")
    assert len(before) >= 4, before
    assert made["status"]["deadMansSwitch"]["leaseS"] == 3
    assert "SwitchFired" in story
    assert "Host h1 began to take it away" in story
    left = rig.hosts["h1"].ssh("find /build/.switches -name 'sbx-*'").stdout
    assert left == "", "what told of it has gone with it"


@pytest.mark.timeout(180)
def test_what_cannot_be_armed_holds_nothing_up(guarded: Installation) -> None:
    """It is said and tried again; what the host knows meanwhile stays known."""
    switches = _work_root(guarded) / ".switches"
    switches.touch()
    guarded.start()
    here = {"placement": {"host": "local"}}
    guarded.ok("apply", "-f", "-", stdin=_manifest("brief", ttl="1h", **here))
    guarded.ok("wait", "sandbox/brief", "--for=condition=Ready")
    refused = guarded.sandboxes()["brief"]
    switches.unlink()
    guarded.ok("wait", "sandbox/brief", "--for=condition=DeadMansSwitch")
    armed = guarded.sandboxes()["brief"]
    [lock] = switches.glob("*/lock")
    lock.unlink()
    lock.mkdir()

    guarded.ok("apply", "-f", "-", stdin=_manifest("brief", ttl="2h", **here))
    guarded.wait_until("it is said", lambda: not _is_armed(guarded, "brief"), timeout_s=60)
    stuck = guarded.sandboxes()["brief"]
    lock.rmdir()
    guarded.wait_until("it is armed", lambda: _is_armed(guarded, "brief"), timeout_s=60)

    later = guarded.sandboxes()["brief"]["status"]["deadMansSwitch"]["expiresAt"]
    assert condition(refused, "DeadMansSwitch")["reason"] == "SwitchesUnreachable"
    assert stuck["status"]["deadMansSwitch"] == armed["status"]["deadMansSwitch"]
    assert condition(stuck, "Ready")["status"] == "True"
    assert later > armed["status"]["deadMansSwitch"]["expiresAt"]


def _is_armed(installation: Installation, name: str) -> bool:
    armed: str = condition(installation.sandboxes()[name], "DeadMansSwitch")["status"]
    return armed == "True"


@pytest.mark.timeout(120)
def test_longer_life_is_told_to_the_host_without_a_controller(guarded: Installation) -> None:
    """`extend-ttl` reaches the host, which else would take it away at the old end."""
    guarded.ok("apply", "-f", "-", stdin=_manifest("longer", ttl="1h", placement={"host": "local"}))
    guarded.ok("wait", "sandbox/longer", "--for=condition=Ready")

    guarded.ok("extend-ttl", "longer", "--duration", "2h")

    document = json.loads(guarded.ok("get", "sandbox", "longer", "-o", "json"))
    uid = document["metadata"]["uid"].replace("-", "")[:12]
    [switch] = _work_root(guarded).glob(f".switches/*/sbx-{uid}.switch")
    known = int(switch.read_text().split()[2])
    ends_at = datetime.fromisoformat(document["status"]["deadMansSwitch"]["expiresAt"])
    created = datetime.fromisoformat(document["metadata"]["creationTimestamp"])
    assert condition(document, "DeadMansSwitch")["reason"] == "Armed"
    assert known == int(ends_at.timestamp())
    assert (ends_at - created).total_seconds() == 3 * 3600
    guarded.ok("delete", "sandbox/longer")
    assert not switch.exists()
