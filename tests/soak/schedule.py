"""What happens when: drawn from the seed before anything starts, so that it can be replayed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of stroke."""

    weight: int
    """How often it is drawn, compared with the others."""
    lasts_s: tuple[float, float] | None = None
    """Shortest and longest time until its cure; None when it needs none."""
    needs_host: bool = True


# Times are such that each limit of the controller is met on both sides: a probe's connection times
# out after 10 s, an SSH link is given up after 15 s without an answer.
KINDS: Final[dict[str, Kind]] = {
    # A host.
    "cut": Kind(4, (2.0, 25.0)),
    "drop": Kind(2, (2.0, 25.0)),
    "reset": Kind(2, (2.0, 15.0)),
    "hang": Kind(3, (2.0, 25.0)),
    "lossy": Kind(2, (5.0, 20.0)),
    "delay": Kind(3, (5.0, 25.0)),
    "sever": Kind(4),
    "off": Kind(2, (1.0, 15.0)),
    "fill": Kind(3, (4.0, 20.0)),
    "engine": Kind(3, (1.0, 15.0)),
    # One sandbox, by hand.
    "kill": Kind(5),
    "remove": Kind(4),
    "stop": Kind(2),
    "pause": Kind(2),
    "disconnect": Kind(1),
    "workspace": Kind(2),
    "process": Kind(4, needs_host=False),
    "directory": Kind(2, needs_host=False),
    # The controller.
    "crash": Kind(9, (0.0, 4.0), needs_host=False),
    "restart": Kind(1, needs_host=False),
    # What people want.
    "make": Kind(4, needs_host=False),
    "edit": Kind(6, needs_host=False),
    "delete": Kind(4, needs_host=False),
    "suspend": Kind(3, needs_host=False),
    "nonsense": Kind(2, (2.0, 10.0), needs_host=False),
}

# Share of the run after which nothing begins that needs a cure, so that the end is not one fault.
_LAST_BEGIN: Final = 0.97


@dataclass(frozen=True, slots=True, order=True)
class Stroke:
    """One thing that happens."""

    at_s: float
    """Seconds since the start."""
    kind: str
    host: str = ""
    lasts_s: float = 0.0
    """Seconds until its cure."""
    draw: int = 0
    """Which of the things it may hit, modulo their number: that depends on what there is then."""
    cures: bool = False
    """Whether this is the end of a stroke, not its beginning."""

    def __str__(self) -> str:
        """Return a line for a person."""
        where = f" {self.host}" if self.host else ""
        until = f" for {self.lasts_s:.1f} s" if self.lasts_s and not self.cures else ""
        return f"{self.at_s:6.1f} s {'end of ' if self.cures else ''}{self.kind}{where}{until}"


def schedule(seed: int, *, length_s: float, hosts: Sequence[str], gap_s: float) -> list[Stroke]:
    """
    Return all strokes and their cures in order of time.

    Args:
        seed: Alike seeds give alike schedules.
        length_s: Seconds in which strokes begin; a cure may come later.
        hosts: Names of the hosts that can be struck.
        gap_s: Mean seconds between two strokes.
    """
    return sorted(_strokes(random.Random(seed), length_s, hosts, gap_s))


def _strokes(
    chance: random.Random, length_s: float, hosts: Sequence[str], gap_s: float
) -> Iterator[Stroke]:
    names, weights = list(KINDS), [kind.weight for kind in KINDS.values()]
    busy_until_s = dict.fromkeys((*hosts, ""), 0.0)
    at_s = chance.expovariate(1 / gap_s)
    while at_s < length_s * _LAST_BEGIN:
        (name,) = chance.choices(names, weights)
        kind, host, draw = KINDS[name], chance.choice(hosts), chance.randrange(2**31)
        lasts_s = chance.uniform(*kind.lasts_s) if kind.lasts_s else 0.0
        place = host if kind.needs_host else ""
        # Two faults of one host at a time could cure each other.
        if kind.lasts_s is None or busy_until_s[place] <= at_s:
            yield Stroke(at_s, name, place, lasts_s, draw)
            if kind.lasts_s:
                busy_until_s[place] = at_s + lasts_s
                yield Stroke(at_s + lasts_s, name, place, lasts_s, draw, cures=True)
        at_s += chance.expovariate(1 / gap_s)
