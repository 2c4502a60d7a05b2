"""The main job without any right: a process on this machine, killed behind our back, repaired."""

from __future__ import annotations

from examples.demo.stage import DemoError, Stage

_SANDBOX = """\
apiVersion: sandboxer.dev/v1alpha1
kind: Sandbox
metadata:
  name: demo
spec:
  profile: profile.sandbox-canary
"""


def tell_local_story(stage: Stage) -> None:
    """
    Show the story with `ext.local`.

    Raises:
        DemoError: A step did not show what it should.
    """
    stage.tell("A sandbox we want on this machine:")
    stage.show("sandbox.yaml", _SANDBOX)
    stage.run("sandboxer apply -f sandbox.yaml", expect="created")
    stage.run("sandboxer wait sandbox/demo --for=condition=Ready --timeout 60s")
    stage.run("sandboxer get sandboxes -o wide", expect="Ready")
    stage.run("sandboxer exec demo -- sh -c 'id; cat /etc/os-release'", expect="uid=")
    stage.tell("Somebody kills its process behind the controller's back:")
    stage.run(f"kill -9 {_process_of(stage)}")
    stage.tell("The controller sees it with its next look, and repairs it:")
    stage.until("sandboxer get sandbox demo -o jsonpath={.status.repairs}", expect="1")
    stage.run("sandboxer wait sandbox/demo --for=condition=Ready --timeout 60s")
    stage.run("sandboxer events")
    stage.tell("We want it no more:")
    stage.run("sandboxer delete -f sandbox.yaml --timeout 60s")
    stage.run("sandboxer get sandboxes")


def _process_of(stage: Stage) -> str:
    line = 'sandboxer get sandbox demo -o jsonpath={.status.resources[?(@.kind=="process")].name}'
    name = stage.run(line)
    digits = "".join(character for character in name if character.isdigit())
    if not digits:
        raise DemoError(f"The status names no process: {name!r}")
    return digits
