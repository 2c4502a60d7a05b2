"""`explain` on real hosts: it names what killed a sandbox and who deleted it, also when it is gone."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.installation import Installation, is_ready
from tests.integration.cli_lab import said, started
from tests.rig import Rig
from tests.rig.kubectl import kubectl_program

pytestmark = pytest.mark.timeout(300)

_PATIENCE_S = 90.0

# Waits to be told, then needs all the memory there is.
_HOG = "while [ ! -e /tmp/go ]; do sleep 0.1; done; exec tail /dev/zero"


@pytest.fixture
def fleet(rig: Rig, tmp_path: Path) -> Iterator[Installation]:
    """An installation with host h1 under a controller; at the end nothing of it is left there."""
    rig.clean("h1")
    made = Installation(tmp_path)
    host = yaml.safe_dump(rig.hosts["h1"].manifest(probeInterval="2s"))
    made.ok("apply", "-f", "-", stdin=host)
    started(made)
    yield made
    rig.heal("h1")
    made.run("delete", "sandboxes", "--all", "--ignore-not-found")
    made.kill()


def manifest(rig: Rig, name: str, command: str = "sleep 100000", **spec: Any) -> str:
    """Return a sandbox of one container on h1."""
    service = {"image": rig.image, "command": ["sh", "-c", command]}
    return yaml.safe_dump(
        {
            "apiVersion": "sandboxer.dev/v1alpha1",
            "kind": "Sandbox",
            "metadata": {"name": name},
            "spec": {
                "profile": "profile.compose-e2e",
                "placement": {"host": "h1"},
                "inputs": {"compose": json.dumps({"services": {"web": service}})},
                **spec,
            },
        }
    )


def make(
    fleet: Installation, rig: Rig, name: str, command: str = "sleep 100000", **spec: Any
) -> str:
    """Apply a sandbox, wait until it is Ready and return its uid."""
    fleet.ok("apply", "-f", "-", stdin=manifest(rig, name, command, **spec))
    fleet.wait_until(
        f"{name} is Ready", lambda: is_ready(fleet.sandboxes()[name]), timeout_s=_PATIENCE_S
    )
    uid: str = fleet.sandboxes()[name]["metadata"]["uid"]
    return uid


def story(fleet: Installation, name: str) -> dict[str, Any]:
    """Return all that is known of a sandbox, living or gone."""
    (found,) = json.loads(fleet.ok("explain", name, "-o", "json"))["items"]
    assert isinstance(found, dict)
    return found


def newest(fleet: Installation, name: str, reason: str) -> dict[str, Any]:
    """Return the newest transition of that reason, empty when there is none."""
    told = story(fleet, name)["transitions"]
    return next((each for each in reversed(told) if each["reason"] == reason), {})


def wait_for(fleet: Installation, name: str, reason: str) -> dict[str, Any]:
    """Return the newest transition of that reason once there is one."""
    fleet.wait_until(
        f"{name}: {reason}", lambda: bool(newest(fleet, name, reason)), timeout_s=_PATIENCE_S
    )
    return newest(fleet, name, reason)


@pytest.mark.exhaustive
def test_what_killed_it_is_named(fleet: Installation, rig: Rig) -> None:
    """Memory, a kill by hand and a host that went are told apart, with exit code and limit."""
    make(fleet, rig, "hog", _HOG, resources={"memory": "64Mi"}, driftPolicy="Report")
    uid = make(fleet, rig, "shot")

    fleet.ok("exec", "hog", "--", "touch", "/tmp/go")
    hog = wait_for(fleet, "hog", "Drifted")
    rig.ssh("h1", f"podman kill $(podman ps -q --filter label=sandboxer.dev/uid={uid})")
    shot = wait_for(fleet, "shot", "Drifted")
    repaired = wait_for(fleet, "shot", "Repaired")
    rig.cut("h1")
    fleet.wait_until(
        "the host is missed",
        lambda: story(fleet, "shot")["phase"] == "Unknown",
        timeout_s=_PATIENCE_S,
    )
    lost = story(fleet, "shot")["transitions"][-1]
    away = fleet.ok("explain", "shot")
    rig.mend("h1")
    back = wait_for(fleet, "shot", "HostBack")
    text = fleet.ok("explain", "hog")
    fleet.ok("delete", "sandbox", "hog")
    gone = fleet.ok("explain", "hog")

    assert hog["evidence"]["exitCode"] == "137"
    assert hog["evidence"]["oomKilled"] == "true"
    assert hog["evidence"]["memoryLimit"] == "64Mi"
    assert hog["evidence"]["endedAt"]
    for told in (text, gone):
        assert "was killed because it needed more memory than 64 MiB (exit 137, OOM)" in told
    assert shot["evidence"]["exitCode"] == "137"
    assert "oomKilled" not in shot["evidence"]
    assert "ended with status 137 (SIGKILL)" in shot["message"]
    assert {shot["trigger"], repaired["trigger"]} <= {"events", "probe"}
    assert (lost["before"], lost["after"], lost["type"]) == ("Ready", "Unknown", "Warning")
    assert "h1" in lost["message"]
    assert "shot is Unknown." in away
    assert back["after"] == "Ready"


@pytest.mark.exhaustive
def test_who_deleted_it_is_named(fleet: Installation, rig: Rig) -> None:
    """A command, a token's kubectl, a manifest that went and a lifetime that ended are told apart."""
    (fleet.specs / "kept.yaml").write_text(manifest(rig, "kept"))
    for name in ("typed", "kubectl"):
        make(fleet, rig, name)
    short = manifest(rig, "short", lifetime={"ttl": "20s"})
    fleet.ok("apply", "-f", "-", stdin=short)
    fleet.wait_until("kept", lambda: "kept" in fleet.sandboxes(), timeout_s=_PATIENCE_S)
    token = fleet.ok("token", "create", "bob", "--role", "admin").strip()

    fleet.ok("delete", "sandbox", "typed")
    kubectl(fleet, token, "delete", "sandbox", "kubectl", "--wait=true")
    (fleet.specs / "other.yaml").write_text(manifest(rig, "other", operatingMode="Suspended"))
    (fleet.specs / "kept.yaml").unlink()
    fleet.wait_until(
        "all but one are gone",
        lambda: set(fleet.sandboxes()) <= {"other"},
        timeout_s=_PATIENCE_S,
    )
    texts = {name: fleet.ok("explain", name) for name in ("typed", "kubectl", "kept", "short")}
    stones = {name: story(fleet, name)["tombstone"] for name in texts}

    assert "is gone: user local deleted it with sandboxer/" in texts["typed"]
    assert "is gone: user bob deleted it with kubectl" in texts["kubectl"]
    assert "is gone: source specs-" in texts["kept"]
    assert f"Because: Its manifest is gone from {fleet.specs}." in texts["kept"]
    assert "is gone: it expired" in texts["short"]
    assert "Because: Its lifetime ended at" in texts["short"]
    assert {stone["host"] for stone in stones.values()} == {"h1"}
    assert stones["kubectl"]["deletedBy"] == "user/bob"
    assert "on host h1 by ext.compose-ssh" in texts["typed"]


def kubectl(fleet: Installation, token: str, *arguments: str) -> None:
    """Run the real kubectl as the user of a token."""
    kubeconfig = yaml.safe_load((fleet.directory / "data/kubeconfig").read_text())
    kubeconfig["users"][0]["user"] = {"token": token}
    path = fleet.directory / "bob.kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig))
    path.chmod(0o600)
    home = {"HOME": str(fleet.directory), "PATH": os.environ["PATH"]}
    options = [f"--kubeconfig={path}", f"--cache-dir={fleet.directory / 'cache'}"]
    done = subprocess.run(
        [kubectl_program(), *options, *arguments],
        env=home, capture_output=True, text=True, timeout=_PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stderr}{said(fleet)[-2000:]}"


def test_a_pending_one_says_what_each_host_said(fleet: Installation, rig: Rig) -> None:
    """What cannot be placed is explained host by host, and remembered when it is given up."""
    rejected: dict[str, Any] = {"placement": {"hostSelector": {"matchLabels": {"gpu": "true"}}}}
    fleet.ok("apply", "-f", "-", stdin=manifest(rig, "waits", **rejected))
    wait_for(fleet, "waits", "NoFit")

    waiting = fleet.ok("explain", "waits")
    fleet.ok("delete", "sandbox", "waits")
    gone = fleet.ok("explain", "waits")

    assert "default/waits is Pending." in waiting
    assert "  ext.compose-ssh on h1: its labels do not match the selector.\n" in waiting
    assert "its labels do not match the selector." in gone
    assert "without a place" in gone
