"""
What one extension last saw on one host, and whether that still counts.

Answers may arrive out of order: a look at one sandbox can begin after a look at the whole host and
end before it. So every look takes a stamp when it begins, and an older look never overwrites what
a younger one saw.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from sandboxer.clock import Clock
from sandboxer.extension import Observation, absent, short_id


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is known of one sandbox without asking."""

    observation: Observation | None = None
    """None when nothing is known."""
    observed_at: datetime | None = None
    """When the look ended."""
    age_s: float = 0.0
    """Seconds since then."""
    unknown_reason: str = ""
    """Why nothing is known, as a sentence."""


@dataclass(frozen=True, slots=True)
class _Look:
    """When something was looked at."""

    stamp: int
    observed_at: datetime
    monotonic_s: float


@dataclass(frozen=True, slots=True)
class _Seen:
    """The newest that is known of one sandbox; no observation after a look that failed."""

    look: _Look
    observation: Observation | None
    unknown_reason: str = ""


class Inventory:
    """
    The observations of one extension on one host.

    Args:
        clock: Dates the looks.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._whole: _Look | None = None
        """The last look at the whole host; None while it is unknown what is there."""
        self._unknown_reason = "The host was not looked at yet."
        self._stamp = 0
        self._lost_stamp = 0
        self._asked_in_vain: set[str] = set()

    def begin(self) -> int:
        """Return the stamp of a look that begins now."""
        self._stamp += 1
        return self._stamp

    def view(self, uid: str) -> View:
        """Return what is known of one sandbox; not listed by a complete look means absent."""
        seen = self._seen.get(uid)
        if seen is not None:
            return self._view(seen.look, seen.observation, seen.unknown_reason)
        if self._whole is not None:
            return self._view(self._whole, absent(uid))
        self._asked_in_vain.add(uid)
        return View(unknown_reason=self._unknown_reason)

    def observations(self) -> list[Observation]:
        """Return everything that was seen to be there."""
        found = (seen.observation for seen in self._seen.values())
        return [o for o in found if o is not None and o.state != "Absent"]

    def listed(self) -> list[Observation] | None:
        """Return everything that is there; None while it is unknown what is."""
        return None if self._whole is None else self.observations()

    def named(self, hints: Collection[str]) -> set[str]:
        """Return the uids that hints mean; a short id of which nothing was seen means none."""
        short = {hint for hint in hints if hint.startswith("sbx-")}
        uids = {hint for hint in hints if hint not in short}
        if short:
            uids |= {uid for uid in self._seen if short_id(uid) in short}
        return uids

    def replace(self, observations: Iterable[Observation], stamp: int) -> set[str]:
        """
        Take over a complete look at the host that began at *stamp*.

        Returns:
            The uids of which now something else is known than before.
        """
        if stamp < self._lost_stamp or (self._whole is not None and stamp < self._whole.stamp):
            return set()
        look = self._look(stamp)
        before = self._seen
        after = {o.uid: _Seen(look, o) for o in observations}
        after.update({uid: seen for uid, seen in before.items() if seen.look.stamp > stamp})
        changed = {
            uid
            for uid in before.keys() | after.keys()
            if _known(before.get(uid), uid) != _known(after.get(uid), uid)
        }
        self._seen, self._whole = after, look
        changed |= self._asked_in_vain
        self._asked_in_vain = set()
        return changed

    def put(self, observation: Observation, stamp: int) -> bool:
        """Take over a look at one sandbox that began at *stamp*; tell whether it changed anything."""
        return self._put(observation.uid, _Seen(self._look(stamp), observation))

    def doubt(self, uid: str, reason: str, stamp: int) -> bool:
        """Note that a look at one sandbox failed, so that nothing is known of it now."""
        return self._put(uid, _Seen(self._look(stamp), None, reason))

    def lose(self, reason: str) -> set[str]:
        """
        Forget everything: the host does not answer, or cannot be understood.

        Returns:
            The uids of which something was known.
        """
        self._lost_stamp = self.begin()
        known = set(self._seen)
        self._seen, self._whole = {}, None
        self._unknown_reason = reason
        self._asked_in_vain |= known
        return known

    def _put(self, uid: str, seen: _Seen) -> bool:
        before = self._seen.get(uid)
        stale_after = self._whole.stamp if self._whole is not None else self._lost_stamp
        if seen.look.stamp < max(stale_after, before.look.stamp if before else 0):
            return False
        self._seen[uid] = seen
        was_known = before is not None or self._whole is not None
        return not was_known or _known(before, uid) != _known(seen, uid)

    def _look(self, stamp: int) -> _Look:
        return _Look(stamp, self._clock.now(), self._clock.monotonic_s())

    def _view(self, look: _Look, observation: Observation | None, reason: str = "") -> View:
        return View(
            observation=observation,
            observed_at=look.observed_at,
            age_s=self._clock.monotonic_s() - look.monotonic_s,
            unknown_reason=reason,
        )


def _known(seen: _Seen | None, uid: str) -> Observation | None:
    return absent(uid) if seen is None else seen.observation
