"""
Where one rig lives: its directory, its network, its names; and who owns it.

Each rig takes a slot. A slot is owned by the process that holds the lock of its file, so the
kernel frees it when the process dies in whatever way; the next owner first removes what the
previous one left behind. Slot 0 is for the command line, whose processes do not stay.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from tests.rig.commands import RigError, run_as_root

# Not under /tmp, /run or /root: every host has its own of those.
RIG_ROOT = Path("/var/lib/sandboxer-rig")

COMMAND_LINE_SLOT = 0
# Runs of the test suite and the demo side by side on one machine.
LAST_SLOT = 15


@dataclass(frozen=True, slots=True)
class Slot:
    """One rig's place on this machine."""

    number: int

    @property
    def directory(self) -> Path:
        """Everything the rig writes."""
        return RIG_ROOT / f"slot-{self.number}"

    @property
    def bridge(self) -> str:
        """The bridge all hosts hang on; interface names have at most 15 characters."""
        return f"sbx{self.number}br"

    @property
    def gateway(self) -> str:
        """Address of this machine on the bridge."""
        return f"10.77.{self.number}.1"

    def address(self, index: int) -> str:
        """Return the address of the host with that number, counted from 1."""
        return f"10.77.{self.number}.{10 + index}"

    def namespace(self, name: str) -> str:
        """Return the name of a host's network namespace."""
        return f"sbx{self.number}{name}"

    def interface(self, name: str) -> str:
        """Return the bridge's end of a host's cable."""
        return f"sbx{self.number}v{name}"


def open_slot(number: int) -> int | None:
    """
    Take the lock of a slot.

    Returns:
        The descriptor that holds the lock, to be kept open; None when somebody else holds it.
    """
    _make_root()
    path = RIG_ROOT / f"slot-{number}.lock"
    # NOTE: it may be another user's file; in a sticky directory the kernel refuses O_CREAT on it.
    flags = os.O_RDONLY if path.exists() else os.O_RDONLY | os.O_CREAT
    descriptor = os.open(path, flags, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def take_free_slot() -> tuple[Slot, int]:
    """
    Take the first slot that nobody owns.

    Raises:
        RigError: All slots are in use.
    """
    for number in range(COMMAND_LINE_SLOT + 1, LAST_SLOT + 1):
        descriptor = open_slot(number)
        if descriptor is not None:
            return Slot(number), descriptor
    raise RigError(f"All {LAST_SLOT} rig slots of this machine are in use. Wait for a run to end.")


def _make_root() -> None:
    if not RIG_ROOT.exists():
        # Shared by all users of the machine who may become root, like /tmp.
        run_as_root("install", "-d", "-m", "1777", str(RIG_ROOT))
