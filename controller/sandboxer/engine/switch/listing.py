"""What `switch.sh` prints: which switches a host has, and which have fired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, cast, get_args

from sandboxer.errors import TransientError

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

    def __bool__(self) -> bool:
        """Tell whether the host has any."""
        return bool(self.armed or self.fired)


def read_listing(host: str, output: bytes) -> Listing:
    """
    Read what `switch.sh` printed; a host's text, so nothing of it is taken on trust.

    Raises:
        TransientError: It is not such an output.
    """
    armed: dict[str, tuple[datetime, int]] = {}
    fired: dict[str, datetime] = {}
    watcher: Watcher | None = None
    survives = False
    for line in output.decode("utf-8", "replace").splitlines()[:MAX_LINES]:
        match line.split(" "):
            case ["armed", uid, end, lease] if _is_number(lease, LEASE_DIGITS):
                armed[uid] = (_moment(host, end), int(lease))
            case ["fired", uid, at]:
                fired[uid] = _moment(host, at)
            case ["watcher", name, lasts] if name in get_args(Watcher):
                watcher, survives = cast("Watcher", name), lasts == "yes"
            case _:
                raise _garbage(host, line)
    return Listing(armed=armed, fired=fired, watcher=watcher, survives_reboot=survives)


def _moment(host: str, seconds: str) -> datetime:
    if not _is_number(seconds, MOMENT_DIGITS):
        raise _garbage(host, seconds)
    try:
        return datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError):
        raise _garbage(host, seconds) from None


def _is_number(text: str, digits: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= digits


def _garbage(host: str, text: str) -> TransientError:
    return TransientError(
        f"Host {host} says of its dead-man's switches what nobody understands: {text[:60]!r}.",
        reason="SwitchesUnreadable",
    )
