"""Choosing a place among what the store says of hosts, and leasing their ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from sandboxer.engine.breaker import Breakers
from sandboxer.engine.placements import Placements
from sandboxer.engine.sight import Sight
from sandboxer.errors import TransientError, Waiting
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import Key
from sandboxer.routing import Choice, NoFit, Place, Wish, choose, lease_ports, still_fits
from sandboxer.store import KeyLocks, Store

LEASES = Key("Leases", "", "all")
"""No object: the key whose lock is held while places and ports are given away."""

# Seconds until a pass tries again that found another process choosing; that takes one commit,
# a few milliseconds.
BUSY_DELAY_S = 0.02


@dataclass(kw_only=True)
class Leasing:
    """Hosts and their ports, as given to sandboxes by this process."""

    store: Store
    placements: Placements
    breakers: Breakers
    locks: KeyLocks
    """Shared with other processes on the same store."""
    default_host: str | None = None
    """Host for sandboxes that name none (`SANDBOXER_HOST`)."""
    _here: asyncio.Lock = field(default_factory=asyncio.Lock)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """
        Keep everybody else from choosing, from a choice to the write that stores it.

        Inside, the index has what every other process leased before.

        Raises:
            Waiting: Another process is choosing.
        """
        async with self._here:
            with self.locks.try_key(LEASES) as mine:
                if not mine:
                    raise Waiting(
                        "Another process chooses a place at this moment.",
                        retry_after_s=BUSY_DELAY_S,
                        reason="LeasesBusy",
                    )
                # NOTE: a write, even of nothing, is answered after the changes committed before it
                # were taken over; without it a lease of another process is seen 0.1 s too late.
                await self.store.write([])
                yield

    def choose(self, wish: Wish, uid: str = "") -> Choice | NoFit:
        """Choose an extension and a host for the wish of the sandbox with that uid."""
        places = [self._place(host, uid) for host in self._hosts()]
        return choose(wish, places, default_host=self.default_host)

    def elsewhere(self, sight: Sight) -> Choice | NoFit | None:
        """
        Return where a sandbox goes that is to leave its host; None when its wish makes no sense.

        What was set aside for it counts as long as it fits. Where actions fail nothing is tried:
        what runs is better off where it is.
        """
        if not isinstance(sight.wish, Wish):
            return None
        kept = self.kept(sight)
        if kept is not None:
            return kept
        places = [replace(self._place(host, ""), open_to=frozenset()) for host in self._hosts()]
        return choose(sight.wish, places, default_host=self.default_host)

    def kept(self, sight: Sight) -> Choice | None:
        """Return the place that was set aside for a sandbox, if it can be taken still."""
        aside = sight.sandbox.status.destination
        host = self.store.get(Host, aside.host) if aside is not None else None
        if aside is None or host is None:
            return None
        choice = Choice(
            extension=aside.extension, host=aside.host, ports=aside.ports, reason=aside.reason
        )
        place = self._place(host, "")
        fits = still_fits(sight.known_wish, choice, place, default_host=self.default_host)
        return choice if fits else None

    def ports(self, sight: Sight) -> dict[str, int]:
        """
        Return the leases of a sandbox for the ports its spec names now; known ones are kept.

        Raises:
            TransientError: Its host has no port left.
        """
        kept, ports = sight.sandbox.status.ports, sight.known_wish.ports
        if sight.host is None or kept.keys() == {port.name for port in ports}:
            return kept
        name = sight.host.metadata.name
        added = [port for port in ports if port.name not in kept]
        new = lease_ports(added, sight.host.spec.port_range, self.placements.leased_ports(name))
        if new is None:
            raise TransientError(
                f"{sight.sandbox.key} needs {len(added)} more ports, and the portRange of host "
                f"{name} has not as many free.",
                reason="NoFreePort",
                remedy="Delete a sandbox there or widen the range.",
            )
        return {port.name: (kept | new)[port.name] for port in ports}

    def _hosts(self) -> list[Host]:
        return self.store.list(Host)

    def _place(self, host: Host, uid: str) -> Place:
        name = host.metadata.name
        return Place(
            host=host,
            sandboxes=self.placements.crowd(name),
            leased_ports=self.placements.leased_ports(name),
            failing=self.breakers.objections(name),
            open_to=self.breakers.open_to(name, uid),
        )
