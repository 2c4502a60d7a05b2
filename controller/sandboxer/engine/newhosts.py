"""
Hosts nobody applied: a sandbox names a machine, and its extension knows how to reach it.

Such a Host is an object like any other. It is created once, never changed by us, and stays when
the sandbox goes, as the machine does.
"""

from __future__ import annotations

from dataclasses import dataclass

from sandboxer.errors import ConflictError, InvalidSpecError
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import ObjectMeta
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.routing import Candidate, Wish
from sandboxer.store import EventRecorder, Store


@dataclass(frozen=True, kw_only=True)
class NewHosts:
    """Makes the Hosts that sandboxes name."""

    store: Store
    events: EventRecorder

    async def make(self, sandbox: Sandbox, wish: Wish) -> None:
        """
        Create each Host that a candidate names and that is not there.

        Raises:
            InvalidSpecError: No candidate's machine is known.
        """
        unknown: list[InvalidSpecError] = []
        for candidate in wish.candidates:
            if not self._is_missing(candidate, wish):
                continue
            try:
                await self._create(sandbox, candidate)
            except InvalidSpecError as error:
                unknown.append(error)
        if unknown and len(unknown) == len(wish.candidates):
            raise unknown[0]

    def _is_missing(self, candidate: Candidate, wish: Wish) -> bool:
        if not candidate.host or wish.placement.host not in (None, candidate.host):
            return False
        return self.store.get(Host, candidate.host) is None

    async def _create(self, sandbox: Sandbox, candidate: Candidate) -> None:
        assert candidate.extension is not None
        assert candidate.inputs is not None
        spec = candidate.extension.find_host(candidate.inputs)
        host = Host(metadata=ObjectMeta(name=candidate.host), spec=spec)
        try:
            host = await self.store.create(host)
        except ConflictError:
            # Somebody else created it a moment ago; theirs counts.
            return
        await self.events.record(
            host, "Registered", f"{sandbox.key} names this machine, and it had no Host yet."
        )
