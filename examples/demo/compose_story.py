"""The main job on a host: a compose stack over SSH, killed behind our back, repaired, removed."""

from __future__ import annotations

import yaml

from examples.demo.stage import DemoError, Stage
from tests.rig import IMAGE, Rig

_SANDBOX = f"""\
apiVersion: sandboxer.dev/v1alpha1
kind: Sandbox
metadata:
  name: demo
spec:
  profile: profile.compose-e2e
  placement:
    host: h1
  resources:
    memory: 64Mi
  inputs:
    compose: |
      services:
        web:
          image: {IMAGE}
          command: httpd -f -p 8080 -h /etc
          healthcheck:
            test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/passwd"]
            interval: 1s
"""


def tell_compose_story(stage: Stage, rig: Rig) -> None:
    """
    Show the story on host h1 of the rig.

    Raises:
        DemoError: A step did not show what it should.
    """
    _make_ready(stage, rig)
    _repair_drift(stage, rig)
    _tear_down(stage, rig)


def _make_ready(stage: Stage, rig: Rig) -> None:
    stage.tell("A machine of ours: reached over SSH, its host key pinned.")
    stage.show(
        "host.yaml", yaml.safe_dump(rig.hosts["h1"].manifest(probeInterval="2s"), sort_keys=False)
    )
    stage.tell("A sandbox we want there: a compose stack with a health check.")
    stage.show("sandbox.yaml", _SANDBOX)
    stage.run("sandboxer apply -f host.yaml -f sandbox.yaml", expect="created")
    stage.run("sandboxer wait sandbox/demo --for=condition=Ready --timeout 90s")
    stage.run("sandboxer get sandboxes -o wide", expect="Ready")
    stage.run("sandboxer get hosts -o wide")
    stage.tell("Inside it, through the same SSH connection:")
    stage.run("sandboxer exec demo -- sh -c 'id; cat /etc/os-release'", expect="sbx-base")


def _repair_drift(stage: Stage, rig: Rig) -> None:
    stage.tell("Somebody kills its container behind the controller's back:")
    on_host(rig, "podman kill $(podman ps -q --filter label=sandboxer.dev/uid)")
    stage.tell("The controller sees it with the next look at the host, and repairs it:")
    stage.until("sandboxer get sandbox demo -o jsonpath={.status.repairs}", expect="1")
    stage.run("sandboxer wait sandbox/demo --for=condition=Ready --timeout 90s")
    stage.run("sandboxer events")
    on_host(rig, "podman ps --format '{{.Names}} {{.Status}}'", expect="Up")


def _tear_down(stage: Stage, rig: Rig) -> None:
    stage.tell("We want it no more: containers, networks, volumes and workspace go.")
    stage.run("sandboxer delete -f sandbox.yaml --timeout 60s")
    stage.run("sandboxer get sandboxes")
    left = on_host(rig, "podman ps -aq; podman volume ls -q; podman network ls -q; ls /build")
    if left.split() != ["podman"]:
        raise DemoError(f"Something is left on the host: {left}")
    stage.tell("Only podman's own default network is left on the host.")


def on_host(rig: Rig, command: str, *, expect: str = "") -> str:
    """Run a shell line on the host itself, past the controller, and return what it printed."""
    print(f"\nroot@h1:~# {command}", flush=True)
    done = rig.ssh("h1", command)
    print(done.stdout.rstrip(), flush=True)
    if done.returncode or expect not in done.stdout:
        raise DemoError(f"`{command}` on h1: {done.stdout}{done.stderr}")
    return done.stdout
