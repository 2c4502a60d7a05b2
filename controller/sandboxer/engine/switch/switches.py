"""
Arming, renewing and disarming the switches on hosts.

The truth is what a host lists. It is asked with every probe while it has switches, which renews
its lease in the same command; what it says is kept in memory until then.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib import resources

from sandboxer.engine.placements import Placements
from sandboxer.engine.switch.guard import Guard, Switch
from sandboxer.engine.switch.listing import Listing, read_listing
from sandboxer.errors import SandboxerError, TransientError, UnreachableError
from sandboxer.extension import Instance, short_id
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import Key
from sandboxer.kinds.sandbox import Sandbox, SwitchSeen
from sandboxer.session import Session
from sandboxer.store import Store

_log = logging.getLogger(__name__)

# Seconds; the command itself waits ten for its lock, and systemd may take a few.
TIMEOUT_S = 30.0

# Switches of unknown sandboxes that are thought of after one probe; far more than a host has.
MAX_STRAYS = 500

# All of the command's text travels by standard input, for it is longer than some SSH servers take
# for a command (dropbear: 9000 bytes).
_READ_SCRIPT = 'eval "$(cat)"'


@dataclass(kw_only=True)
class Switches:
    """The dead-man's switches of one installation."""

    store: Store
    placements: Placements
    reach: Callable[[Host], Awaitable[Session]]
    """The way to a host."""
    _on: dict[str, Listing] = field(default_factory=dict)
    """By host: what it said last."""
    _asking: defaultdict[str, asyncio.Lock] = field(
        default_factory=lambda: defaultdict(asyncio.Lock)
    )
    """By host: held while it is asked."""

    async def follow(
        self, host: Host, instance: Instance, guard: Guard | None, seen: SwitchSeen | None
    ) -> SwitchSeen | None:
        """
        Arm or disarm one sandbox as wished; return what its host has then.

        Args:
            host: Where it is.
            instance: The sandbox.
            guard: What is wished.
            seen: What its host had before.

        Raises:
            SandboxerError: The host did not do it.
        """
        if guard is None or guard.switch is None:
            await self.disarm(host, [instance.uid], seen)
            return None
        await self._leave(host, instance.uid, seen)
        listing = await self._run(host, *_arming(instance.uid, guard.switch))
        known = listing.armed.get(instance.uid) == (guard.switch.expires_at, guard.switch.lease_s)
        if not known or instance.uid in listing.fired or listing.watcher is None:
            raise TransientError(
                f"Host {host.metadata.name} did not arm the dead-man's switch of {instance.name}.",
                reason="NotArmed",
            )
        return SwitchSeen(
            expires_at=guard.switch.expires_at,
            lease_s=guard.switch.lease_s,
            watcher=listing.watcher,
            survives_reboot=listing.survives_reboot,
            directory=await self._directory(host),
        )

    async def disarm(
        self, host: Host, uids: Collection[str], seen: SwitchSeen | None = None
    ) -> None:
        """Take the switches of these sandboxes away, also where one was *seen*; absent is success."""
        for uid in uids:
            await self._leave(host, uid, seen)
        await self._run(host, "disarm", *map(short_id, uids))

    async def renew(self, host: Host) -> Collection[Key]:
        """
        Say to a host that a controller is there, if it has switches.

        Whether it has some for sandboxes this store does not know is asked once.

        Returns:
            Sandboxes whose switch has fired or is gone, which want a pass.

        Raises:
            SandboxerError: The host does not answer as it should.
        """
        name = host.metadata.name
        guarded = [p for p in self.placements.placed_on(name) if p.guarded]
        if not guarded and self._on.get(name) == Listing():
            return ()
        await self.ask(host)
        await self._disarm_strays(host)
        return [placed.key for placed in guarded if self._is_odd(name, placed.uid)]

    async def ask(self, host: Host) -> None:
        """Have a host say what it has, which renews its lease as well."""
        await self._run(host, "renew")

    async def ask_about(self, host: Host, sandbox: Sandbox) -> datetime | None:
        """
        Return when a host took a sandbox away; None when it did not, or does not say.

        Raises:
            UnreachableError: It does not answer at all. One that only cannot say this must not keep
                the sandbox from being seen to.
        """
        try:
            await self.ask(host)
        except UnreachableError:
            raise
        except SandboxerError as error:
            _log.warning("%s: not known whether its host took it away: %s", sandbox.key, error)
        return self.news_of(sandbox)

    def forget(self, host_name: str) -> None:
        """Drop what is known of a host."""
        self._on.pop(host_name, None)
        self._asking.pop(host_name, None)

    def news_of(self, sandbox: Sandbox) -> datetime | None:
        """Return when its host took it away, where that is known and not said of it yet."""
        listing, seen = self._on.get(sandbox.status.host), sandbox.status.dead_mans_switch
        if listing is None or seen is None or seen.fired_at is not None:
            return None
        return listing.fired.get(sandbox.metadata.uid)

    def is_lost(self, sandbox: Sandbox) -> bool:
        """Tell whether its host has no switch for it any more, or another one."""
        listing, seen = self._on.get(sandbox.status.host), sandbox.status.dead_mans_switch
        if listing is None or seen is None or seen.fired_at is not None:
            return False
        if listing.armed.get(sandbox.metadata.uid) != (seen.expires_at, seen.lease_s):
            return True
        return (listing.watcher, listing.survives_reboot) != (seen.watcher, seen.survives_reboot)

    def _is_odd(self, host_name: str, uid: str) -> bool:
        key = self.placements.key_of(uid)
        sandbox = self.store.get(Sandbox, key.name, key.namespace) if key is not None else None
        return sandbox is not None and sandbox.status.host == host_name and self.is_lost(sandbox)

    async def _disarm_strays(self, host: Host) -> None:
        """
        Take away the switches of sandboxes that are known to be gone.

        What nobody knows keeps its switch: it may be somebody's work, made after the backup this
        store was restored from, and nothing fires while a lease is renewed. So does what lives on
        another Host, which may be another way to the same machine.
        """
        listing = self._on[host.metadata.name]
        listed = sorted({*listing.armed, *listing.fired})
        unknown = [uid for uid in listed if self.placements.key_of(uid) is None]
        strays = [
            uid for uid in unknown[:MAX_STRAYS] if await self.store.tombstones(uid=uid, limit=1)
        ]
        if strays:
            await self.disarm(host, strays)

    async def _run(self, host: Host, *arguments: str) -> Listing:
        # NOTE: one at a time, or an answer could overtake a newer one.
        name = host.metadata.name
        async with self._asking[name]:
            listing = await self._ask(host, arguments, await self._directory(host))
            if listing.odd and (name not in self._on or not self._on[name].odd):
                _log.warning(
                    "host %s says of its switches what nobody understands: %r", name, listing.odd
                )
            self._on[name] = listing
        return listing

    async def _leave(self, host: Host, uid: str, seen: SwitchSeen | None) -> None:
        """Disarm one in the directory it was *seen* in, if the host's is another one by now."""
        if seen is None or seen.directory in ("", await self._directory(host)):
            return
        async with self._asking[host.metadata.name]:
            await self._ask(host, ("disarm", short_id(uid)), seen.directory)

    async def _directory(self, host: Host) -> str:
        session = await self.reach(host)
        return f"{session.facts.work_root}/.switches/{self.store.environment}"

    async def _ask(self, host: Host, arguments: Sequence[str], directory: str) -> Listing:
        name = host.metadata.name
        session = await self.reach(host)
        script = f"set -- {shlex.join([directory, *arguments])}\n{_text('switch')}"
        done = await session.script(_READ_SCRIPT, stdin=script.encode(), timeout_s=TIMEOUT_S)
        if done.exit_status:
            raise TransientError(
                f"The dead-man's switches of host {name} cannot be reached: {done.error_text(200)}",
                reason="SwitchesUnreachable",
            )
        return read_listing(done.stdout)


def _arming(uid: str, switch: Switch) -> tuple[str, ...]:
    end_s = int(switch.expires_at.timestamp())
    command = f"exec {shlex.join(switch.command)}"
    numbers = (str(end_s), str(switch.lease_s))
    return ("arm", short_id(uid), uid, *numbers, command, _text("watch"), _text("units"))


@cache
def _text(name: str) -> str:
    return resources.files(__package__).joinpath(f"{name}.sh").read_text("utf-8")
