"""
One link per host, opened when it is needed, kept, and opened again when it broke.

A host that fails is left alone for a growing while; whoever asks in between is told at once.
Nothing here sleeps or repeats a command: the engine's worker does.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from sandboxer.clock import Clock, SystemClock
from sandboxer.errors import SandboxerError, TerminalError, UnreachableError
from sandboxer.kinds.host import Host, HostSpec
from sandboxer.transport.link import Link, unreachable
from sandboxer.transport.local import LocalLink
from sandboxer.transport.login import KeyRing, open_ssh

# Seconds before a host that failed is tried again, doubled with each failure up to the second.
# Below the usual probe interval (15 s), so that a host that comes back is seen by the next probe.
FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 10.0


@dataclass(slots=True)
class _Slot:
    """What is known of the way to one host; lives until the Host's address changes."""

    route: tuple[object, ...]
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    link: Link | None = None
    shown_key: str = ""
    failures: int = 0
    not_before_s: float = 0.0
    """Monotonic time before which no attempt is made."""
    error: SandboxerError | None = None


class Connections:
    """
    The links of this process.

    Args:
        clock: Decides when a failed host may be tried again.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._slots: dict[str, _Slot] = {}
        self._keys = KeyRing()

    async def link(self, host: Host) -> Link:
        """
        Return a live link to *host*, opening it when there is none.

        One caller opens, the others wait for the result. A change of the address, the account or
        the keys in `spec` closes the old connection.

        Raises:
            UnreachableError: It does not answer, or did not a moment ago.
            TerminalError: Host key or login were refused; the remedy says what to do.
        """
        slot = await self._slot(host)
        if (link := _usable(slot, host)) is not None:
            return link
        async with slot.lock:
            if (link := _usable(slot, host)) is not None:
                return link
            self._refuse_early(slot)
            return await self._open(slot, host)

    def open_link(self, host_name: str) -> Link | None:
        """Return the live link to that host, if there is one; opens nothing."""
        slot = self._slots.get(host_name)
        return slot.link if slot is not None and slot.link and slot.link.alive else None

    async def forget(self, host_name: str) -> None:
        """Close the link to that host and forget its key and its failures."""
        slot = self._slots.pop(host_name, None)
        if slot is not None and slot.link is not None:
            await slot.link.close()

    async def close(self) -> None:
        """Close every link."""
        for name in list(self._slots):
            await self.forget(name)

    async def _slot(self, host: Host) -> _Slot:
        name, route = host.metadata.name, _route(host.spec)
        slot = self._slots.get(name)
        if slot is None or slot.route != route:
            replaced, slot = slot, _Slot(route)
            self._slots[name] = slot
            if replaced is not None and replaced.link is not None:
                await replaced.link.close()
        return slot

    def _refuse_early(self, slot: _Slot) -> None:
        """Repeat the last failure, word for word: it becomes a condition, which must not flicker."""
        error = slot.error
        if error is not None and self._clock.monotonic_s() < slot.not_before_s:
            raise type(error)(error.message, reason=error.reason, remedy=error.remedy)

    async def _open(self, slot: _Slot, host: Host) -> Link:
        if slot.link is not None:
            await slot.link.close()
            slot.link = None
        try:
            slot.link = await self._connect(host, _pinned(slot, host))
        except (UnreachableError, TerminalError) as err:
            backoff_s = min(FIRST_BACKOFF_S * 2**slot.failures, LONGEST_BACKOFF_S)
            slot.failures = min(slot.failures + 1, 16)
            # Half of it is drawn, so that a rack that lost power is not asked in one moment.
            slot.not_before_s = self._clock.monotonic_s() + backoff_s * random.uniform(0.5, 1)  # noqa: S311 - not a secret
            slot.error = err
            raise
        slot.failures, slot.error, slot.shown_key = 0, None, slot.link.host_key
        if self._slots.get(host.metadata.name) is not slot:
            # The Host went or leads elsewhere since; nobody else would close this link.
            await slot.link.close()
            raise unreachable(host.metadata.name, "connecting", "its Host was changed meanwhile")
        return slot.link

    async def _connect(self, host: Host, pinned: str) -> Link:
        if host.spec.transport == "local":
            return LocalLink(host.metadata.name)
        return await open_ssh(host, pinned=pinned, keys=self._keys)


def _route(spec: HostSpec) -> tuple[object, ...]:
    """Return what a connection depends on."""
    return (
        spec.transport,
        spec.address,
        spec.ssh_alias,
        spec.tunnel_port,
        spec.port,
        spec.user,
        spec.identity_file,
        spec.host_key,
        spec.trust_on_first_use,
    )


def _pinned(slot: _Slot, host: Host) -> str:
    """
    Return the key the host must show, or empty when none is known.

    The key seen before in this process counts too: between the first contact and the moment the
    Host's status holds the key, a reconnect must not trust a second stranger.
    """
    return host.spec.host_key or host.status.host_key or slot.shown_key


def _usable(slot: _Slot, host: Host) -> Link | None:
    link = slot.link
    if link is None or not link.alive:
        return None
    recorded = host.spec.host_key or host.status.host_key
    return None if recorded and link.host_key and recorded != link.host_key else link
