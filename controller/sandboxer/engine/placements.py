"""
Where every sandbox is placed, kept up to date from the store's changes.

An index, so that no event costs a scan: from a uid to its key, from a host to its sandboxes, those
that come next and leased ports, from a profile to its sandboxes. It holds nothing that is not in the store.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sandboxer.engine.leaving import LEAVING
from sandboxer.engine.lifetime import next_moment_in
from sandboxer.kinds.meta import Key


@dataclass(frozen=True, slots=True)
class Placed:
    """What the index remembers of one sandbox."""

    key: Key
    uid: str
    generation: int
    deleting: bool
    profile: str
    extension: str
    host: str
    """Empty as long as nothing was chosen."""
    ports: tuple[int, ...]
    """Host ports leased to it."""
    next_host: str
    """Host set aside for it while it leaves another one; empty else."""
    next_ports: tuple[int, ...]
    """Ports leased to it there."""
    leaving: bool
    """Whether it is to leave its host."""
    guarded: bool
    """Whether its host has a dead-man's switch for it."""
    next_moment: datetime | None
    """When its lifetime has to be thought of; None is never."""


def placed_from(key: Key, body: bytes) -> Placed:
    """Read what the index needs from the JSON document of a Sandbox."""
    document = json.loads(body)
    metadata, status = document["metadata"], document.get("status", {})
    destination = status.get("destination") or {}
    return Placed(
        key=key,
        uid=metadata.get("uid", ""),
        generation=metadata.get("generation", 0),
        deleting="deletionTimestamp" in metadata,
        profile=document.get("spec", {}).get("profile", ""),
        extension=status.get("extension", ""),
        host=status.get("host", ""),
        ports=tuple(status.get("ports", {}).values()),
        next_host=destination.get("host", ""),
        next_ports=tuple(destination.get("ports", {}).values()),
        leaving=_is_true(status, LEAVING),
        guarded="deadMansSwitch" in status,
        next_moment=next_moment_in(document),
    )


def _is_true(status: Mapping[str, Any], type_: str) -> bool:
    conditions = status.get("conditions", ())
    return any(each["type"] == type_ and each["status"] == "True" for each in conditions)


class Placements:
    """The index over all sandboxes."""

    def __init__(self) -> None:
        self._by_key: dict[Key, Placed] = {}
        self._by_uid: dict[str, Key] = {}
        self._by_host: defaultdict[str, dict[Key, Placed]] = defaultdict(dict)
        self._by_next_host: defaultdict[str, dict[Key, Placed]] = defaultdict(dict)
        self._by_profile: defaultdict[str, set[Key]] = defaultdict(set)
        self._leaving: set[Key] = set()
        # (host, extension) to number of sandboxes: which extensions a probe has to ask.
        self._in_use: defaultdict[tuple[str, str], int] = defaultdict(int)

    def put(self, placed: Placed) -> Placed | None:
        """Remember a sandbox; return what was known of it before."""
        before = self.remove(placed.key)
        self._by_key[placed.key] = placed
        self._by_uid[placed.uid] = placed.key
        self._by_host[placed.host][placed.key] = placed
        self._by_profile[placed.profile].add(placed.key)
        if placed.next_host:
            self._by_next_host[placed.next_host][placed.key] = placed
        if placed.leaving:
            self._leaving.add(placed.key)
        self._in_use[placed.host, placed.extension] += 1
        return before

    def remove(self, key: Key) -> Placed | None:
        """Forget a sandbox; return what was known of it."""
        placed = self._by_key.pop(key, None)
        if placed is None:
            return None
        if self._by_uid.get(placed.uid) == key:
            del self._by_uid[placed.uid]
        del self._by_host[placed.host][key]
        self._by_next_host[placed.next_host].pop(key, None)
        self._leaving.discard(key)
        self._by_profile[placed.profile].discard(key)
        self._in_use[placed.host, placed.extension] -= 1
        return placed

    def get(self, key: Key) -> Placed | None:
        """Return what is known of one sandbox."""
        return self._by_key.get(key)

    def key_of(self, uid: str) -> Key | None:
        """Return the sandbox with that uid."""
        return self._by_uid.get(uid)

    def keys(self) -> Collection[Key]:
        """Return all sandboxes."""
        return self._by_key.keys()

    def mortal(self) -> Collection[Key]:
        """Return the sandboxes whose lifetime ends."""
        return [key for key, placed in self._by_key.items() if placed.next_moment is not None]

    def on_host(self, host: str) -> Collection[Key]:
        """Return the sandboxes placed on a host."""
        return tuple(self._by_host.get(host, ()))

    def placed_on(self, host: str) -> Collection[Placed]:
        """Return what is known of the sandboxes placed on a host."""
        return tuple(self._by_host.get(host, {}).values())

    def crowd(self, host: str) -> int:
        """Return how many sandboxes are placed on a host or come to it next."""
        return len(self._by_host.get(host, ())) + len(self._by_next_host.get(host, ()))

    def seeking(self) -> Collection[Key]:
        """Return the sandboxes that wait for a place: they have none, or are to leave theirs."""
        return (*self.on_host(""), *self._leaving)

    def with_profile(self, profile: str) -> Collection[Key]:
        """Return the sandboxes that name a profile."""
        return tuple(self._by_profile.get(profile, ()))

    def extensions_on(self, host: str) -> set[str]:
        """Return the extensions of the sandboxes placed on a host."""
        return {
            extension
            for (name, extension), count in self._in_use.items()
            if name == host and count > 0
        }

    def is_first_on(self, placed: Placed) -> bool:
        """Tell whether a sandbox is the only one of its extension on its host."""
        return self._in_use[placed.host, placed.extension] == 1

    def leased_ports(self, host: str) -> frozenset[int]:
        """Return the ports of a host that are leased to sandboxes."""
        here, coming = self._by_host.get(host, {}), self._by_next_host.get(host, {})
        ports = {port for sandbox in here.values() for port in sandbox.ports}
        return frozenset(ports.union(port for s in coming.values() for port in s.next_ports))
