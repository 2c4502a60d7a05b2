"""
The manager: one open data directory, and everything that can be done with it.

`run` is the daemon. `settle` is what a command does that waits: it only looks on while a controller
runs, and reconciles its own objects in-process while none does, changing from one to the other
whenever a controller comes or goes. Two processes never work on one key at a time,
because both take its lock (`sandboxer.store.locks`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sandboxer.clock import Clock, SystemClock
from sandboxer.kinds.meta import Key
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.settings import Settings
from sandboxer.store import KeyLocks, Store

if TYPE_CHECKING:
    from sandboxer.api.server import Exposure
    from sandboxer.engine import Engine
    from sandboxer.engine.inside import Entrance
    from sandboxer.registry import Registry
    from sandboxer.telemetry import Telemetry
    from sandboxer.transport import Connections

Follow = Callable[[Callable[[], bool]], Awaitable[bool]]

NOBODY_ELSE = "no controller is running; this command reconciles what it waits for by itself"


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

    def engine(
        self, wants: Callable[[Key], bool], *, orphan_grace_s: float | None = None
    ) -> Engine:
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
            orphan_grace_s=orphan_grace_s,
        )

    def controller_running(self) -> bool:
        """Tell whether a controller owns this data directory, this process included."""
        return self._locks.controller_running()

    @property
    def pid_path(self) -> Path:
        """File in which the controller notes its process id, for messages only."""
        return self.settings.pid_path

    def controller_pid(self) -> int | None:
        """Return the process id of the running controller, as it noted it."""
        if not self.controller_running():
            return None
        with suppress(OSError, ValueError):
            return int(self.pid_path.read_text())
        return None

    async def register(self) -> None:
        """Write the objects every installation has, unless a controller already did."""
        from sandboxer.manager.builtins import builtin_resources, register_builtins

        wanted = builtin_resources(self.registry)
        # NOTE: one that has only just begun has written none of them, for it writes all at once.
        begun = any(self.store.get(type(each), each.metadata.name) for each in wanted)
        if not (begun and self.controller_running()):
            await register_builtins(self.store, wanted)

    @cached_property
    def entrance(self) -> Entrance:
        """The way into sandboxes, for this process."""
        from sandboxer.engine.inside import Entrance

        return Entrance(
            self.store, self.registry, self.telemetry, locks=self._locks, clock=self._clock
        )

    async def run(
        self,
        *,
        specs: Sequence[Path] = (),
        partial: bool = False,
        allow_empty: bool = False,
        exposure: Exposure | None = None,
        orphan_grace_s: float | None = None,
    ) -> None:
        """
        Be the controller of this data directory until SIGTERM or SIGINT.

        Args:
            specs: Directories whose manifests are kept.
            partial: Apply what is right in a directory although something in it is wrong.
            allow_empty: An empty directory means that nothing is wanted.
            exposure: Where to serve the API on the network; None serves the Unix socket only.
            orphan_grace_s: Seconds after which orphans are reaped; None never reaps them.

        Raises:
            ConflictError: There is a controller already, or the port is taken.
        """
        from sandboxer.manager.daemon import Daemon

        daemon = Daemon(self, self._locks, self._clock, orphan_grace_s=orphan_grace_s)
        await daemon.run(specs, partial=partial, allow_empty=allow_empty, exposure=exposure)

    async def settle(
        self,
        keys: Collection[Key],
        follow: Follow,
        *,
        announce: Callable[[str], None] = lambda _: None,
    ) -> None:
        """
        Return once what is waited for is there; see the module's docstring for who works meanwhile.

        Args:
            keys: What to reconcile when nobody else does: sandboxes, and hosts named themselves.
            follow: Waits for it. Takes a question that it asks again and again, and returns False
                as soon as that is answered with no, True once what is waited for is there.
            announce: Told in a sentence, once, when this process begins to reconcile.
        """
        while not await follow(self.controller_running):
            announce(NOBODY_ELSE)
            announce = _silent
            if await self._reconcile_here(frozenset(keys), follow):
                return

    async def _reconcile_here(self, keys: frozenset[Key], follow: Follow) -> bool:
        from sandboxer.manager.engine import running

        await self.register()
        async with running(self.engine(lambda key: self._concerns(key, keys))) as reconciling:

            def alone() -> bool:
                return not reconciling.done() and not self.controller_running()

            done = await follow(alone)
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
        if key.kind == "SandboxPool":
            return True
        sandbox = (
            self.store.get(Sandbox, key.name, key.namespace) if key.kind == "Sandbox" else None
        )
        if sandbox is None:
            return False
        chosen = sandbox.status.host or sandbox.spec.placement.host
        return not chosen or chosen == host

    def extension_problems(self) -> Mapping[str, str]:
        """Return why extensions could not be loaded, by name."""
        return self.registry.problems

    def extension_versions(self) -> Mapping[str, str]:
        """Return the version of each loaded extension, by name."""
        return {name: loaded.version for name, loaded in self.registry.loaded.items()}


def _silent(_: str) -> None:
    """Announce nothing a second time."""
