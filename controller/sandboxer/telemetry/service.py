"""
The newest observation of everything on every host: asked once per host, answered from memory.

`probe` takes one host's pulse, asks each extension in use there for everything it sees, and tells
`on_change` which sandboxes look different now. Between probes `refresh` looks at one sandbox, and
followers (`sandboxer.telemetry.follower`) look where an engine's events point.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

from sandboxer.clock import Clock
from sandboxer.errors import SandboxerError, TerminalError, TransientError, UnreachableError
from sandboxer.extension import Extension, Observation, absent
from sandboxer.kinds.host import Host, HostFacts
from sandboxer.session import Session
from sandboxer.telemetry.follower import Follower
from sandboxer.telemetry.inventory import Inventory, View
from sandboxer.telemetry.probe import Pulse, read_facts, read_pulse
from sandboxer.telemetry.watched import Facts, HostReport, Probing, WatchedHost, identity
from sandboxer.transport import Connections, HostSession
from sandboxer.transport.engine_socket import EngineSocket
from sandboxer.transport.link import Link
from sandboxer.transport.rest import RestEngine

log = logging.getLogger(__name__)

# Seconds one observe of a whole host may take; 200 containers take podman 0.15 s (measured).
OBSERVE_TIMEOUT_S = 60.0

Noticed = Literal["probe", "events"]
"""How a change was noticed: asked for, or told by the host itself."""

# Hints of one moment above which the whole host is looked at instead of each sandbox.
_MANY_HINTS = 8


class Telemetry:
    """
    What is known of all hosts.

    Args:
        connections: The way to the machines.
        extensions: Loaded extensions by name.
        environment: Id of this installation; only its sandboxes are observed.
        clock: Dates observations.
        compose_command: Compose command of the settings, over what hosts are found to have.
    """

    def __init__(
        self,
        *,
        connections: Connections,
        extensions: Mapping[str, Extension],
        environment: str,
        clock: Clock,
        compose_command: tuple[str, ...] | None = None,
    ) -> None:
        self.on_change: Callable[[str, Collection[str], str], None] | None = None
        self._connections = connections
        self._extensions = extensions
        self._environment = environment
        self._clock = clock
        self._compose_command = compose_command
        self._hosts: dict[str, WatchedHost] = {}

    def view(self, extension: str, host_name: str, uid: str) -> View:
        """Return what is known of one sandbox, from memory; unknown until it was looked at."""
        watched = self._hosts.get(host_name)
        if watched is None:
            return View(unknown_reason=f"Host {host_name} was not looked at yet.")
        return self._inventory(watched, extension).view(uid)

    def boot_id(self, host_name: str) -> str:
        """Return the boot a host is in, from memory; empty when it was not probed yet."""
        watched = self._hosts.get(host_name)
        return watched.facts.facts.boot_id if watched is not None and watched.facts else ""

    def inventory(self, host_name: str) -> list[Observation]:
        """Return everything labelled ours that was last seen on that host."""
        watched = self._hosts.get(host_name)
        if watched is None:
            return []
        return [o for inventory in watched.inventories.values() for o in inventory.observations()]

    def listed(self, extension: str, host_name: str) -> Collection[Observation] | None:
        """Return what one extension saw at its last look at a whole host; None is unknown."""
        watched = self._hosts.get(host_name)
        return None if watched is None else self._inventory(watched, extension).listed()

    async def survey(
        self, extension: str, host: Host, environment: str | None = None, uid: str = ""
    ) -> Collection[Observation]:
        """
        Ask an extension now what is on a host, and remember nothing of it.

        Args:
            extension: Its name.
            host: As stored.
            environment: Installation whose sandboxes are wanted; None is this one, empty is all.
            uid: Only this one, with its manifest; empty is all.

        Raises:
            UnreachableError: The host does not answer.
            TransientError: The extension cannot say.
        """
        session = await self.session(host)
        return await self._observe(session, extension, uid, environment=environment)

    async def probe(self, host: Host, *, extensions: Collection[str] = ()) -> HostReport:
        """
        Ask *host* how it is, and each of *extensions* what it sees there.

        Callers at the same time share one probe. An extension that fails makes only its own
        sandboxes unknown; it is named in `HostReport.problems`.

        Raises:
            UnreachableError: The host does not answer; everything there is unknown now.
            TransientError: Its answer cannot be read.
            TerminalError: Host key, login or work root were refused.
        """
        wanted = frozenset(extensions)
        watched = await self._watched(host)
        while (running := watched.probing) is not None:
            if running.spec == host.spec and wanted <= running.extensions:
                return await asyncio.shield(running.task)
            await asyncio.wait([running.task])
        task = asyncio.create_task(self._probe(watched, host, wanted))
        watched.probing = Probing(task, host.spec, wanted)
        task.add_done_callback(lambda done: _finish_probe(watched, done))
        return await asyncio.shield(task)

    async def session(self, host: Host, *, recorded: bool = False) -> Session:
        """
        Return a session to *host*, probing it first when its facts are not known yet.

        Args:
            host: As stored.
            recorded: Go by the facts in `host.status`, if there are any, instead of probing; they
                may be old, which is good enough to run something in a sandbox that is there.

        Raises:
            UnreachableError: The host does not answer.
        """
        watched = await self._watched(host)
        if watched.facts is None and recorded and host.status.facts.boot_id:
            return await self._session(watched, host, host.status.facts)
        if watched.facts is None:
            await self.probe(host)
        assert watched.facts is not None, "a probe that returns has the facts"
        return await self._session(watched, host, watched.facts.facts)

    async def refresh(self, extension: str, host: Host, uid: str) -> Observation:
        """
        Look at one sandbox now.

        Raises:
            UnreachableError: The host does not answer; this sandbox is unknown until it does.
            TransientError: The extension cannot say.
        """
        observation, _changed = await self._refresh(extension, host, uid)
        return observation

    async def forget(self, host_name: str) -> None:
        """Drop everything about a host that is no longer wanted, its connection included."""
        watched = self._hosts.pop(host_name, None)
        if watched is not None:
            await watched.stop()
        await self._connections.forget(host_name)

    async def close(self) -> None:
        """Stop following and probing; the connections stay open for their owner to close."""
        hosts, self._hosts = self._hosts, {}
        for watched in hosts.values():
            await watched.stop()

    async def _watched(self, host: Host) -> WatchedHost:
        name = host.metadata.name
        watched = self._hosts.get(name)
        if watched is None or watched.identity != identity(host):
            replaced, watched = watched, WatchedHost(identity(host), host)
            self._hosts[name] = watched
            if replaced is not None:
                await replaced.stop()
        watched.host = host
        return watched

    def _inventory(self, watched: WatchedHost, extension: str) -> Inventory:
        inventory = watched.inventories.get(extension)
        if inventory is None:
            inventory = watched.inventories[extension] = Inventory(self._clock)
        return inventory

    async def _probe(
        self, watched: WatchedHost, host: Host, extensions: frozenset[str]
    ) -> HostReport:
        try:
            link = await self._connections.link(host)
            started_s = self._clock.monotonic_s()
            pulse = await read_pulse(link, _work_root(watched), _engine_store(watched))
            round_trip_ms = (self._clock.monotonic_s() - started_s) * 1000
            facts = await self._facts(watched, host, link, pulse)
        except SandboxerError as err:
            self._lose(watched, err)
            raise
        session = await self._session(watched, host, facts)
        problems = await self._observe_all(watched, session, extensions)
        await self._follow(watched, session, extensions - problems.keys())
        return HostReport(
            facts=facts,
            load=pulse.load,
            host_key=link.host_key,
            round_trip_ms=round_trip_ms,
            resources=sum(len(o.resources) for o in self.inventory(host.metadata.name)),
            problems=problems,
        )

    async def _facts(self, watched: WatchedHost, host: Host, link: Link, pulse: Pulse) -> HostFacts:
        now_s = self._clock.monotonic_s()
        known = watched.facts
        if known is not None and not known.due(link, host.spec, boot_id=pulse.boot_id, now_s=now_s):
            return known.facts
        facts = await read_facts(link, host, self._compose_command)
        if facts.engine_socket:
            facts = await self._check_engine(watched, host, facts, link)
        watched.facts = Facts(facts, link, host.spec, now_s)
        return facts

    async def _check_engine(
        self, watched: WatchedHost, host: Host, facts: HostFacts, link: Link
    ) -> HostFacts:
        """Return the facts without the engine's socket when it does not answer through the link."""
        engine = (await self._session(watched, host, facts)).engine()
        assert engine is not None, "the facts name a socket"
        try:
            await engine.get("/version")
        except TransientError:
            if not link.alive:
                raise
            # A server may forbid forwarding to sockets; then the engine is asked by command.
            return facts.model_copy(update={"engine_socket": ""})
        return facts

    async def _session(self, watched: WatchedHost, host: Host, facts: HostFacts) -> HostSession:
        """Return the session of these facts, made anew only when something it depends on changed."""
        session = watched.session
        if session is not None and session.fits(host, facts):
            return session
        if watched.engine is None or session is None or not session.same_engine(host, facts):
            old_engine = watched.engine
            socket = EngineSocket(self._connections, host, facts)
            watched.engine = (
                RestEngine(host.metadata.name, socket.open) if facts.engine_socket else None
            )
            if old_engine is not None:
                await old_engine.close()
        watched.session = HostSession(
            self._connections, host=host, facts=facts, engine=watched.engine
        )
        return watched.session

    async def _observe_all(
        self, watched: WatchedHost, session: Session, extensions: frozenset[str]
    ) -> dict[str, str]:
        """Observe with every extension at once; return the sentence of each that failed."""
        names = sorted(extensions)
        outcomes = await asyncio.gather(
            *(self._observe_whole(watched, session, name) for name in names),
            return_exceptions=True,
        )
        problems: dict[str, str] = {}
        for name, outcome in zip(names, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                problems[name] = _problem(name, session.host, outcome)
                self._tell(watched, self._inventory(watched, name).lose(problems[name]))
        return problems

    async def _observe_whole(
        self, watched: WatchedHost, session: Session, extension: str, by: Noticed = "probe"
    ) -> None:
        inventory = self._inventory(watched, extension)
        stamp = inventory.begin()
        observations = await self._observe(session, extension)
        self._tell(watched, inventory.replace(observations, stamp), by)

    async def _observe(
        self, session: Session, extension: str, uid: str = "", *, environment: str | None = None
    ) -> Sequence[Observation]:
        wanted = self._environment if environment is None else environment
        loaded = self._extensions.get(extension)
        if loaded is None:
            raise TerminalError(
                f"Extension {extension} is not loaded, so nothing of it can be observed.",
                reason="ExtensionMissing",
                remedy="Install the package that provides it.",
            )
        try:
            async with asyncio.timeout(OBSERVE_TIMEOUT_S):
                return await loaded.observe(session, wanted, uid)
        except TimeoutError as err:
            raise UnreachableError(
                f"{extension} could not observe host {session.host} within "
                f"{OBSERVE_TIMEOUT_S:g} s.",
                reason="ObserveTimeout",
            ) from err

    async def _refresh(self, extension: str, host: Host, uid: str) -> tuple[Observation, bool]:
        watched = await self._watched(host)
        inventory = self._inventory(watched, extension)
        stamp = inventory.begin()
        try:
            found = await self._observe(await self.session(host), extension, uid)
        except SandboxerError as err:
            inventory.doubt(uid, str(err), stamp)
            raise
        observation = next((o for o in found if o.uid == uid), None) or absent(uid)
        # NOTE: without the manifest, which is up to 16 KiB and compared with nothing.
        return observation, inventory.put(replace(observation, manifest=""), stamp)

    async def _follow(
        self, watched: WatchedHost, session: HostSession, extensions: Collection[str]
    ) -> None:
        """Follow the events of these extensions, and of no others."""
        for name, follower in list(watched.followers.items()):
            if name not in extensions or not follower.running:
                del watched.followers[name]
                await follower.stop()
        for name in set(extensions) - watched.followers.keys():
            extension = self._extensions[name]
            if "watch" in extension.capabilities:
                watched.followers[name] = Follower(
                    extension,
                    session,
                    environment=self._environment,
                    look=partial(self._look, watched, name),
                )

    async def _look(self, watched: WatchedHost, extension: str, hints: set[str]) -> None:
        """Look at what events pointed to."""
        uids = self._inventory(watched, extension).named(hints)
        session = await self.session(watched.host)
        if len(uids) > _MANY_HINTS:
            await self._observe_whole(watched, session, extension, "events")
            return
        looks = [self._refresh(extension, watched.host, uid) for uid in uids]
        outcomes = await asyncio.gather(*looks, return_exceptions=True)
        changed = {
            uid
            for uid, outcome in zip(uids, outcomes, strict=True)
            if isinstance(outcome, BaseException) or outcome[1]
        }
        self._tell(watched, changed, "events")

    def _lose(self, watched: WatchedHost, err: SandboxerError) -> None:
        for inventory in watched.inventories.values():
            self._tell(watched, inventory.lose(str(err)))

    def _tell(self, watched: WatchedHost, uids: Collection[str], by: Noticed = "probe") -> None:
        if uids and self.on_change is not None:
            self.on_change(watched.host.metadata.name, uids, by)


def _problem(extension: str, host: str, error: BaseException) -> str:
    """Return why an extension could not observe; a bug of it must not cost the others their host."""
    if isinstance(error, SandboxerError):
        return str(error)
    if not isinstance(error, Exception):
        raise error
    fields = {"extension": extension, "host": host}
    log.error("An extension could not observe a host", extra=fields, exc_info=error)
    return f"An unexpected {type(error).__name__} stopped it: {error} The log has the traceback."


def _work_root(watched: WatchedHost) -> str:
    if watched.facts is not None:
        return watched.facts.facts.work_root
    return watched.host.spec.work_root or ""


def _engine_store(watched: WatchedHost) -> str:
    if watched.facts is not None:
        return watched.facts.facts.engine_store
    # As it was told to the process before this one, if any.
    return watched.host.status.facts.engine_store


def _finish_probe(watched: WatchedHost, task: asyncio.Task[HostReport]) -> None:
    if watched.probing is not None and watched.probing.task is task:
        watched.probing = None
    # NOTE: asked for, so that a failure nobody waits for any more is not reported as lost.
    if not task.cancelled():
        task.exception()
