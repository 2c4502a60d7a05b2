"""What people and kernels do to single sandboxes behind the controller's back."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.rig import Rig
from tests.soak.schedule import Stroke

# Takes one of this installation's containers; prints whose it is. $1 is the environment, $2 the
# draw; nothing is done where there is none.
_PICK: Final = """\
set -- "$2" $(podman ps -aq --no-trunc --filter "label=sandboxer.dev/environment=$1" | sort)
n=$(($1 % ($# > 1 ? $# - 1 : 1) + 1)); shift "$n"
[ $# -gt 0 ] || exit 0
uid=$(podman inspect --format '{{index .Config.Labels "sandboxer.dev/uid"}}' "$1") && echo "$uid"
short=sbx-$(printf %s "$uid" | tr -d - | cut -c 1-12)
exec >/dev/null 2>&1
"""

_HARMS: Final[Mapping[str, str]] = {
    "kill": 'podman kill "$1"',
    "remove": 'podman rm -f -t 0 "$1"',
    "stop": 'podman stop -t 0 "$1"',
    "pause": 'podman pause "$1"',
    "disconnect": (
        'for n in $(podman network ls -q --filter "name=$short"); do '
        'podman network disconnect -f "$n" "$1"; done'
    ),
    "workspace": 'rm -rf "/build/$short"',
}


class Harm:
    """
    Does harm to one sandbox at a time.

    Args:
        rig: The hosts with containers.
        work_root: Where the workspaces of local ones are.
        environment: Id of the installation whose sandboxes are harmed, and nobody else's.
    """

    def __init__(self, rig: Rig, work_root: Path, environment: str) -> None:
        self._rig = rig
        self._work_root = work_root
        self._environment = environment

    def strike(self, stroke: Stroke) -> str | None:
        """Do it; return the uid, empty when there was nothing to harm, None when it is no harm."""
        if stroke.kind in _HARMS:
            return self._on_host(stroke, _HARMS[stroke.kind])
        if stroke.kind in ("process", "directory"):
            return self._here(stroke)
        return None

    def _on_host(self, stroke: Stroke, harm: str) -> str:
        words = f"set -- {self._environment} {stroke.draw}\n"
        return self._rig.ssh(stroke.host, f"{words}{_PICK}{harm}").stdout.strip()

    def _here(self, stroke: Stroke) -> str:
        found = processes(self._environment)
        if not found:
            return ""
        uid = sorted(found)[stroke.draw % len(found)]
        harm: Callable[[str], None] = self._kill if stroke.kind == "process" else self._remove
        harm(uid)
        return uid

    def _kill(self, uid: str) -> None:
        for pid in processes(self._environment).get(uid, ()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _remove(self, uid: str) -> None:
        shutil.rmtree(self._work_root / short_id(uid), ignore_errors=True)


def short_id(uid: str) -> str:
    """Return the name of what a sandbox is made of."""
    return f"sbx-{uid.replace('-', '')[:12]}"


def processes(environment: str) -> dict[str, list[int]]:
    """
    Return the processes of an installation's local sandboxes by uid, as the kernel has them.

    Args:
        environment: Id of the installation; empty for all of them.
    """
    found: dict[str, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        for word in _environ(int(entry.name)):
            if word.startswith(f"SANDBOXER_ID={environment}") and "/" in word:
                found.setdefault(word.rpartition("/")[2], []).append(int(entry.name))
    return found


def version(pid: int) -> str:
    """Return the variable VERSION a process was born with, empty without one."""
    words = [word for word in _environ(pid) if word.startswith("VERSION=")]
    return words[0].removeprefix("VERSION=") if words else ""


def _environ(pid: int) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    return []
