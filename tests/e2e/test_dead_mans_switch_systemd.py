"""A host with a real systemd, rebooted while no controller is left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from tests.e2e.ending_soon import end_soon
from tests.e2e.installation import Installation, condition
from tests.rig import Rig, RigError
from tests.rig.install import install_missing, why_not

PROFILE = """
apiVersion: sandboxer.dev/v1alpha1
kind: Profile
metadata: {name: profile.guarded}
spec:
  candidates: [{extension: ext.vm-packer}]
  deadMansSwitch: {leaseDuration: 3s}
"""
SANDBOX = """
apiVersion: sandboxer.dev/v1alpha1
kind: Sandbox
metadata: {name: brief}
spec:
  profile: profile.guarded
  inputs: {vm: h1}
  lifetime: {ttl: 1h}
"""


@pytest.fixture
def machine() -> Iterator[Rig]:
    """One host whose PID 1 is systemd."""
    if not install_missing({"systemctl": "systemd"}):
        raise RigError(f"There is no systemd: {why_not() or 'packages are missing.'}")
    with Rig.start(1, init="systemd") as rig:
        yield rig


@pytest.mark.timeout(240)
def test_rebooted_host_takes_away_what_has_expired(
    installation: Installation, machine: Rig
) -> None:
    """Its timer is there after the reboot, does its work without a controller, and goes."""
    host = machine.hosts["h1"]
    installation.ok("apply", "-f", "-", stdin=PROFILE)
    manifest = host.manifest(probeInterval="1s", composeCommand=None)
    installation.ok("apply", "-f", "-", stdin=yaml.safe_dump(manifest))
    installation.start()
    installation.ok("apply", "-f", "-", stdin=SANDBOX)
    installation.ok("wait", "sandbox/brief", "--for=condition=DeadMansSwitch", "--timeout=60s")
    end_soon(installation, SANDBOX)
    armed = condition(installation.sandboxes()["brief"], "DeadMansSwitch")
    installation.kill()
    made = host.ssh("ls -d /build/sbx-*").stdout
    timers = host.ssh("systemctl list-units --type=timer --plain --no-legend").stdout

    host.kill()
    host.boot()

    installation.wait_until(
        "the workspace has gone",
        lambda: host.ssh("ls -d /build/sbx-*").returncode != 0,
        timeout_s=120,
    )
    installation.wait_until(
        "the timer has gone",
        lambda: host.ssh("ls /etc/systemd/system/sandboxer-*").returncode != 0,
        timeout_s=60,
    )
    installation.start()
    installation.wait_until("it is over", lambda: not installation.sandboxes(), timeout_s=60)
    assert "watched by systemd, also after a reboot" in armed["message"]
    assert made
    assert "sandboxer-switch-" in timers
    assert "SwitchFired" in installation.ok("explain", "brief")
