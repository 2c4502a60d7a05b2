"""`kubectl wait` and `get -w`: watches that begin, go on and end as they should."""

from __future__ import annotations

import json
import re

import pytest

from tests.kubectl.session import Kubectl, manifest, sandbox, until

WATCH_LIST = {"KUBE_FEATURE_WatchListClient": "true"}


@pytest.fixture(scope="module", autouse=True)
def _one(kubectl: Kubectl) -> None:
    kubectl.apply(sandbox("one"))
    kubectl.ok("wait", "--for=condition=Ready", "sbx/one", "--timeout=60s")


@pytest.mark.parametrize("features", [{}, WATCH_LIST], ids=["list", "watch-list"])
def test_a_condition_is_waited_for(kubectl: Kubectl, features: dict[str, str]) -> None:
    """Trap 10: by LIST and WATCH, and by the streamed list that newer clients ask for."""
    name = f"waited-{len(features)}"
    kubectl.apply(sandbox(name))

    said = kubectl.ok("wait", "--for=condition=Ready", f"sbx/{name}", "--timeout=60s", **features)

    assert said == f"sandbox.sandboxer.dev/{name} condition met\n"
    assert "condition met" in kubectl.ok(
        "wait", "--for=condition=Stalled=false", "sbx/one", "--timeout=30s", **features
    )


def test_a_field_is_waited_for(kubectl: Kubectl) -> None:
    """`--for=jsonpath` looks at the value of a field."""
    said = kubectl.ok("wait", "--for=jsonpath={.status.host}=local", "sbx/one", "--timeout=30s")

    assert said == "sandbox.sandboxer.dev/one condition met\n"


def test_an_object_is_waited_for(kubectl: Kubectl) -> None:
    """`--for=create` ends when somebody has made it."""
    with kubectl.start("wait", "--for=create", "sbx/later", "--timeout=60s") as waiting:
        kubectl.apply(sandbox("later"))

        assert waiting.ended() == 0
        assert "condition met" in waiting.said


def test_the_end_is_waited_for(kubectl: Kubectl) -> None:
    """`--for=delete` ends when the object is gone, and when it never was."""
    kubectl.apply(sandbox("going"))
    with kubectl.start("wait", "--for=delete", "sbx/going", "--timeout=60s") as waiting:
        kubectl.ok("delete", "sbx", "going", "--wait=false")

        assert waiting.ended() == 0
    assert "NotFound" in kubectl.fails("get", "sbx", "going")


def test_a_wait_in_vain(kubectl: Kubectl) -> None:
    """What does not come true in time is an error that names the object."""
    said = kubectl.fails("wait", "--for=condition=Suspended", "sbx/one", "--timeout=1s")

    assert said == "error: timed out waiting for the condition on sandboxes/one\n"


def test_a_stale_status_does_not_satisfy_a_wait(kubectl: Kubectl) -> None:
    """Trap 12: a condition about an older generation is none, until the controller has looked."""
    stale = sandbox("stale", inputs={"command": "exec sleep 2147483647"}) | {"kind": "Sandbox"}
    stale["spec"]["profile"] = "profile.later"
    done = kubectl.run("apply", "-f", "-", stdin=manifest(stale))
    assert done.status == 0, done
    until(lambda: "status" in kubectl.document("sbx", "stale"))
    claim = {"conditions": [_condition("Ready", generation=0)]}
    kubectl.ok(
        "patch", "sbx", "stale", "--subresource=status", "--type=merge",
        "-p", json.dumps({"status": claim}),
    )  # fmt: skip

    said = kubectl.fails("wait", "--for=condition=Ready", "sbx/stale", "--timeout=1s")

    assert "timed out" in said


def _condition(type_: str, *, generation: int) -> dict[str, object]:
    return {
        "type": type_, "status": "True", "reason": "Claimed", "message": "",
        "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip


def test_a_watch_of_one_object_begins_with_the_object(kubectl: Kubectl) -> None:
    """Trap 9: kubectl drops the first event unseen, so the present object must be replayed."""
    columns = ("-o", "jsonpath={.metadata.labels.step}{'\\n'}")
    with kubectl.start("get", "sbx", "one", "-w", *columns) as watching:
        until(lambda: watching.said == "\n")
        kubectl.ok("label", "sbx", "one", "step=first")
        watching.until("first\n")
        kubectl.ok("label", "sbx", "one", "step=second", "--overwrite")

        assert watching.until("second\n").split() == ["first", "second"]


def test_a_watch_of_all_objects_as_a_table(kubectl: Kubectl) -> None:
    """New rows are added below the table, under its one heading."""
    with kubectl.start("get", "sbx", "-w") as watching:
        watching.until("one ")
        kubectl.apply(sandbox("watched"))

        until(lambda: re.search(r"^watched .* Ready +True ", watching.said, re.MULTILINE))
        assert watching.said.count("NAME") == 1


def test_changes_only(kubectl: Kubectl) -> None:
    """`--watch-only` leaves out what is there; `--output-watch-events` says what happened."""
    options = ("--watch-only", "--output-watch-events", "--no-headers")
    with kubectl.start("get", "sbx", *options) as watching:
        # NOTE: there is no word of a watch having begun; the label is set until it is seen.
        steps = iter(range(1000))
        until(
            lambda: (
                kubectl.ok("label", "sbx", "one", f"try={next(steps)}", "--overwrite")
                and "MODIFIED" in watching.said
            )
        )
        kubectl.apply(sandbox("short"))
        kubectl.ok("delete", "sbx", "short")

        said = watching.until("ADDED      short", "DELETED    short")
    assert not said.startswith("ADDED      one")


def test_events_are_followed(kubectl: Kubectl) -> None:
    """`events -w` shows what happens to an object as it happens."""
    with kubectl.start("events", "--for=sandbox/followed", "-w") as watching:
        kubectl.apply(sandbox("followed"))

        watching.until("Routed", "Everything wished runs and is healthy.")
