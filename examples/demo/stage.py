"""
Where the demo plays: a temporary data directory, the controller in it, and the narration.

Everything goes through the real command line, in processes of its own; nothing of the package is
imported here. What is printed after a `$` was run exactly so.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# A step that takes longer is broken; the slowest takes about ten seconds on two idle cores.
STEP_TIMEOUT_S = 120.0
# Long enough for the pass under way to end.
STOP_TIMEOUT_S = 20.0
_POLL_S = 0.1


class DemoError(Exception):
    """A step did not show what it should; the message says which and what was seen."""


class Stage:
    """
    A data directory with a controller, and commands run in front of the reader.

    Attributes:
        directory: Temporary; holds the store, the manifests and the controller's log.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = os.environ | {
            "SANDBOXER_DATA_DIR": str(directory / "data"),
            "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ.get('PATH', os.defpath)}",
            "COLUMNS": "120",
            "NO_COLOR": "1",
        }

    def tell(self, text: str) -> None:
        """Say a sentence to the reader."""
        print(f"\n# {text}", flush=True)

    def show(self, name: str, text: str) -> None:
        """Write a manifest into the directory and show it."""
        (self.directory / name).write_text(text)
        print(f"\n$ cat {name}\n{text.rstrip()}", flush=True)

    def run(self, line: str, *, expect: str = "") -> str:
        """
        Run a command line in the directory, show it with what it printed, and return that.

        Args:
            line: As a person types it; no shell reads it.
            expect: Text that must be among what it prints.

        Raises:
            DemoError: It failed, or did not print what was expected.
        """
        print(f"\n$ {line}", flush=True)
        done = self._run(line)
        print(done.stdout.rstrip(), flush=True)
        if done.returncode:
            raise DemoError(f"`{line}` exited with {done.returncode}.")
        if expect not in done.stdout:
            raise DemoError(f"`{line}` did not print {expect!r}.")
        return done.stdout

    def until(self, line: str, *, expect: str) -> None:
        """Run a command again and again, unseen, until it prints *expect*; then show it."""
        deadline = time.monotonic() + STEP_TIMEOUT_S
        while expect not in self._run(line).stdout:
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
        self.run(line, expect=expect)

    def _run(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            shlex.split(line), cwd=self.directory, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=STEP_TIMEOUT_S, check=False,
        )  # fmt: skip


@contextlib.contextmanager
def open_stage() -> Iterator[Stage]:
    """Make the data directory, run a controller in it, and remove both at the end."""
    with tempfile.TemporaryDirectory(prefix="sandboxer-demo-") as name:
        stage = Stage(Path(name))
        (stage.directory / "specs").mkdir()
        with _controller(stage):
            yield stage


def _await_socket(stage: Stage, process: subprocess.Popen[bytes]) -> None:
    """Wait until the controller serves; what is applied earlier would find nobody."""
    deadline = time.monotonic() + STEP_TIMEOUT_S
    while not (stage.directory / "data" / "sandboxer.sock").exists():
        if process.poll() is not None:
            raise DemoError(f"The controller ended with {process.returncode}.")
        if time.monotonic() > deadline:
            raise DemoError(f"The controller did not serve within {STEP_TIMEOUT_S:g} s.")
        time.sleep(_POLL_S)


@contextlib.contextmanager
def _controller(stage: Stage) -> Iterator[None]:
    line = "sandboxer controller run --specs specs"
    print(f"\n$ {line} &", flush=True)
    log = stage.directory / "controller.log"
    with log.open("wb") as output:
        # A session of its own: Ctrl-C at the terminal must not stop it before the clean-up.
        process = subprocess.Popen(
            shlex.split(line), cwd=stage.directory, env=stage.environment,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        _await_socket(stage, process)
        yield
    except BaseException:
        print(f"\nThe controller's last words:\n{log.read_text(errors='replace')[-3000:]}")
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
