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
  restored from: that is somebody's work, so it is held and shown, and a person decides.
* **A brake.** Orphans come one at a time. Many at once mean that the store is wrong, not the host.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from sandboxer.clock import Clock
from sandboxer.engine.conditions import Fact
from sandboxer.engine.observer import Observer
from sandboxer.engine.placements import Placements
from sandboxer.engine.stale import Reaper, Stale, judge
from sandboxer.errors import SandboxerError, Waiting
from sandboxer.extension import LABEL_ENVIRONMENT, Extension, Observation
from sandboxer.kinds.host import Host
from sandboxer.store import EventRecorder, Store
from sandboxer.units import format_duration

# Seconds something must have been stale without interruption. Far above what another process's
# commit takes to be seen (0.1 s), and enough for a person who stops a controller that is wrong.
DEFAULT_GRACE_S = 120.0

# Orphans of one host above which none of them is reaped: this many, or this share of everything
# of ours there if that is more.
HELD_ABOVE = 5
HELD_SHARE = 0.3

# Seconds between two looks with extensions that have no sandbox on a host. Each costs a command.
SWEEP_S = 600.0

# Orphans reaped in one pass, a second or two each: the host's next probe waits for them.
REAPED_AT_ONCE = 10

# Orphans marked of one extension on one host; more are marked once these are gone. A host that
# lists nonsense must not fill the controller.
MAX_MARKS = 1000

# Orphans named in a message.
MAX_NAMES = 5

HELD = "OrphansHeld"
"""Condition of a Host: orphans are there that nobody removes without being told to."""

REMEDY = "See `sandboxer inspect stale`; `sandboxer reap-stale --apply` removes them."

_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Mark:
    stale: Stale
    since_s: float
    """Monotonic."""
    remembered: bool
    """Whether the store knows of that sandbox: it lives elsewhere, or has left a tombstone."""

    @property
    def is_sure(self) -> bool:
        return self.remembered and not self.stale.objection


@dataclass(slots=True)
class _Marked:
    """What is marked on one host, by extension."""

    marks: defaultdict[str, dict[str, _Mark]] = field(default_factory=lambda: defaultdict(dict))
    carried: dict[str, int] = field(default_factory=dict)
    """Number of our sandboxes each extension lists, stale ones included."""
    swept: frozenset[str] = frozenset()
    """Extensions not in use that were asked last."""
    swept_s: float = 0.0
    """When that was; monotonic."""

    def all(self) -> list[_Mark]:
        return [mark for marks in self.marks.values() for mark in marks.values()]

    def drop(self, extension: str) -> None:
        self.marks.pop(extension, None)
        self.carried.pop(extension, None)


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
    _hosts: dict[str, _Marked] = field(default_factory=dict)

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
        marked = self._hosts.setdefault(host.metadata.name, _Marked())
        for extension in in_use:
            listed = self.observer.listed(extension, host.metadata.name)
            if listed is None or extension in problems:
                marked.drop(extension)
            else:
                await self._mark(marked, host, extension, listed)
        return await self._stated(host, marked)

    async def clean(self, host: Host, *, in_use: Collection[str]) -> None:
        """Ask the extensions that the probe did not ask, and take away what is due."""
        marked = self._hosts.setdefault(host.metadata.name, _Marked())
        await self._sweep(marked, host, self.extensions.keys() - in_use)
        if _too_many(marked):
            return
        due = [mark for mark in self._due(marked) if mark.is_sure]
        for mark in due[:REAPED_AT_ONCE]:
            await self._reap(marked, host, mark)

    async def _sweep(self, marked: _Marked, host: Host, extensions: Iterable[str]) -> None:
        now_s, wanted = self.clock.monotonic_s(), frozenset(extensions)
        # NOTE: at once when the last sandbox of an extension has left the host.
        is_due = not wanted <= marked.swept or now_s - marked.swept_s >= SWEEP_S
        asked = sorted(name for name in wanted if is_due or marked.marks.get(name))
        if is_due:
            marked.swept, marked.swept_s = wanted, now_s
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
        self, marked: _Marked, host: Host, extension: str, listed: Iterable[Observation]
    ) -> None:
        ours = [each for each in listed if self._is_ours(each)]
        before = marked.marks[extension]
        after: dict[str, _Mark] = {}
        for seen in ours:
            stale = self._judged(seen, host, extension)
            if stale is None or len(after) == MAX_MARKS:
                continue
            known = before.get(seen.uid)
            after[seen.uid] = _Mark(
                stale,
                self.clock.monotonic_s() if known is None else known.since_s,
                await self._remembers(stale) if known is None else known.remembered,
            )
        marked.marks[extension], marked.carried[extension] = after, len(ours)

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

    async def _remembers(self, stale: Stale) -> bool:
        if stale.why != "NoSandbox":
            return True
        return bool(await self.store.tombstones(uid=stale.uid, limit=1))

    def _due(self, marked: _Marked) -> list[_Mark]:
        now_s = self.clock.monotonic_s()
        return [mark for mark in marked.all() if now_s - mark.since_s >= self.grace_s]

    async def _reap(self, marked: _Marked, host: Host, mark: _Mark) -> None:
        stale, seen_s = mark.stale, self.clock.monotonic_s() - mark.since_s
        because = f"It was seen for {format_duration(seen_s)}."
        try:
            await self.reaper.reap(stale, host, because=because)
        except Waiting:
            return
        except SandboxerError as error:
            message = f"{stale.extension} could not remove {stale.key} (uid {stale.uid}). {error}"
            _log.warning("an orphan could not be removed", extra={"error": str(error)})
            await self.events.record(host, "ReapFailed", message, type="Warning")
            return
        marked.marks[stale.extension].pop(stale.uid, None)

    async def _stated(self, host: Host, marked: _Marked) -> Mapping[str, Fact]:
        """Return the condition about what is held, and tell when it begins."""
        due, was_held = self._due(marked), host.status.is_true(HELD)
        held = due if _too_many(marked) else [mark for mark in due if not mark.is_sure]
        if not held:
            nothing = Fact("False", "NoneHeld", "No orphan is there that is left alone.")
            return {HELD: nothing} if was_held else {}
        fact = _held_fact(held, too_many=_too_many(marked))
        if not was_held:
            _log.warning(
                "orphans are left alone",
                extra={"host": host.metadata.name, "orphans": len(held), "why": fact.reason},
            )
            await self.events.record(host, HELD, fact.message, type="Warning")
        return {HELD: fact}


def _too_many(marked: _Marked) -> bool:
    carried = sum(marked.carried.values())
    return len(marked.all()) > max(HELD_ABOVE, HELD_SHARE * carried)


def _held_fact(held: Collection[_Mark], *, too_many: bool) -> Fact:
    unknown = [mark for mark in held if not mark.remembered]
    # NOTE: in a steady order, or the message would change with every probe.
    names = sorted(str(mark.stale.key) for mark in held)
    named = ", ".join(names[:MAX_NAMES]) + (", …" if len(names) > MAX_NAMES else "")
    count = f"{len(held)} orphans are left alone ({named})"
    if too_many:
        return Fact("True", "TooMany", f"{count}: too many at once for a healthy store. {REMEDY}")
    if unknown:
        why = "the store has never heard of them, as after a restored backup"
        return Fact("True", "NotRemembered", f"{count}: {why}. {REMEDY}")
    objection = min(mark.stale.objection for mark in held)
    return Fact("True", "MayBeOurs", f"{count}. {objection} {REMEDY}")
