"""One installation of sandboxer under test: a data directory, the command line, a controller."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandboxer.settings import socket_address

_SANDBOXES = "/apis/sandboxer.dev/v1alpha1/namespaces/default/sandboxes"

# Taking thirty sandboxes away takes about a minute on two cores.
_COMMAND_TIMEOUT_S = 300.0
_POLL_S = 0.2
_STOP_TIMEOUT_S = 30.0


class Installation:
    """
    `sandboxer` as a person uses it: processes only, in a data directory of its own.

    Attributes:
        specs: The directory the controller watches.
        log: What every controller of this installation wrote, one after the other.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.specs = directory / "specs"
        self.specs.mkdir()
        self.log = directory / "controller.log"
        self._controller: subprocess.Popen[bytes] | None = None
        self._environment = os.environ | {"SANDBOXER_DATA_DIR": str(directory / "data")}

    @property
    def environment(self) -> dict[str, str]:
        """What its processes are started with."""
        return self._environment

    def set_environment(self, **variables: str) -> None:
        """Set variables for every further process of this installation."""
        self._environment |= variables

    def start(self, *options: str) -> None:
        """Start a controller; it may still be starting when this returns."""
        with self.log.open("ab") as log:
            self._controller = subprocess.Popen(
                [_program(), "controller", "run", "--specs", str(self.specs), *options],
                env=self._environment, cwd=self.directory, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self) -> None:
        """End the controller with SIGKILL, as a power loss or the kernel would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int | None:
        """End the controller with SIGTERM and return its exit status; None when none runs."""
        return self._end(signal.SIGTERM)

    def run(
        self, *arguments: str, stdin: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """
        Run `sandboxer` with these arguments; the result has returncode, stdout and stderr.

        Args:
            arguments: After the program's name.
            stdin: What it reads.
            variables: Of the environment, for this run.
        """
        return subprocess.run(
            [_program(), *arguments],
            env=self._environment | variables, cwd=self.directory, input=stdin, capture_output=True, text=True,
            timeout=_COMMAND_TIMEOUT_S, check=False,
        )  # fmt: skip

    def ok(self, *arguments: str, stdin: str = "") -> str:
        """Run `sandboxer`, which must succeed, and return its standard output."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"sandboxer {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def sandboxes(self) -> dict[str, dict[str, Any]]:
        """Return the documents of all sandboxes by name."""
        # NOTE: the controller is asked directly, if it runs: tests look often, and each command
        # costs a third of a second of processor time.
        listed = self._asked(_SANDBOXES) or json.loads(self.ok("get", "sandboxes", "-o", "json"))
        return {item["metadata"]["name"]: item for item in listed["items"]}

    def wait_until(self, what: str, holds: Callable[[], bool], *, timeout_s: float) -> None:
        """Return when *holds* does; fail with the end of the log when it does not in time."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline:
                said = self.log.read_text(errors="replace")[-4000:]
                raise AssertionError(f"not within {timeout_s:.0f} s: {what}\n{said}")
            time.sleep(_POLL_S)

    def _asked(self, path: str) -> dict[str, Any] | None:
        """Return what the running controller answers; None when none does."""
        with contextlib.closing(_SocketConnection(self.directory / "data/sandboxer.sock")) as asked:
            try:
                asked.request("GET", path)
                answer = asked.getresponse()
                document: dict[str, Any] = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError):
                return None
        return document if answer.status == http.HTTPStatus.OK else None

    def _end(self, signum: signal.Signals) -> int | None:
        if self._controller is None:
            return None
        self._controller.send_signal(signum)
        status = self._controller.wait(_STOP_TIMEOUT_S)
        self._controller = None
        return status


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_STOP_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(socket_address(self._path))


def _program() -> str:
    found = shutil.which("sandboxer", path=str(Path(sys.prefix) / "bin"))
    assert found, "sandboxer is not installed beside this Python"
    return found


def condition(document: dict[str, Any], type_: str) -> dict[str, Any]:
    """Return a condition of a document, empty when it was never stated."""
    conditions = document.get("status", {}).get("conditions", [])
    return next((found for found in conditions if found["type"] == type_), {})


def is_ready(document: dict[str, Any]) -> bool:
    """Tell whether a sandbox is Ready with its newest spec."""
    ready = condition(document, "Ready")
    generation = document["metadata"]["generation"]
    return ready.get("status") == "True" and ready.get("observedGeneration") == generation
