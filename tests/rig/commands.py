"""Running the programs the rig is built from, as root, with an error that shows what they said."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

# Each of them takes milliseconds; longer means the kernel or the machine is stuck.
COMMAND_TIMEOUT_S = 60.0


class RigError(Exception):
    """The rig cannot be built or used; the message says which command failed and how."""


def is_root() -> bool:
    """Tell whether this process is root already."""
    return os.geteuid() == 0


def as_root(argv: Sequence[str]) -> list[str]:
    """Return *argv* so that it runs as root: unchanged for root, through `sudo -n` otherwise."""
    return list(argv) if is_root() else ["sudo", "-n", *argv]


def run_as_root(*argv: str, check: bool = True, stdin: bytes = b"") -> str:
    """
    Run a program as root and return what it printed on standard output.

    Args:
        argv: Program and arguments.
        check: Whether a non-zero exit status is an error.
        stdin: What it reads.

    Raises:
        RigError: It failed, took longer than `COMMAND_TIMEOUT_S`, or is not installed.
    """
    try:
        done = subprocess.run(
            as_root(argv), input=stdin, capture_output=True, timeout=COMMAND_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        raise RigError(f"{' '.join(argv)}: {err}") from err
    if check and done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise RigError(f"{' '.join(argv)} exited with {done.returncode}: {said[-500:]}")
    return done.stdout.decode(errors="replace")


def say(text: str) -> None:
    """Tell the person at the terminal what the rig is doing."""
    sys.stderr.write(f"rig: {text}\n")
