"""
The record of what `provision` made, kept on the host beside the workspace's marker.

A container is known again by its id: image, command, environment, mounts and ports of one id never
change, so whoever has another id is another container. What can change under the same id is
compared: name, networks, and the limits as the kernel holds them, because podman's own answer does
not follow its `update` (4.3). A network or volume is known again by its name and, where the engine
says it, the time it was made.

The file's first line is JSON; for each file of a cgroup that limits a container a line
`limit ID FIELD PATH VALUE` follows. `scripts.RECORD` writes it, `scripts.WORKSPACES` reads those of all
sandboxes with one awk and prints a limit only when it is not what it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sandboxer.errors import TransientError
from sandboxer.units import format_bytes

# Last line of what `scripts.WORKSPACES` prints; without it the answer was cut off.
_WHOLE = "whole - -"

# Bytes; cgroup v1 says "no limit" with the largest number of pages that fits 63 bits.
_NO_LIMIT_BYTES = 2**62

# Microseconds; the period engines give to `--cpus`, and all that cgroup v1's file leaves out.
_CPU_PERIOD_US = 100_000


class MadeContainer(BaseModel):
    """One container as it was made."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    service: str
    name: str
    image: str = ""
    """As the engine names it."""
    networks: list[str] = Field(default=[], max_length=64)
    """Names, in their order."""


class Record(BaseModel):
    """What a `provision` made."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    containers: dict[str, MadeContainer] = Field(max_length=1024)
    """By id."""
    networks: dict[str, str] = Field(default={}, max_length=1024)
    """When each was made, by name; empty where the engine does not say."""
    volumes: dict[str, str] = Field(default={}, max_length=1024)
    """The same of volumes."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that is not what it was, as the kernel's file says it."""

    field: str
    """`memory`, `pids` or `cpu`."""
    wanted: str
    seen: str


@dataclass(slots=True)
class Made:
    """What is known of one workspace's record."""

    record: Record | None = None
    """None when there is none that can be read."""
    before: Record | None = None
    """The one of before, while what it speaks of is brought up again."""
    limits: dict[str, list[Limit]] = field(default_factory=dict)
    """By id of the container."""
    has_repo: bool = True
    """Whether the directory of the user's files is there."""


def read_made(lines: Iterable[str]) -> dict[str, Made]:
    """
    Read what `scripts.WORKSPACES` printed, by the workspace's name; other lines are passed over.

    Raises:
        TransientError: The answer is cut off.
    """
    found: dict[str, Made] = {}
    whole = False
    for line in lines:
        kind, _, rest = line.partition(" ")
        name, _, value = rest.partition(" ")
        if kind == "made":
            found.setdefault(name, Made()).record = _record(value)
        elif kind == "before":
            found.setdefault(name, Made()).before = _record(value)
        elif kind == "limit":
            _add_limit(found.setdefault(name, Made()), value)
        elif kind == "empty":
            found.setdefault(name, Made()).has_repo = False
        whole = line == _WHOLE
    if not whole:
        raise TransientError("The answer about the workspaces is incomplete.", reason="BadAnswer")
    return found


def limit_text(name: str, value: str) -> str:
    """Return a limit of the kernel's for people: `64 MiB`, `0.5`, `50`, `no limit`."""
    number, _, period = value.partition(" ")
    if number in ("max", "-1") or not number.isdecimal():
        return "no limit"
    if name == "memory":
        size_bytes = int(number)
        return "no limit" if size_bytes >= _NO_LIMIT_BYTES else format_bytes(size_bytes)
    if name == "cpu":
        period_us = int(period) if period.isdecimal() and int(period) else _CPU_PERIOD_US
        return f"{int(number) / period_us:g}"
    return number


def _record(text: str) -> Record | None:
    try:
        return Record.model_validate_json(text)
    except ValidationError:
        return None


def _add_limit(made: Made, text: str) -> None:
    id_, _, rest = text.partition(" ")
    name, _, values = rest.partition(" ")
    wanted, bar, seen = values.partition("|")
    if bar and name in ("memory", "pids", "cpu"):
        made.limits.setdefault(id_, []).append(Limit(name, wanted, seen))
