"""
Adoption: the objects of sandboxes whose store was lost, rebuilt from what their hosts list.

Something is *lost* when it carries our labels and no sandbox of the store has its uid. `survey`
lists what is lost on a host, with the reason for each that cannot be adopted; `adopt` takes one in
with the name and uid it had, in one write. What is there is not touched: the status says where it
was found and which spec hash it carries, and the next pass follows from that.

Design notes:

* **The host is not believed.** What the manifest says must agree with the labels, and it counts
  only with the signature of this installation, because a spec makes the controller read files of
  its own machine. A person may say that a host is to be trusted.
* **Nothing is moved or deleted by being adopted.** What would be torn down by the next pass, as its
  placement names another Host, is refused; so is what cannot be judged, as its profile is not there
  yet. What is over gets an hour, as an extension of its lifetime is not known on the host.
* **Only a look.** Every extension is asked as by nobody, with an empty environment, because a look by
  the own one may run what belongs to the sandbox, such as its health checks.
* **Not what is being removed.** A uid with a tombstone was deleted here; it is an orphan.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

from sandboxer.clock import Clock
from sandboxer.engine.leasing import BUSY_DELAY_S, LEASES
from sandboxer.engine.manifest import read_manifest
from sandboxer.engine.observer import Observer
from sandboxer.engine.placements import Placed, placed_from
from sandboxer.engine.rebuilding import Rebuilt, rebuild
from sandboxer.engine.stale import owners
from sandboxer.errors import ConflictError, SandboxerError, TerminalError, TransientError
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
from sandboxer.kinds.profile import Profile
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Cause, EventRecorder, KeyLocks, News, Store

# Looks at single sandboxes of one host at the same time: below the ten channels that OpenSSH allows
# on one connection (MaxSessions, sshd_config(5)).
LOOKS_AT_ONCE = 4

# How often the lock is tried under which ports are leased, every 20 ms; it is held for one commit.
LEASES_TRIES = 250

UNTRUSTED = (
    "Its manifest was not signed with the key of this data directory for the installation that its "
    "labels name, so whoever can write on that host may have written it, and it can make the "
    "controller read files."
)

_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Something on a host that no sandbox of the store accounts for."""

    extension: str
    """Which lists it."""
    seen: Observation
    rebuilt: Rebuilt | None = None
    """Its object; None when that cannot be said, or was not asked for."""
    is_ours: bool = False
    """Whether its manifest was signed with this installation's key, for the one that made it."""
    objection: str = ""
    """Why it cannot be adopted, as a sentence."""

    @property
    def environment(self) -> str:
        """Installation that made it."""
        return self._label(LABEL_ENVIRONMENT)

    @property
    def key(self) -> Key:
        """Its sandbox, as its labels say."""
        return Key("Sandbox", self._label(LABEL_NAMESPACE), self._label(LABEL_NAME))

    def _label(self, name: str) -> str:
        # NOTE: a host may write what is no text; locks, the store and JSON take text only.
        return self.seen.labels.get(name, "").encode("utf-8", "replace").decode()


class Survey(NamedTuple):
    """What is lost on one host."""

    lost: list[Lost]
    problems: Mapping[str, str]
    """By extension, why it could not look, as a sentence."""


@dataclass(kw_only=True)
class Adoption:
    """Takes sandboxes in whose objects were lost."""

    store: Store
    observer: Observer
    extensions: Mapping[str, Extension]
    locks: KeyLocks
    """Shared with other processes on the same store."""
    clock: Clock

    async def survey(self, host: Host, *, trusts: bool = False) -> Survey:
        """
        List what of every installation is lost on a host, each looked at and judged.

        Args:
            host: As stored.
            trusts: Whether manifests that somebody else has signed count.

        Raises:
            UnreachableError: The host does not answer.
            TerminalError: It refuses us, or is not who it should be.
        """
        await self.observer.session(host)
        names = sorted(self.extensions)
        answers = await asyncio.gather(
            *(self.observer.survey(name, host, "") for name in names),
            return_exceptions=True,
        )
        problems = {
            name: _problem(answer)
            for name, answer in zip(names, answers, strict=True)
            if isinstance(answer, BaseException)
        }
        found = [
            Lost(extension=name, seen=seen)
            for name, answer in zip(names, answers, strict=True)
            if not isinstance(answer, BaseException)
            for seen in answer
            if _is_of(seen, name)
        ]
        owned = owners(self.store, {each.seen.uid for each in found})
        limit = asyncio.Semaphore(LOOKS_AT_ONCE)
        looks = (
            self._look_at(each, host, limit, trusts=trusts)
            for each in sorted(found, key=lambda each: (each.key, each.seen.uid))
            if each.seen.uid not in owned
        )
        judged = await asyncio.gather(*looks)
        return Survey([each for each in judged if each is not None], problems)

    async def adopt(
        self, host: Host, uid: str, *, extension: str, cause: Cause, trusts: bool = False
    ) -> Lost | None:
        """
        Take one sandbox in, if it is still lost.

        Args:
            host: Where it is; as stored.
            uid: What it carries.
            extension: Which lists it.
            cause: Who wants it.
            trusts: Whether a manifest that somebody else has signed counts.

        Returns:
            It, with the reason when it cannot be adopted; None when it is gone, or a sandbox.

        Raises:
            TransientError: Somebody works on the sandbox of that name, or places and ports.
            UnreachableError: The host does not answer.
        """
        lost = await self._look(host, extension, uid, self.store.environment)
        if lost is None or owners(self.store, {uid}):
            return None
        key = lost.key
        with self.locks.try_key(key) as mine:
            if not mine:
                raise TransientError(f"Something else works on {key}.", reason="Busy")
            again = await self._look(host, extension, uid, self.store.environment)
            if again is None:
                return None
            async with self._leasing_alone():
                # NOTE: a write, even of nothing, is answered after what other processes committed.
                await self.store.write([])
                if owners(self.store, {uid}):
                    return None
                found = await self._judged(again, host, trusts=trusts)
                if found.key != key or found.rebuilt is None or found.objection:
                    return found
                return await self._store(found, found.rebuilt, host, cause)

    async def _store(self, found: Lost, rebuilt: Rebuilt, host: Host, cause: Cause) -> Lost:
        message = (
            f"It was found on host {host.metadata.name} by {found.extension} and adopted, as its "
            f"object was lost. {rebuilt.remark}"
        ).rstrip()
        try:
            stored = await self.store.adopt(
                rebuilt.sandbox, cause=cause, news=[News(reason="Adopted", message=message)]
            )
        except ConflictError as taken:
            return replace(found, objection=taken.message)
        await EventRecorder(self.store, self.clock).record(stored, "Adopted", message)
        return found

    async def _look_at(
        self, lost: Lost, host: Host, limit: asyncio.Semaphore, *, trusts: bool
    ) -> Lost | None:
        """Look at one alone, which shows its manifest, and judge it; None when it has gone."""
        uid, extension = lost.seen.uid, lost.extension
        async with limit:
            try:
                again = await self._look(host, extension, uid, lost.environment)
                return again and await self._judged(again, host, trusts=trusts)
            except SandboxerError as error:
                problem = error.message
            except Exception as error:  # noqa: BLE001 - one odd thing must not hide the others
                evidence = {"host": host.metadata.name, "extension": extension, "uid": uid}
                _log.exception("something lost could not be judged", extra=evidence)
                problem = _problem(error)
        return replace(lost, objection=f"It could not be judged. {problem}")

    async def _look(self, host: Host, extension: str, uid: str, environment: str) -> Lost | None:
        """Look at one alone; None unless an installation has it there."""
        if extension not in self.extensions or not _UID.fullmatch(uid):
            return None
        seen = await self.observer.survey(extension, host, "", uid)
        found = (Lost(extension=extension, seen=each) for each in seen if _is_of(each, extension))
        mine = (each for each in found if (each.seen.uid, each.environment) == (uid, environment))
        return next(mine, None)

    async def _judged(self, lost: Lost, host: Host, *, trusts: bool) -> Lost:
        buried = await self.store.tombstones(uid=lost.seen.uid, limit=1)
        if buried:
            message = f"It was deleted here at {buried[0].deleted_at:%Y-%m-%dT%H:%M:%SZ}."
            return replace(lost, objection=message)
        try:
            manifest = read_manifest(lost.seen.manifest, self.store.signing_key, lost.environment)
        except TerminalError as error:
            return replace(lost, objection=error.message)
        sandbox = manifest.sandbox
        if objection := _mismatch(sandbox, lost):
            return replace(lost, objection=objection)
        rebuilt = rebuild(
            sandbox,
            lost.seen,
            host=host,
            profile=self.store.get(Profile, sandbox.spec.profile),
            extensions=self.extensions,
            now=self.clock.now(),
        )
        untrusted = "" if manifest.is_ours or trusts else UNTRUSTED
        objection = untrusted or self._conflict(sandbox, host) or rebuilt.objection
        return replace(lost, rebuilt=rebuilt, is_ours=manifest.is_ours, objection=objection)

    def _conflict(self, sandbox: Sandbox, host: Host) -> str:
        """Return what of it somebody else has by now: its name, or its ports on the host."""
        if self.store.entry(sandbox.key) is not None:
            return f"There is another {sandbox.key} by now."
        ports = set(sandbox.status.ports.values())
        for entry in self.store.entries("Sandbox") if ports else ():
            placed = placed_from(entry.key, entry.body)
            if taken := ports.intersection(_leased(placed, host.metadata.name)):
                return f"Port {min(taken)} of that host is leased to {placed.key} by now."
        return ""

    @asynccontextmanager
    async def _leasing_alone(self) -> AsyncIterator[None]:
        """Keep everybody else from leasing ports inside the block."""
        for _ in range(LEASES_TRIES):
            with self.locks.try_key(LEASES) as mine:
                if mine:
                    yield
                    return
            await asyncio.sleep(BUSY_DELAY_S)
        raise TransientError("Ports are being leased all the time.", reason="Busy")


def _is_of(seen: Observation, extension: str) -> bool:
    """Tell whether an extension lists it as its own; another one knows what its own mean."""
    return (
        seen.state != "Absent"
        and seen.labels.get(LABEL_EXTENSION) == extension
        and _UID.fullmatch(seen.uid) is not None
    )


def _leased(placed: Placed, host: str) -> set[int]:
    """Return the ports of a host that a sandbox has, or will have when it comes there next."""
    here = placed.ports if placed.host == host else ()
    coming = placed.next_ports if placed.next_host == host else ()
    return {*here, *coming}


def _mismatch(sandbox: Sandbox, lost: Lost) -> str:
    """Return in what a manifest contradicts the labels, which other programs go by."""
    said = (sandbox.metadata.uid, sandbox.key, sandbox.status.extension)
    if said == (lost.seen.uid, lost.key, lost.extension):
        return ""
    return f"Its manifest is that of {sandbox.key} ({sandbox.metadata.uid[:36]})."


def _problem(error: BaseException) -> str:
    if isinstance(error, SandboxerError):
        return error.message
    if not isinstance(error, Exception):
        raise error
    return f"An unexpected {type(error).__name__} stopped it: {error}"
