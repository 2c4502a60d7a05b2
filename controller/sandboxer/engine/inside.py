"""What it takes to reach into a sandbox: run something there, read its output, connect to a port."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from sandboxer.clock import Clock
from sandboxer.engine.adoption import Adoption
from sandboxer.engine.desired import with_secrets
from sandboxer.engine.observer import HostReport
from sandboxer.engine.sight import Sight
from sandboxer.engine.stale import Reaper, stale_of
from sandboxer.errors import TerminalError, TransientError, Waiting
from sandboxer.extension import Capability, Extension, Instance, Observation
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.registry import Registry
from sandboxer.session import Session
from sandboxer.store import Cause, EventRecorder, KeyLocks, Store
from sandboxer.telemetry import Telemetry


class Inside(NamedTuple):
    """One sandbox, entered: `extension.exec(session, instance, …)` and its like can be called."""

    extension: Extension
    session: Session
    instance: Instance


class Entrance:
    """
    The way into sandboxes.

    Args:
        store: Says where a sandbox was placed.
        registry: The extensions that are loaded.
        telemetry: The way to the hosts.
        locks: Shared with other processes on the same store.
        clock: Dates what is recorded.

    Attributes:
        adoption: Takes in sandboxes whose objects were lost.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        telemetry: Telemetry,
        *,
        locks: KeyLocks,
        clock: Clock,
    ) -> None:
        self._store = store
        self._registry = registry
        self._telemetry = telemetry
        self._reaper = Reaper(
            store,
            telemetry,
            extensions=registry.extensions,
            locks=locks,
            events=EventRecorder(store, clock),
        )
        self.adoption = Adoption(
            store=store,
            observer=telemetry,
            extensions=registry.extensions,
            locks=locks,
            clock=clock,
        )

    async def enter(self, sandbox: Sandbox, *, needs: Capability) -> Inside:
        """
        Return what it takes to reach into a sandbox.

        Args:
            sandbox: As stored.
            needs: What its extension must be able to do.

        Raises:
            TransientError: It is not provisioned yet.
            TerminalError: Its extension cannot do that, or is not loaded.
            UnreachableError: Its host does not answer.
        """
        sight = Sight.of(sandbox, store=self._store, extensions=self._registry.extensions)
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
        session = await self._telemetry.session(sight.host, recorded=True)
        return Inside(sight.known_extension, session, with_secrets(sight.told, sandbox))

    async def look(self, host: Host) -> tuple[HostReport, Collection[Observation]]:
        """
        Probe a host now; return what it is, and everything that carries our label there.

        Raises:
            UnreachableError: It does not answer.
            TerminalError: It refuses us, or is not who it should be.
        """
        extensions = frozenset(self._registry.extensions)
        report = await self._telemetry.probe(host, extensions=extensions)
        return report, self._telemetry.inventory(host.metadata.name)

    async def reap(self, host: Host, uid: str, *, extension: str, by: str) -> bool:
        """
        Take something stale away that a person wants away; what is not stale is left.

        Args:
            host: As stored.
            uid: What it carries.
            extension: Which lists it.
            by: Who wants it.

        Returns:
            Whether it was taken away.

        Raises:
            TransientError: Somebody works on the sandbox of that name.
            TerminalError: It must not be taken away, or the extension is not loaded.
            UnreachableError: The host does not answer.
        """
        seen = await self._telemetry.refresh(extension, host, uid)
        found = stale_of(self._store, host, [seen])
        if not found:
            return False
        because, cause = f"{by} had it removed.", Cause(f"user/{by}", "request")
        try:
            return await self._reaper.reap(found[0], host, because=because, cause=cause)
        except Waiting as busy:
            raise TransientError(busy.message, reason="Busy", remedy="Ask again.") from busy
