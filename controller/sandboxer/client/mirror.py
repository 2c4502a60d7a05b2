"""
A copy of some objects that is kept equal to the server's: what a waiting verb looks at.

`Mirror` lists one kind once and then follows its watch; when the server has forgotten where the
mirror stands, it lists again. Looking (`get`, `entry`) never waits. A server that goes away leaves
the copy as it was; the client's `recover` decides what happens next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from sandboxer.client.client import Client
from sandboxer.client.paths import DEFAULT_NAMESPACE, path_of
from sandboxer.client.watching import Change, ExpiredError, metadata_of
from sandboxer.errors import UnreachableError
from sandboxer.kinds.meta import Key, Resource

R = TypeVar("R", bound=Resource)


# Seconds between two looks at what gives no sign of its own: whether somebody still does the work,
# and questions whose answer changes with time.
LOOK_S = 0.5


class Mirrored(NamedTuple):
    """One object of a mirror, not read yet."""

    uid: str
    revision: str
    document: dict[str, Any]


class Mirror:
    """
    The objects of one kind in one namespace, or one of them.

    Args:
        client: Where they are.
        kind: Which.
        namespace: Of no meaning to a cluster-scoped kind.
        name: Only this one; empty is all.
        changed: Set after every change; its owner clears it.
    """

    def __init__(
        self,
        client: Client,
        kind: type[Resource],
        namespace: str = "",
        *,
        name: str = "",
        changed: asyncio.Event | None = None,
    ) -> None:
        self.kind = kind
        self.changed = changed or asyncio.Event()
        self._client = client
        self._namespace = (namespace or DEFAULT_NAMESPACE) if kind.namespaced else None
        self._fields = f"metadata.name={name}" if name else ""
        self._entries: dict[str, Mirrored] = {}
        self._listed = asyncio.Event()

    def entry(self, key: Key) -> Mirrored | None:
        """Return what is known of an object."""
        return self._entries.get(key.name)

    def get(self, key: Key) -> Resource | None:
        """
        Return an object as it was last seen.

        Raises:
            TerminalError: It is of a version that this one does not know.
        """
        entry = self.entry(key)
        return self._client.parsed(self.kind, entry.document) if entry is not None else None

    async def run(self) -> None:
        """
        Keep the copy equal until cancelled.

        Raises:
            SandboxerError: The server refuses, or whoever recovers gave up.
        """
        while True:
            try:
                await self._follow(await self._relist())
            except ExpiredError:
                continue
            except UnreachableError as error:
                await self._client.recover(error)

    async def listed(self) -> None:
        """Wait until the copy is complete for the first time."""
        await self._listed.wait()

    async def _relist(self) -> str:
        query = {"fieldSelector": self._fields} if self._fields else {}
        path = path_of(self.kind, self._namespace)
        documents, revision = await self._client.documents(path, query)
        fields = self.kind.model_fields
        head = {"apiVersion": fields["api_version"].default, "kind": fields["kind"].default}
        self._entries = dict(_entry({**head, **document}) for document in documents)
        self._listed.set()
        self.changed.set()
        return revision

    async def _follow(self, since: str) -> None:
        watching = self._client.watch(self.kind, self._namespace, since=since, fields=self._fields)
        async for change in watching:
            self._take(change)

    def _take(self, change: Change) -> None:
        if change.type == "BOOKMARK":
            return
        name, entry = _entry(change.document)
        if change.type == "DELETED":
            self._entries.pop(name, None)
        else:
            self._entries[name] = entry
        self.changed.set()


def _entry(document: dict[str, Any]) -> tuple[str, Mirrored]:
    metadata = metadata_of(document)
    uid, revision = str(metadata.get("uid") or ""), str(metadata.get("resourceVersion") or "")
    return str(metadata.get("name") or ""), Mirrored(uid, revision, document)


class Mirrors:
    """
    Mirrors that together hold the objects of some keys, from `start` to `stop`.

    Args:
        client: Where they are.
        kinds: The class of each key.
    """

    def __init__(self, client: Client, kinds: Mapping[Key, type[Resource]]) -> None:
        self.changed = asyncio.Event()
        groups: dict[tuple[str, str], list[Key]] = {}
        for key in kinds:
            groups.setdefault((key.kind, key.namespace), []).append(key)
        self._mirrors = {
            group: Mirror(
                client,
                kinds[keys[0]],
                keys[0].namespace,
                name=keys[0].name if len(keys) == 1 else "",
                changed=self.changed,
            )
            for group, keys in groups.items()
        }
        self._tasks: list[asyncio.Task[None]] = []

    def entry(self, key: Key) -> Mirrored | None:
        """Return what is known of an object."""
        return self._mirrors[key.kind, key.namespace].entry(key)

    def get(self, key: Key) -> Resource | None:
        """Return an object as it was last seen."""
        return self._mirrors[key.kind, key.namespace].get(key)

    def check(self) -> None:
        """
        Say that the copies are still kept.

        Raises:
            SandboxerError: One is not, for this reason.
        """
        for task in self._tasks:
            if task.done():
                task.result()

    async def until(self, holds: Callable[[], bool], *, while_: Callable[[], bool]) -> bool:
        """
        Ask *holds* after every change until it says yes; False as soon as *while_* says no.

        Raises:
            SandboxerError: A copy cannot be kept any more; or *holds* gave up.
        """
        while not holds():
            self.check()
            if not while_():
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self.changed.wait()
            self.changed.clear()
        return True

    async def start(self) -> None:
        """Begin, and return once all copies are complete."""
        self._tasks = [asyncio.create_task(mirror.run()) for mirror in self._mirrors.values()]
        for mirror, task in zip(self._mirrors.values(), self._tasks, strict=True):
            listed = asyncio.create_task(mirror.listed())
            await asyncio.wait([listed, task], return_when=asyncio.FIRST_COMPLETED)
            listed.cancel()
        self.check()

    async def stop(self) -> None:
        """End; the copies stay as they are."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
