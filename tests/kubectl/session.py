"""A person with kubectl: one program, one home, one namespace of one running controller."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import yaml

# Seconds for one kubectl, and for something to come true, on two shared cores.
PATIENCE_S = 60.0
_POLL_S = 0.1

GROUP_VERSION = "sandboxer.dev/v1alpha1"
COMMAND = "echo first; exec sleep 2147483647"


class Done(NamedTuple):
    """How a kubectl ended."""

    status: int
    stdout: str
    stderr: str


class Kubectl:
    """
    kubectl without a memory of other tests: its own HOME, cache and kubeconfig.

    Attributes:
        namespace: Where its commands go when they name no other.
        home: Working directory; manifests of a test are written here.
    """

    def __init__(self, program: Path, home: Path, kubeconfig: Path, namespace: str) -> None:
        self.program = program
        self.home = home
        self.namespace = namespace
        self._kubeconfig = home / ".kube/config"
        self._kubeconfig.parent.mkdir(parents=True)
        self.environment = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "TERM": "xterm",
            "KUBECONFIG": str(self._kubeconfig),
        }
        self.use(kubeconfig)

    def use(self, kubeconfig: Path) -> None:
        """Take the kubeconfig a server has written, with this namespace."""
        document = yaml.safe_load(kubeconfig.read_text())
        document["contexts"][0]["context"]["namespace"] = self.namespace
        self._kubeconfig.write_text(yaml.safe_dump(document))
        self._kubeconfig.chmod(0o600)

    def run(self, *argv: str, stdin: str = "", **variables: str) -> Done:
        """
        Run kubectl to its end.

        Args:
            argv: After the program's name.
            stdin: What it reads.
            variables: Of the environment, for this run.
        """
        done = subprocess.run(
            [self.program, *argv], cwd=self.home, env=self.environment | variables,
            input=stdin, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def ok(self, *argv: str, stdin: str = "", **variables: str) -> str:
        """Run kubectl, which must succeed, and return its standard output."""
        done = self.run(*argv, stdin=stdin, **variables)
        assert done.status == 0, f"kubectl {argv}: {done}"
        return done.stdout

    def fails(self, *argv: str, status: int = 1, stdin: str = "") -> str:
        """Run kubectl, which must end with this status, and return what it complains about."""
        done = self.run(*argv, stdin=stdin)
        assert done.status == status, f"kubectl {argv}: {done}"
        return done.stderr

    def document(self, *argv: str) -> dict[str, Any]:
        """Return what a `get` shows as JSON."""
        document: dict[str, Any] = json.loads(self.ok("get", *argv, "-o", "json"))
        return document

    def apply(self, *documents: dict[str, Any], **variables: str) -> str:
        """Apply documents client-side and return what kubectl says."""
        return self.ok("apply", "-f", "-", stdin=manifest(*documents), **variables)

    def start(self, *argv: str) -> Running:
        """Start kubectl and collect what it writes while the test goes on."""
        return Running(
            subprocess.Popen(
                [self.program, *argv], cwd=self.home, env=self.environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
        )  # fmt: skip


class Running:
    """A kubectl that goes on: a watch, a log that is followed, a wait."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        """Have it until the end of the block."""
        return self

    def __exit__(self, *exc: object) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE_S)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()

    @property
    def said(self) -> str:
        """What it has written until now."""
        return "".join(self._lines)

    def until(self, *words: str) -> str:
        """Return what it has said once all of these are in it."""
        until(lambda: all(word in self.said for word in words), lambda: f"{words}: {self.said}")
        return self.said

    def ended(self) -> int:
        """Return its exit status once it has one."""
        status = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return status

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)


def until(holds: Callable[[], object], what: Callable[[], str] = lambda: "") -> None:
    """Return once *holds*; fail when it does not in time."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"it did not come true in time: {what()}"
        time.sleep(_POLL_S)


def manifest(*documents: dict[str, Any]) -> str:
    """Return documents as one YAML stream."""
    return yaml.safe_dump_all(documents)


def sandbox(name: str, *, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """Return a Sandbox of this machine that prints `first` and stays."""
    wished = {"profile": "profile.local", "inputs": {"command": COMMAND}}
    return {
        "apiVersion": GROUP_VERSION,
        "kind": "Sandbox",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": wished | spec,
    }


def pool(name: str, replicas: int) -> dict[str, Any]:
    """Return a SandboxPool of such sandboxes."""
    return {
        "apiVersion": GROUP_VERSION,
        "kind": "SandboxPool",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "template": {"spec": sandbox("any")["spec"]}},
    }


def condition(document: dict[str, Any], type_: str) -> str:
    """Return the status of a condition, empty when it was never stated."""
    conditions = document.get("status", {}).get("conditions", [])
    return next((found["status"] for found in conditions if found["type"] == type_), "")
