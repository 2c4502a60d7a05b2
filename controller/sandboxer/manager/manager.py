"""
The manager: one open data directory, and everything that can be done with it.

`run` is the daemon. `settle` is what a command does that waits: it follows the store while a
controller runs, and reconciles its own objects in-process while none does, changing from one to
the other whenever a controller comes or goes. Two processes never work on one key at a time,
because both take its lock (`sandboxer.store.locks`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sandboxer.clock import Clock, SystemClock
from sandboxer.errors import TerminalError, TransientError
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import Key
from sandboxer.kinds.profile import Profile
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.settings import Settings
from sandboxer.store import KeyLocks, Store

if TYPE_CHECKING:
    from sandboxer.engine import Engine
    from sandboxer.engine.observer import HostReport
    from sandboxer.extension import Extension, Instance, Observation
    from sandboxer.registry import Registry
    from sandboxer.session import Session
    from sandboxer.telemetry import Telemetry
    from sandboxer.transport import Connections

# Seconds between two looks at what gives no sign of its own: the controller's lock, and questions
# whose answer changes with time.
LOOK_S = 0.5

NOBODY_ELSE = "no controller is running; this command reconciles what it waits for by itself"


class Inside(NamedTuple):
    """What is needed to reach into a sandbox."""

    extension: Extension
    session: Session
    instance: Instance


class Manager:
    """Made by `Manager.open`."""

    def __init__(self, settings: Settings, store: Store, locks: KeyLocks, clock: Clock) -> None:
        self.settings = settings
        self.store = store
        self._locks = locks
        self._clock = clock
        self._connections: Connections | None = None
        self._telemetry: Telemetry | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, clock: Clock | None = None) -> AsyncIterator[Manager]:
        """
        Open the data directory; made when it is missing.

        Raises:
            TerminalError: The store or the locks cannot be used; the remedy says why.
        """
        clock = clock or SystemClock()
        store = await Store.open(settings.database_path, clock=clock)
        try:
            locks = KeyLocks(settings.locks_path)
            manager = cls(settings, store, locks, clock)
            try:
                yield manager
            finally:
                await manager._close()
                locks.close()
        finally:
            await store.close()

    async def _close(self) -> None:
        if self._telemetry is not None:
            await self._telemetry.close()
        if self._connections is not None:
            await self._connections.close()

    @cached_property
    def registry(self) -> Registry:
        """The extensions that could be loaded, and why others could not."""
        from sandboxer.registry import load_registry

        return load_registry()

    @property
    def telemetry(self) -> Telemetry:
        """The way to the hosts, for this process."""
        if self._telemetry is None:
            from sandboxer.telemetry import Telemetry
            from sandboxer.transport import Connections

            self._connections = Connections(self._clock)
            self._telemetry = Telemetry(
                connections=self._connections,
                extensions=self.registry.extensions,
                environment=self.store.environment,
                clock=self._clock,
                compose_command=self.settings.compose_command,
            )
        return self._telemetry

    def engine(self, wants: Callable[[Key], bool]) -> Engine:
        """Return an engine that works on the keys it wants; it has not started."""
        from sandboxer.engine import Engine

        return Engine(
            self.store,
            self.telemetry,
            registry=self.registry,
            locks=self._locks,
            clock=self._clock,
            default_host=self.settings.host,
            wants=wants,
        )

    def controller_running(self) -> bool:
        """Tell whether a controller owns this data directory, this process included."""
        return self._locks.controller_running()

    @property
    def pid_path(self) -> Path:
        """File in which the controller notes its process id, for messages only."""
        return self.settings.data_dir / "controller.pid"

    def controller_pid(self) -> int | None:
        """Return the process id of the running controller, as it noted it."""
        if not self.controller_running():
            return None
        with suppress(OSError, ValueError):
            return int(self.pid_path.read_text())
        return None

    async def register(self) -> None:
        """Write the objects every installation has, unless a controller already did."""
        if not self.controller_running():
            from sandboxer.manager.builtins import builtin_resources, register_builtins

            await register_builtins(self.store, builtin_resources(self.registry))

    def check(self, sandbox: Sandbox) -> None:
        """
        Refuse a sandbox whose profile would refuse it.

        Raises:
            InvalidSpecError: Naming the field.
        """
        from sandboxer.engine.desired import resolve

        profile = self.store.get(Profile, sandbox.spec.profile)
        resolve(sandbox, profile, self.registry.extensions)

    async def probe(self, host: Host) -> HostReport:
        """
        Probe a host now, everything of ours on it included.

        Raises:
            UnreachableError: It does not answer.
            TerminalError: It refuses us, or is not who it should be.
        """
        return await self.telemetry.probe(host, extensions=frozenset(self.registry.extensions))

    def inventory(self, host: Host) -> Collection[Observation]:
        """Return what the last probe of this process found of ours on a host."""
        return self.telemetry.inventory(host.metadata.name)

    async def inside(self, sandbox: Sandbox, *, needs: str) -> Inside:
        """
        Return what it takes to run or read something inside a sandbox.

        Args:
            sandbox: As stored.
            needs: Capability of its extension, `exec` or `logs`.

        Raises:
            TransientError: It is not provisioned yet.
            TerminalError: Its extension cannot do that, or is not loaded.
            UnreachableError: Its host does not answer.
        """
        from sandboxer.engine.desired import with_secrets
        from sandboxer.engine.sight import Sight
        from sandboxer.extension import Instance

        sight = Sight.of(sandbox, store=self.store, extensions=self.registry.extensions)
        if sight.host is None or not sandbox.status.spec_hash:
            raise TransientError(
                f"{sandbox.key} is not there yet; it is {sandbox.status.phase}.",
                remedy=f"Wait for it: sandboxer wait sandbox/{sandbox.metadata.name} --for=condition=Ready",
            )
        if needs not in sight.known_extension.capabilities:
            raise TerminalError(
                f"{sandbox.key} runs by {sandbox.status.extension}, which has no {needs}.",
                reason="NotCapable",
            )
        if not isinstance(sight.told, Instance):
            raise TerminalError(f"{sandbox.key} cannot be entered. {sight.told}")
        session = await self.telemetry.session(sight.host, recorded=True)
        return Inside(sight.known_extension, session, with_secrets(sight.told, sandbox))

    async def run(
        self, *, specs: Sequence[Path] = (), partial: bool = False, allow_empty: bool = False
    ) -> None:
        """
        Be the controller of this data directory until SIGTERM or SIGINT.

        Args:
            specs: Directories whose manifests are kept.
            partial: Apply what is right in a directory although something in it is wrong.
            allow_empty: An empty directory means that nothing is wanted.

        Raises:
            ConflictError: There is a controller already.
        """
        from sandboxer.manager.daemon import Daemon

        daemon = Daemon(self, self._locks, self._clock)
        await daemon.run(specs, partial=partial, allow_empty=allow_empty)

    async def settle(
        self,
        keys: Collection[Key],
        until: Callable[[], bool],
        *,
        timeout_s: float,
        announce: Callable[[str], None] = lambda _: None,
    ) -> None:
        """
        Return once *until* says yes; see the module's docstring for who does the work meanwhile.

        Args:
            keys: What to reconcile when nobody else does: sandboxes, and hosts named themselves.
            until: Asked after every change of the store; may raise to give up.
            timeout_s: Seconds.
            announce: Told in a sentence, once, when this process begins to reconcile.

        Raises:
            TimeoutError: *until* did not say yes in time.
        """
        async with asyncio.timeout(timeout_s):
            while not await self._follow(until, while_=self.controller_running):
                announce(NOBODY_ELSE)
                announce = _silent
                if await self._reconcile_here(frozenset(keys), until):
                    return

    async def _reconcile_here(self, keys: frozenset[Key], until: Callable[[], bool]) -> bool:
        from sandboxer.manager.engine import running

        await self.register()
        async with running(self.engine(lambda key: self._concerns(key, keys))) as reconciling:

            def alone() -> bool:
                return not reconciling.done() and not self.controller_running()

            done = await self._follow(until, while_=alone)
            if reconciling.done():
                reconciling.result()
        # Where no controller ever runs, nobody else takes away old changes and events.
        await self.store.compact()
        return done

    def _concerns(self, key: Key, keys: frozenset[Key]) -> bool:
        """Tell whether a key matters to *keys*: itself, catalog objects, hosts it is or may be on."""
        if key in keys or key.kind in ("Profile", "Extension"):
            return True
        return key.kind == "Host" and any(self._may_be_on(key.name, each) for each in keys)

    def _may_be_on(self, host: str, key: Key) -> bool:
        sandbox = (
            self.store.get(Sandbox, key.name, key.namespace) if key.kind == "Sandbox" else None
        )
        if sandbox is None:
            return False
        chosen = sandbox.status.host or sandbox.spec.placement.host
        return not chosen or chosen == host

    async def _follow(self, until: Callable[[], bool], *, while_: Callable[[], bool]) -> bool:
        """Ask *until* after every change; False as soon as *while_* says no."""
        changed = asyncio.Event()
        unsubscribe = self.store.subscribe(lambda _: changed.set())
        try:
            while not until():
                if not while_():
                    return False
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await changed.wait()
                changed.clear()
        finally:
            unsubscribe()
        return True

    def extension_problems(self) -> Mapping[str, str]:
        """Return why extensions could not be loaded, by name."""
        return self.registry.problems

    def extension_versions(self) -> Mapping[str, str]:
        """Return the version of each loaded extension, by name."""
        return {name: loaded.version for name, loaded in self.registry.loaded.items()}


def _silent(_: str) -> None:
    """Announce nothing a second time."""
