"""
Marks: what is stale on one host, since when, and what became of attempts to remove it.

Kept in memory by `orphans.py`, which marks and reaps; here is what follows from the marks alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

from sandboxer.engine.conditions import Fact
from sandboxer.engine.stale import Stale
from sandboxer.kinds.host import Host

# Orphans of one host above which none of them is reaped: this many, or this share of everything
# of ours there if that is more.
HELD_ABOVE = 5
HELD_SHARE = 0.3

# Seconds until the next attempt at what could not be removed, doubled with each failure. One that
# hangs takes two minutes, in which the host is not probed.
RETRY_S = 300.0
MAX_RETRY_S = 3600.0

# Orphans named in a message.
MAX_NAMES = 5

REMEDY = "See `sandboxer inspect stale`; `sandboxer reap-stale --apply` removes them."


@dataclass(frozen=True, slots=True)
class Mark:
    """Something stale that was seen."""

    stale: Stale
    since_s: float
    """Monotonic."""
    remembered: bool
    """Whether the store knows why it is there (`stale.remembers`)."""

    @property
    def is_sure(self) -> bool:
        """Whether it may go without being asked for."""
        return self.remembered and not self.stale.objection


@dataclass(slots=True)
class Trouble:
    """What became of the attempts to remove one thing."""

    failures: int = 0
    retry_at_s: float = 0.0
    """Monotonic."""
    told: set[str] = field(default_factory=set)
    """Reasons that were told already."""

    def failed(self, now_s: float, reason: str) -> bool:
        """Count a failure and leave it alone for longer; tell whether the reason is a new one."""
        pause_s = min(MAX_RETRY_S, RETRY_S * 2.0 ** min(self.failures, 10))
        self.failures, self.retry_at_s = self.failures + 1, now_s + pause_s
        is_new = reason not in self.told
        self.told.add(reason)
        return is_new


@dataclass(slots=True)
class Marked:
    """What is marked on one host, by extension."""

    marks: defaultdict[str, dict[str, Mark]] = field(default_factory=lambda: defaultdict(dict))
    troubles: defaultdict[tuple[str, str], Trouble] = field(
        default_factory=lambda: defaultdict(Trouble)
    )
    """By extension and uid; only of what could not be removed."""
    carried: dict[str, int] = field(default_factory=dict)
    """Number of our sandboxes each extension lists, stale ones included."""
    swept: frozenset[str] = frozenset()
    """Extensions not in use that were asked last."""
    swept_s: float = 0.0
    """When that was; monotonic."""

    def all(self) -> list[Mark]:
        """Return everything that is marked."""
        return [mark for marks in self.marks.values() for mark in marks.values()]

    def put(self, extension: str, marks: dict[str, Mark], *, carried: int) -> None:
        """Take over what an extension lists now."""
        self.marks[extension], self.carried[extension] = marks, carried
        for name, uid in list(self.troubles):
            if name == extension and uid not in marks:
                del self.troubles[name, uid]

    def drop(self, extension: str) -> None:
        """Forget what an extension listed, as it cannot say."""
        self.marks.pop(extension, None)
        self.carried.pop(extension, None)

    def is_due(self, mark: Mark, now_s: float) -> bool:
        """Tell whether removing it may be tried, as far as former attempts go."""
        trouble = self.troubles.get((mark.stale.extension, mark.stale.uid))
        return trouble is None or now_s >= trouble.retry_at_s

    def are_too_many(self, host: Host) -> bool:
        """Tell whether there are more than a healthy store leaves on a host."""
        if host.spec.drain == "GiveUp":
            return False
        carried = sum(self.carried.values())
        return len(self.all()) > max(HELD_ABOVE, HELD_SHARE * carried)


def held_fact(held: Collection[Mark], *, too_many: bool) -> Fact:
    """Return what a host says of marked things that are left alone."""
    unknown = [mark for mark in held if not mark.remembered and not mark.stale.objection]
    # NOTE: in a steady order, or the message would change with every probe.
    names = sorted(str(mark.stale.key) for mark in held)
    named = ", ".join(names[:MAX_NAMES]) + (", …" if len(names) > MAX_NAMES else "")
    count = f"{len(held)} orphans are left alone ({named})"
    if too_many:
        return Fact("True", "TooMany", f"{count}: too many at once for a healthy store. {REMEDY}")
    if unknown:
        return Fact("True", "NotRemembered", f"{count}: {_why_unknown(unknown)} {REMEDY}")
    objection = min(mark.stale.objection for mark in held)
    return Fact("True", "MayBeOurs", f"{count}. {objection} {REMEDY}")


def _why_unknown(unknown: Collection[Mark]) -> str:
    """Say what the store does not know, and what to do before anything is removed."""
    why = "the store does not know why they are there, as after a restored backup."
    kinds = {mark.stale.why for mark in unknown}
    if "NoSandbox" in kinds:
        why += " `sandboxer adopt --all` takes in what has no sandbox."
    if "PlacedElsewhere" in kinds:
        why += " A copy of a sandbox that is elsewhere may be newer than it."
    return why
