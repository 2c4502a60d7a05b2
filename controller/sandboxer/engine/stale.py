"""
What lies on a host and should not: judged against the store, taken away after a second look.

Something is stale when it carries the label of this installation and either no sandbox has its uid
(an orphan), or its sandbox is placed elsewhere (a stray copy, which a host brought back that was
given up). `judge` is pure; `Reaper` judges again, live, before it lets an extension take something
away. When that is done without being asked is decided in `orphans.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from sandboxer.engine.leaving import HOST_GIVEN_UP
from sandboxer.engine.observer import Observer
from sandboxer.engine.placements import Placed, placed_from
from sandboxer.errors import SandboxerError, TerminalError, TransientError, Waiting
from sandboxer.extension import (
    LABEL_ENVIRONMENT,
    LABEL_EXTENSION,
    LABEL_NAME,
    LABEL_NAMESPACE,
    Extension,
    Observation,
)
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import Key
from sandboxer.store import Cause, EventRecorder, KeyLocks, News, Remains, Store

# Seconds one removal may take; it kills and deletes, and waits for nobody.
REAP_LIMIT_S = 120.0

# Seconds until something is tried again that another pass is working on.
BUSY_DELAY_S = 1.0

REAPING = "Reaping"
"""Reason of what a sandbox's story says before its remains on a host are taken away."""

REAPED = "Reaped"
"""Reason of what it says when that is done."""

_log = logging.getLogger(__name__)

Why = Literal["NoSandbox", "PlacedElsewhere"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """Something on a host that no sandbox of the store accounts for there."""

    extension: str
    """Which lists it."""
    seen: Observation
    why: Why
    key: Key
    """Its sandbox; of an orphan as its labels say, which need not exist."""
    evidence: str
    """What that follows from, as a sentence."""
    objection: str = ""
    """Why it must not be taken away nevertheless, as a sentence."""

    @property
    def uid(self) -> str:
        """The uid it carries."""
        return self.seen.uid

    @property
    def contents(self) -> str:
        """What it consists of, as words (`2 container, 1 workspace`)."""
        return contents(self.seen)


def contents(seen: Observation) -> str:
    """Return what something consists of, as words (`2 container, 1 workspace`)."""
    counted = Counter(resource.kind for resource in seen.resources)
    return ", ".join(f"{number} {kind}" for kind, number in counted.items()) or "nothing listed"


def owners(store: Store, uids: Collection[str]) -> dict[str, Placed]:
    """Return which of *uids* are sandboxes of the store, and where those are placed."""
    return {
        entry.uid: placed_from(entry.key, entry.body)
        for entry in store.entries("Sandbox")
        if entry.uid in uids
    }


def judge(
    seen: Observation, *, extension: str, host: Host, owner: Placed | None, home: Host | None
) -> Stale | None:
    """
    Return what is stale about something that an extension lists, None when nothing is.

    Args:
        seen: What is listed; of this installation.
        extension: Which lists it.
        host: Where.
        owner: The sandbox with its uid, as far as there is one.
        home: The Host that sandbox is placed on, as far as there is one.
    """
    labels = seen.labels
    if labels.get(LABEL_EXTENSION) != extension:
        # Another extension's, which knows what it means.
        return None
    if owner is None:
        names = (labels.get(label, "") for label in (LABEL_NAMESPACE, LABEL_NAME))
        # NOTE: a host may write what is no text; locks and the store take text only.
        key = Key("Sandbox", *(name.encode("utf-8", "replace").decode() for name in names))
        evidence = "No sandbox of the store has its uid."
        return Stale(extension=extension, seen=seen, why="NoSandbox", key=key, evidence=evidence)
    if (owner.host, owner.extension) == (host.metadata.name, extension):
        return None
    place = f"placed on host {owner.host} by {owner.extension}" if owner.host else "not placed"
    return Stale(
        extension=extension,
        seen=seen,
        why="PlacedElsewhere",
        key=owner.key,
        evidence=f"{owner.key} is {place}.",
        objection=_doubt(owner, host, home),
    )


def stale_of(store: Store, host: Host, seen: Collection[Observation]) -> list[Stale]:
    """Return what of the things seen on a host is stale, each judged by the extension it names."""
    present = [each for each in seen if each.state != "Absent"]
    owned = owners(store, {each.uid for each in present})
    found = []
    for each in present:
        owner = owned.get(each.uid)
        home = store.get(Host, owner.host) if owner is not None and owner.host else None
        extension = each.labels.get(LABEL_EXTENSION, "")
        stale = judge(each, extension=extension, host=host, owner=owner, home=home)
        found += [stale] if stale is not None else []
    return found


async def remembers(store: Store, stale: Stale, host: Host) -> bool:
    """
    Tell whether the store knows why something stale lies on a host.

    A sandbox that is gone has left a tombstone. One that lives has left a place without a look at
    it only when its host was given up; else the copy is news to the store, and may be the newer one.
    """
    if stale.why == "NoSandbox":
        return bool(await store.tombstones(uid=stale.uid, limit=1))
    story = await store.transitions(stale.uid)
    here = [each for each in story if each.evidence.get("host") == host.metadata.name]
    # NOTE: a removal that was begun and not ended explains it as little as nothing does.
    told = [each.reason for each in here if each.reason != REAPING]
    return told[-1:] == [HOST_GIVEN_UP]


def _doubt(owner: Placed, host: Host, home: Host | None) -> str:
    """Say why a copy may be the sandbox itself, seen from another side."""
    if not owner.host:
        return "It may be placed here next."
    if owner.host == host.metadata.name:
        return "The sandbox itself is on this host, by another extension."
    if home is None or not home.status.is_true("Reachable"):
        return f"Host {owner.host}, where the sandbox is, does not answer."
    # NOTE: two Hosts may lead to one machine, and then this is the sandbox itself. Its boot id
    # tells nothing: containers share it, and after a reboot one of the two Hosts has the old one.
    here, there = host.status.facts.hostname, home.status.facts.hostname
    if not here or not there or here == there:
        return f"Host {owner.host}, where the sandbox is, may be the same machine ({here or '?'})."
    return ""


class Reaper:
    """
    Takes away what is stale, one at a time.

    Args:
        store: Asked again, live, before anything is taken away.
        observer: The hosts, likewise.
        extensions: All loaded extensions by name.
        locks: So that nobody else works on the sandbox of that name meanwhile.
        events: Where it is told.
    """

    def __init__(
        self,
        store: Store,
        observer: Observer,
        *,
        extensions: Mapping[str, Extension],
        locks: KeyLocks,
        events: EventRecorder,
    ) -> None:
        self._store = store
        self._observer = observer
        self._extensions = extensions
        self._locks = locks
        self._events = events

    async def reap(self, stale: Stale, host: Host, *, because: str, cause: Cause) -> bool:
        """
        Take something away if it is stale still.

        Args:
            stale: As judged before.
            host: Where.
            because: What led to this, as a sentence, for the record.
            cause: Who wants it.

        Returns:
            Whether it was taken away; otherwise it is gone, or belongs there now.

        Raises:
            Waiting: Somebody works on the sandbox of that name, or it is being taken away.
            TerminalError: It must not be taken away; the message says why.
            TransientError: It could not be taken away now.
        """
        with self._locks.try_key(stale.key) as mine:
            if not mine:
                raise Waiting(f"Something else works on {stale.key}.", retry_after_s=BUSY_DELAY_S)
            found = await self._judged_again(stale, host)
            if found is None:
                return False
            if found.objection:
                raise TerminalError(f"{stale.uid}: {found.objection}", reason="MayBeOurs")
            # NOTE: before it is done, so that a process that dies meanwhile leaves a trace.
            begun = f"What host {host.metadata.name} has of it is taken away. {found.evidence}"
            await self._remark(found, host, cause, REAPING, begun)
            await self._remove(found, host)
            ended = f"Nothing of it is left on host {host.metadata.name}."
            await self._remark(found, host, cause, REAPED, ended)
        message = (
            f"{found.extension} removed what was there of {_name(found.key)} (uid {found.uid}): "
            f"{found.contents}. {found.evidence} {because}"
        )
        _log.warning(
            "removed what no sandbox accounts for",
            extra={
                "host": host.metadata.name, "uid": found.uid, "sandbox": _name(found.key),
                "extension": found.extension, "resources": found.contents,
                "evidence": f"{found.evidence} {because}",
            },
        )  # fmt: skip
        await self._events.record(host, "OrphanReaped", message)
        return True

    async def _remark(
        self, found: Stale, host: Host, cause: Cause, reason: str, message: str
    ) -> None:
        """Add it to the story of its sandbox."""
        place = {"host": host.metadata.name, "extension": found.extension}
        evidence = {**place, "resources": found.contents}
        remains = Remains(uid=found.uid, key=found.key, **place)
        news = News(reason=reason, message=message, evidence=evidence)
        await self._store.remark(remains, news, cause=cause)

    async def _judged_again(self, stale: Stale, host: Host) -> Stale | None:
        seen = await self._observer.refresh(stale.extension, host, stale.uid)
        if seen.state == "Absent" or seen.labels.get(LABEL_ENVIRONMENT) != self._store.environment:
            return None
        # NOTE: a write, even of nothing, is answered after the changes that other processes
        # committed before it were taken over; without it their sandboxes are seen 0.1 s too late.
        await self._store.write([])
        owner = owners(self._store, {stale.uid}).get(stale.uid)
        home = self._store.get(Host, owner.host) if owner is not None and owner.host else None
        found = judge(seen, extension=stale.extension, host=host, owner=owner, home=home)
        # The lock that is held is that of another sandbox.
        return found if found is not None and found.key == stale.key else None

    async def _remove(self, stale: Stale, host: Host) -> None:
        extension = self._extensions[stale.extension]
        session = await self._observer.session(host)
        try:
            async with asyncio.timeout(REAP_LIMIT_S) as limit:
                await extension.reap(session, self._store.environment, stale.uid)
        except (SandboxerError, Waiting):
            raise
        except Exception as error:
            if limit.expired():
                message = f"{stale.extension} did not remove {stale.uid} within {REAP_LIMIT_S:g} s."
                raise TransientError(message, reason="ReapTimeout") from error
            # NOTE: a bug of one extension is not a host that does not answer.
            _log.exception("an extension could not reap", extra={"extension": stale.extension})
            message = f"An unexpected {type(error).__name__} stopped {stale.extension}: {error}"
            raise TransientError(message, reason="UnexpectedError") from error
        left = await self._observer.refresh(stale.extension, host, stale.uid)
        if left.state != "Absent":
            raise TransientError(
                f"{stale.extension} was to remove {stale.uid}, and it is {left.state} still.",
                reason="NotAsWished",
            )


def _name(key: Key) -> str:
    return f"{key.namespace or '?'}/{key.name or '?'}"
