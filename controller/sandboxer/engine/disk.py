"""
Disks of a host: when they count as full, and making room on them when their owner asked for it.

Looked at are the disk of the work root and that of the engine's store, where the images lie; they
may be one. Full is said from the high watermark on and taken back below the low one, so that a
disk on the edge does not flap. What does not know how large it is, is not full: nobody knows.

Making room is removing unused images, by the extensions that can (`Extension.prune`), and only
while the store's own disk is full. It holds the host's next probe back by two minutes at most.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sandboxer.clock import Clock
from sandboxer.engine.conditions import Fact
from sandboxer.engine.observer import Observer
from sandboxer.errors import SandboxerError
from sandboxer.extension import Extension, Pruned, Pruning
from sandboxer.kinds.host import Host, HostLoad
from sandboxer.store import EventRecorder
from sandboxer.units import format_bytes

DISK_PRESSURE = "DiskPressure"
"""Condition of a Host: one of its disks is full, and nothing new is placed there."""

_BOTH_FULL = "DisksFull"

# Seconds between two attempts to make room: listing images costs the engine a second or two, and
# what was pulled since the last time is what the sandboxes here need.
PRUNE_INTERVAL_S = 300.0

# Seconds an extension may take for it.
PRUNE_LIMIT_S = 130.0

# Images named in a message.
MAX_NAMES = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """One file system of a host, as the last probe saw it."""

    holds: str
    """What of ours lies on it."""
    full_reason: str
    """Reason of the condition while this one is full, and no other."""
    total_bytes: int
    free_bytes: int

    @property
    def is_known(self) -> bool:
        """Whether the numbers can be true."""
        return 0 <= self.free_bytes <= self.total_bytes and self.total_bytes > 0

    @property
    def used_percent(self) -> float:
        """Share that is not free to us; what is reserved for others counts as used."""
        return 100.0 * (self.total_bytes - self.free_bytes) / self.total_bytes

    @property
    def told(self) -> str:
        """How full it is, in words that change only with a whole percent."""
        return f"{self.used_percent:.0f} % of {format_bytes(self.total_bytes)} in use"


def work_disk(load: HostLoad) -> Disk:
    """Return the disk of the work root."""
    return Disk(
        holds="the work root",
        full_reason="WorkRootFull",
        total_bytes=load.disk_total_bytes,
        free_bytes=load.disk_free_bytes,
    )


def store_disk(load: HostLoad) -> Disk:
    """Return the disk of the engine's store, which may be the same one."""
    return Disk(
        holds="the engine's store",
        full_reason="EngineStoreFull",
        total_bytes=load.store_disk_total_bytes,
        free_bytes=load.store_disk_free_bytes,
    )


def pressure(host: Host, load: HostLoad) -> Fact:
    """Return what is to be said of a host's disks, given what is said of them now."""
    limits = host.spec.disk
    known = [disk for disk in (work_disk(load), store_disk(load)) if disk.is_known]
    if not known:
        return Fact("Unknown", "DiskUnknown", "It is not known how full its disks are.")
    full = [disk for disk in known if _is_full(disk, host)]
    if not full:
        return Fact("False", "DiskHasRoom", f"Less than {limits.high_watermark} % are in use.")
    message = (
        f"{_told(full)}. Nothing new is placed here before it is {limits.low_watermark} % at most."
    )
    return Fact("True", full[0].full_reason if len(full) == 1 else _BOTH_FULL, message)


def _is_full(disk: Disk, host: Host) -> bool:
    limits, before = host.spec.disk, host.status.condition(DISK_PRESSURE)
    reason = before.reason if before is not None and before.status == "True" else ""
    was_full = reason in (disk.full_reason, _BOTH_FULL)
    limit = limits.low_watermark if was_full else limits.high_watermark
    return disk.used_percent > limit or (not was_full and disk.used_percent == limit)


def _told(full: Sequence[Disk]) -> str:
    """Return how full they are; two that are alike are mostly one."""
    first, *rest = full
    if any(disk.told != first.told for disk in rest):
        return "; ".join(f"The disk of {disk.holds} has {disk.told}" for disk in full)
    return f"The disk of {' and '.join(disk.holds for disk in full)} has {first.told}"


@dataclass(kw_only=True)
class DiskRoom:
    """Makes room on hosts whose owners asked for it."""

    observer: Observer
    extensions: Mapping[str, Extension]
    events: EventRecorder
    clock: Clock
    _tried_s: dict[str, float] = field(default_factory=dict)
    """By host: when it was tried last; monotonic."""

    def forget(self, host_name: str) -> None:
        """Drop what is known of a host that is gone."""
        self._tried_s.pop(host_name, None)

    async def make(self, host: Host, load: HostLoad) -> None:
        """
        Remove unused images from a host whose store is full, if that is wished and due.

        Args:
            host: As stored, with what is said of its disks now.
            load: As a probe saw it just now.
        """
        disk, name = store_disk(load), host.metadata.name
        if host.spec.disk.prune != "Unused" or not disk.is_known or not self._is_due(name):
            return
        if not host.status.is_true(DISK_PRESSURE) or not _is_full(disk, host):
            return
        self._tried_s[name] = self.clock.monotonic_s()
        wanted = Pruning(
            free_bytes=disk.total_bytes * (100 - host.spec.disk.low_watermark) // 100,
            keep_images=host.spec.disk.keep_images,
        )
        for extension in sorted(self.extensions):
            if "prune" in self.extensions[extension].capabilities:
                await self._prune(host, extension, wanted)

    def _is_due(self, name: str) -> bool:
        tried_s = self._tried_s.get(name)
        return tried_s is None or self.clock.monotonic_s() - tried_s >= PRUNE_INTERVAL_S

    async def _prune(self, host: Host, extension: str, wanted: Pruning) -> None:
        try:
            session = await self.observer.session(host)
            async with asyncio.timeout(PRUNE_LIMIT_S):
                pruned = await self.extensions[extension].prune(session, wanted)
        except Exception as error:  # noqa: BLE001 - a bug of an extension must not cost the host
            why = str(error) if isinstance(error, SandboxerError) else repr(error)
            fields = {"host": host.metadata.name, "extension": extension, "error": why}
            _log.warning("unused images could not be removed", extra=fields)
            message = f"{extension} could not remove unused images. {why}"
            await self.events.record(host, "PruneFailed", message, type="Warning")
            return
        _log.info(
            "unused images were removed",
            extra={
                "host": host.metadata.name,
                "removed": pruned.removed,
                "freed_bytes": pruned.freed_bytes,
            },
        )
        await self._tell(host, extension, pruned)

    async def _tell(self, host: Host, extension: str, pruned: Pruned) -> None:
        refused = f" {pruned.kept} more were refused by the engine." if pruned.kept else ""
        if not pruned.removed:
            message = f"{extension} found no unused image that may be removed.{refused}"
            await self.events.record(host, "NothingToPrune", message, type="Warning")
            return
        names = ", ".join(pruned.removed[:MAX_NAMES])
        names += ", …" if len(pruned.removed) > MAX_NAMES else ""
        message = (
            f"{extension} removed {len(pruned.removed)} images that nobody used ({names}); "
            f"{format_bytes(pruned.freed_bytes)} more are free.{refused}"
        )
        await self.events.record(host, "ImagesPruned", message)
