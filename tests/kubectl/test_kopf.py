"""kopf, a framework for operators, reacts to Sandboxes: examples/06-kopf against a controller."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubectl.session import PATIENCE_S, Kubectl, sandbox, until

CHECKOUT = Path(__file__).parents[2]
HANDLERS = CHECKOUT / "examples/06-kopf/handlers.py"


@pytest.fixture
def operator(kubectl: Kubectl, tmp_path: Path) -> Iterator[Path]:
    """The example's operator in this file's namespace; yields its log."""
    log = tmp_path / "kopf.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                Path(sys.prefix) / "bin/kopf", "run", "--standalone",
                f"--namespace={kubectl.namespace}", HANDLERS,
            ],
            env=kubectl.environment, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        yield log
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        # What an operator left behind would hold its sandboxes for ever.
        if kubectl.ok("get", "sbx", "one", "--ignore-not-found"):
            release = '{"metadata": {"finalizers": ["sandboxer.dev/teardown"]}}'
            kubectl.run("patch", "sbx", "one", "--type=merge", "-p", release)


def test_an_operator_reacts_to_sandboxes(kubectl: Kubectl, operator: Path) -> None:
    """It greets, marks, is asked before the end, and lets go."""
    kubectl.apply(sandbox("one"))
    until(
        lambda: labels(touched(kubectl)).get("example.com/phase") == "Ready",
        lambda: operator.read_text() + kubectl.ok("describe", "sbx", "one"),
    )
    until(
        lambda: "Hello, one." in touched(kubectl).ok("events", "--for=sandbox/one"),
        operator.read_text,
    )
    assert "Hello, one." in kubectl.ok("get", "events.events.k8s.io")
    assert "kopf.zalando.org/KopfFinalizerMarker" in kubectl.ok("get", "sbx", "one", "-o", "yaml")

    kubectl.ok("delete", "sbx", "one", "--timeout=60s")

    assert "Farewell, one." in operator.read_text()
    assert "ERROR" not in operator.read_text()


def touched(kubectl: Kubectl) -> Kubectl:
    """
    Change the sandbox, so that there is one more event.

    kopf 1.45 adds its finalizer by a JSON patch that tests the version. When it loses that race it
    calls no `on.create` until the next event but one, and a sandbox that is Ready has none.
    """
    kubectl.ok("annotate", "sbx", "one", f"example.com/touched={time.monotonic()}", "--overwrite")
    return kubectl


def labels(kubectl: Kubectl) -> dict[str, str]:
    """Return the labels of the sandbox."""
    found: dict[str, str] = kubectl.document("sbx", "one")["metadata"].get("labels", {})
    return found
