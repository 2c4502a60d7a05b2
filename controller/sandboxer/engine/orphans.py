"""
Orphans: noticed from what backends list, reaped by the controller after mark, grace and re-check.

After each probe of a host `note` marks what is stale there (`stale.py`); `clean` takes away what
has been marked for the whole grace. Marks are in memory only: a controller that starts anew, and a
host or extension that did not answer once, begin the grace anew.

Design notes:

* **Every extension is asked**, not only those with sandboxes on the host, for what is left of the
  last one is exactly what an orphan is. Those in use are asked by the probe anyway, the others
  when the last sandbox is gone, and every `SWEEP_S`.
* **Known to be dead, not merely unknown.** Whatever the store deleted has left a tombstone. What
  it has never heard of was made by a store that is lost, or after the backup that this one was
  restored from: that is somebody's work, so it is held and shown, and a person decides. Likewise
  a copy of a living sandbox on a host where the store never left it unseen.
* **A brake.** Orphans come one at a time. Many at once mean that the store is wrong, not the host;
  unless somebody gave that host up, who said by that what is to become of all of it.
* **Probes come first.** Removals are a part of a host's pass, so a pass ends them after the first
  that fails and when they have taken long, and what failed is left alone for longer each time.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from sandboxer.clock import Clock
from sandboxer.engine.conditions import Fact
from sandboxer.engine.marks import Mark, Marked, held_fact
from sandboxer.engine.observer import Observer
from sandboxer.engine.placements import Placements
from sandboxer.engine.stale import Reaper, Stale, judge, remembers
from sandboxer.errors import SandboxerError, Waiting
from sandboxer.extension import LABEL_ENVIRONMENT, Extension, Observation
from sandboxer.kinds.host import Host
from sandboxer.store import Cause, EventRecorder, Store
from sandboxer.units import format_duration

# Seconds something must have been stale without interruption. Far above what another process's
# commit takes to be seen (0.1 s), and enough for a person who stops a controller that is wrong.
DEFAULT_GRACE_S = 120.0

# Seconds between two looks with extensions that have no sandbox on a host. Each costs a command.
SWEEP_S = 600.0

# Orphans reaped in one pass, a second or two each, and seconds after which no other is begun: the
# host's next probe waits for them.
REAPED_AT_ONCE = 10
REAPING_BUDGET_S = 20.0

# Orphans marked of one extension on one host; more are marked once these are gone. A host that
# lists nonsense must not fill the controller.
MAX_MARKS = 1000

HELD = "OrphansHeld"
"""Condition of a Host: orphans are there that nobody removes without being told to."""

CAUSE = Cause("controller", "probe")

_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Orphans:
    """The orphans of all hosts, as this controller has seen them."""

    store: Store
    observer: Observer
    extensions: Mapping[str, Extension]
    placements: Placements
    reaper: Reaper
    events: EventRecorder
    clock: Clock
    grace_s: float = DEFAULT_GRACE_S
    _hosts: dict[str, Marked] = field(default_factory=dict)

    def forget(self, host_name: str) -> None:
        """Begin anew with a host: it did not answer, or is gone."""
        self._hosts.pop(host_name, None)

    async def note(
        self, host: Host, *, in_use: Collection[str], problems: Collection[str]
    ) -> Mapping[str, Fact]:
        """
        Mark what a probe that succeeded has listed.

        Args:
            host: As stored.
            in_use: Extensions the probe asked.
            problems: Those of them that could not say.

        Returns:
            What is to be stated about the host; empty when nothing changes.
        """
        marked = self._hosts.setdefault(host.metadata.name, Marked())
        for extension in in_use:
            listed = self.observer.listed(extension, host.metadata.name)
            if listed is None or extension in problems:
                marked.drop(extension)
            else:
                await self._mark(marked, host, extension, listed)
        return await self._stated(host, marked)

    async def clean(self, host: Host, *, in_use: Collection[str]) -> None:
        """Ask the extensions that the probe did not ask, and take away what is due."""
        marked = self._hosts.setdefault(host.metadata.name, Marked())
        await self._sweep(marked, host, self.extensions.keys() - in_use)
        if marked.are_too_many(host):
            return
        now_s = self.clock.monotonic_s()
        due = [each for each in self._due(marked) if each.is_sure and marked.is_due(each, now_s)]
        for mark in due[:REAPED_AT_ONCE]:
            went_on = await self._reap(marked, host, mark)
            if not went_on or self.clock.monotonic_s() - now_s >= REAPING_BUDGET_S:
                return

    async def _sweep(self, marked: Marked, host: Host, extensions: Iterable[str]) -> None:
        now_s, wanted = self.clock.monotonic_s(), frozenset(extensions)
        # NOTE: at once when the last sandbox of an extension has left the host.
        is_due = not wanted <= marked.swept or now_s - marked.swept_s >= SWEEP_S
        asked = sorted(name for name in wanted if is_due or marked.marks.get(name))
        if is_due:
            marked.swept, marked.swept_s = wanted, now_s
        else:
            marked.swept &= wanted
        answers = await asyncio.gather(
            *(self.observer.survey(name, host) for name in asked), return_exceptions=True
        )
        for name, answer in zip(asked, answers, strict=True):
            if isinstance(answer, BaseException):
                # It has no sandbox here; most extensions cannot look at most hosts.
                marked.drop(name)
            else:
                await self._mark(marked, host, name, answer)

    async def _mark(
        self, marked: Marked, host: Host, extension: str, listed: Iterable[Observation]
    ) -> None:
        ours = [each for each in listed if self._is_ours(each)]
        before = marked.marks[extension]
        after: dict[str, Mark] = {}
        for seen in ours:
            stale = self._judged(seen, host, extension)
            if stale is None or len(after) == MAX_MARKS:
                continue
            known = before.get(seen.uid)
            # NOTE: a copy becomes an orphan when its sandbox is deleted, which leaves a tombstone.
            same = known is not None and known.stale.why == stale.why
            after[seen.uid] = Mark(
                stale,
                self.clock.monotonic_s() if known is None else known.since_s,
                known.remembered if same and known else await remembers(self.store, stale, host),
            )
        marked.put(extension, after, carried=len(ours))

    def _is_ours(self, seen: Observation) -> bool:
        return (
            seen.state != "Absent"
            and seen.labels.get(LABEL_ENVIRONMENT) == self.store.environment
            and _UID.fullmatch(seen.uid) is not None
        )

    def _judged(self, seen: Observation, host: Host, extension: str) -> Stale | None:
        key = self.placements.key_of(seen.uid)
        owner = self.placements.get(key) if key is not None else None
        if owner is not None and (owner.host, owner.extension) == (host.metadata.name, extension):
            return None
        home = self.store.get(Host, owner.host) if owner is not None and owner.host else None
        return judge(seen, extension=extension, host=host, owner=owner, home=home)

    def _due(self, marked: Marked) -> list[Mark]:
        now_s = self.clock.monotonic_s()
        return [mark for mark in marked.all() if now_s - mark.since_s >= self.grace_s]

    async def _reap(self, marked: Marked, host: Host, mark: Mark) -> bool:
        """Take something away; False when that failed."""
        stale, seen_s = mark.stale, self.clock.monotonic_s() - mark.since_s
        because = f"It was seen for {format_duration(seen_s)}."
        try:
            await self.reaper.reap(stale, host, because=because, cause=CAUSE)
        except Waiting:
            return True
        except SandboxerError as error:
            await self._note_failure(marked, host, stale, error)
            return False
        marked.marks[stale.extension].pop(stale.uid, None)
        marked.troubles.pop((stale.extension, stale.uid), None)
        return True

    async def _note_failure(
        self, marked: Marked, host: Host, stale: Stale, error: SandboxerError
    ) -> None:
        """Leave it alone for a while, and tell each reason once."""
        _log.warning(
            "an orphan could not be removed",
            extra={"host": host.metadata.name, "uid": stale.uid, "error": str(error)},
        )
        trouble = marked.troubles[stale.extension, stale.uid]
        if not trouble.failed(self.clock.monotonic_s(), error.reason):
            return
        message = f"{stale.extension} could not remove {stale.key} (uid {stale.uid}). {error}"
        await self.events.record(host, "ReapFailed", message, type="Warning")

    async def _stated(self, host: Host, marked: Marked) -> Mapping[str, Fact]:
        """Return the condition about what is held, and tell when it begins."""
        due, was_held = self._due(marked), host.status.is_true(HELD)
        too_many = marked.are_too_many(host)
        held = due if too_many else [mark for mark in due if not mark.is_sure]
        if not held:
            nothing = Fact("False", "NoneHeld", "No orphan is there that is left alone.")
            return {HELD: nothing} if was_held else {}
        fact = held_fact(held, too_many=too_many)
        if not was_held:
            _log.warning(
                "orphans are left alone",
                extra={"host": host.metadata.name, "orphans": len(held), "why": fact.reason},
            )
            await self.events.record(host, HELD, fact.message, type="Warning")
        return {HELD: fact}
