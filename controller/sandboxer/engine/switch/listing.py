"""What `switch.sh` prints: which switches a host has, and which have fired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, cast, get_args

Watcher = Literal["systemd", "cron", "process"]

# Digits of a lease (30 years), and of a moment (30,000 years).
LEASE_DIGITS = 9
MOMENT_DIGITS = 12

# Lines that are read: two for each sandbox of a host, with room.
MAX_LINES = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The switches of one installation on one host."""

    armed: Mapping[str, tuple[datetime, int]] = field(default_factory=dict)
    """By uid: the end of the lifetime, and the lease in seconds."""
    fired: Mapping[str, datetime] = field(default_factory=dict)
    """By uid: when the host decided to take it away."""
    watcher: Watcher | None = None
    """What watches; None while there is nothing to watch."""
    survives_reboot: bool = False
    odd: str = ""
    """A line that nobody understands; empty when there is none."""


def read_listing(output: bytes) -> Listing:
    """
    Read what `switch.sh` printed; a host's text, so nothing of it is taken on trust.

    What is odd is left out and noted: one damaged file must not hide the other sandboxes.
    """
    armed: dict[str, tuple[datetime, int]] = {}
    fired: dict[str, datetime] = {}
    watcher: Watcher | None = None
    survives, odd = False, ""
    for line in output.decode("utf-8", "replace").splitlines()[:MAX_LINES]:
        match line.split(" "):
            case ["armed", uid, end, lease] if (at := _moment(end)) and _is_lease(lease):
                armed[uid] = (at, int(lease))
            case ["fired", uid, decided] if at := _moment(decided):
                fired[uid] = at
            case ["watcher", name, lasts] if name in get_args(Watcher):
                watcher, survives = cast("Watcher", name), lasts == "yes"
            case _:
                odd = odd or line[:60]
    return Listing(armed=armed, fired=fired, watcher=watcher, survives_reboot=survives, odd=odd)


def _moment(seconds: str) -> datetime | None:
    if not _is_number(seconds, MOMENT_DIGITS):
        return None
    try:
        return datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError):
        return None


def _is_lease(text: str) -> bool:
    return _is_number(text, LEASE_DIGITS)


def _is_number(text: str, digits: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= digits
