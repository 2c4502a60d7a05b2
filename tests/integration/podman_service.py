"""The podman services that the controller under test started, found by their socket."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def services(socket: str) -> list[int]:
    """Return the process ids of the podman services that listen on *socket*."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = command.read_bytes().split(b"\0")
            if words[0] == b"podman" and f"unix://{socket}".encode() in words[1:]:
                found.append(int(command.parent.name))
    return found


def kill_service(socket: str) -> None:
    for pid in services(socket):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
