"""
Where every sandbox is placed, kept up to date from the store's changes.

An index, so that no event costs a scan: from a uid to its key, from a host to its sandboxes and
leased ports, from a profile to its sandboxes. It holds nothing that is not in the store.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

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
    next_moment: datetime | None
    """When its lifetime has to be thought of; None is never."""


def placed_from(key: Key, body: bytes) -> Placed:
    """Read what the index needs from the JSON document of a Sandbox."""
    document = json.loads(body)
    metadata, status = document["metadata"], document.get("status", {})
    return Placed(
        key=key,
        uid=metadata.get("uid", ""),
        generation=metadata.get("generation", 0),
        deleting="deletionTimestamp" in metadata,
        profile=document.get("spec", {}).get("profile", ""),
        extension=status.get("extension", ""),
        host=status.get("host", ""),
        ports=tuple(status.get("ports", {}).values()),
        next_moment=next_moment_in(document),
    )


class Placements:
    """The index over all sandboxes."""

    def __init__(self) -> None:
        self._by_key: dict[Key, Placed] = {}
        self._by_uid: dict[str, Key] = {}
        self._by_host: defaultdict[str, dict[Key, Placed]] = defaultdict(dict)
        self._by_profile: defaultdict[str, set[Key]] = defaultdict(set)
        # (host, extension) to number of sandboxes: which extensions a probe has to ask.
        self._in_use: defaultdict[tuple[str, str], int] = defaultdict(int)

    def put(self, placed: Placed) -> Placed | None:
        """Remember a sandbox; return what was known of it before."""
        before = self.remove(placed.key)
        self._by_key[placed.key] = placed
        self._by_uid[placed.uid] = placed.key
        self._by_host[placed.host][placed.key] = placed
        self._by_profile[placed.profile].add(placed.key)
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

    def unrouted(self) -> Collection[Key]:
        """Return the sandboxes for which nothing was chosen."""
        return self.on_host("")

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
        placed: Iterable[Placed] = self._by_host.get(host, {}).values()
        return frozenset(port for sandbox in placed for port in sandbox.ports)
