"""
The store: every object, durable, versioned, in memory for reading.

Writes go to one thread (`sandboxer.store.writer`), which judges them by the rules of
`sandboxer.store.rules` inside a durable transaction. What it commits, and what other processes
commit, comes back to the event loop as changes, which feed the cache in order and are announced.
Reads are answered from the cache and never wait.

All methods belong to the event loop the store was opened on.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from sandboxer.clock import Clock
from sandboxer.errors import SandboxerError
from sandboxer.kinds.meta import Key, Resource
from sandboxer.kinds.story import Tombstone, Transition
from sandboxer.store import chronicle, history, retention
from sandboxer.store.cache import Cache
from sandboxer.store.database import Database
from sandboxer.store.deliveries import Deliveries
from sandboxer.store.entries import Change, Entry, decode
from sandboxer.store.feed import Feed
from sandboxer.store.inventory import InventoryEntry, read_inventory, replace_inventory
from sandboxer.store.operations import (
    CONTROLLER,
    Adopt,
    Cause,
    Create,
    Delete,
    News,
    Operation,
    Remains,
    Update,
    UpdateStatus,
    key_of,
)
from sandboxer.store.rules import Wish, prepare
from sandboxer.store.signing import signing_key
from sandboxer.store.transaction import Result, Transaction
from sandboxer.store.writer import Delivery, Writer

R = TypeVar("R", bound=Resource)


class Store:
    """Made by `Store.open`."""

    def __init__(
        self, database: Database, environment: str, signing_key: bytes, cache: Cache, clock: Clock
    ) -> None:
        self.environment = environment
        """Random id of this installation, made once; on the labels of everything it makes."""
        self.signing_key = signing_key
        """By which this installation knows its own manifests again."""
        self._database = database
        self._cache = cache
        self._clock = clock
        self._feed = Feed(database, cache)
        self._writer = Writer(database, cache.revision, clock=clock, deliver=self._receive)
        self.deliveries = Deliveries(database, self._writer, clock)
        """What sinks have not been told yet."""

    @classmethod
    async def open(cls, path: Path, *, clock: Clock) -> Store:
        """
        Open or make the store at *path*: migrate, load everything, start the writer.

        Raises:
            TerminalError: The file cannot be used, or a newer version has written it.
            TransientError: It is locked, or the disk is full.
        """
        database, environment, key, cache = await asyncio.to_thread(_load, path)
        return cls(database, environment, key, cache, clock)

    async def close(self) -> None:
        """Finish all submitted writes, end all watches and close the file."""
        # The writer's last delivery entered the loop's queue before the news that it has ended.
        await self._writer.close()
        self._feed.close()
        await asyncio.to_thread(self._database.close)

    async def broken(self) -> None:
        """Return when the writer has died of a bug; from then on every write is refused."""
        await self._writer.failed.wait()

    @property
    def revision(self) -> int:
        """Newest resourceVersion in memory, as a number; 0 for an empty store."""
        return self._cache.revision

    def get(self, model: type[R], name: str, namespace: str = "") -> R | None:
        """Return one object as of `revision`; an empty namespace means `default`."""
        key = key_of(model, name, namespace)
        entry = self._cache.get(key)
        return None if entry is None else decode(model, key, entry.body)

    def list(
        self,
        model: type[R],
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> list[R]:
        """Return the objects with all of *labels*, by namespace and name; None means all."""
        wanted = (labels or {}).items()
        entries = self._cache.entries(_kind(model), namespace)
        found = sorted(entry for entry in entries if wanted <= entry.labels.items())
        return [decode(model, entry.key, entry.body) for entry in found]

    def entry(self, key: Key) -> Entry | None:
        """Return one object undecoded."""
        return self._cache.get(key)

    def entries(self, kind: str) -> Iterable[Entry]:
        """Yield all objects of a kind undecoded, in no particular order, as they are now."""
        return self._cache.entries(kind)

    async def create(self, obj: R, *, cause: Cause = CONTROLLER) -> R:
        """
        Store a new object and return it as stored.

        Raises:
            ConflictError: It exists already (reason `AlreadyExists`).
            InvalidSpecError: It carries a resourceVersion, or a namespace where none belongs.
            TransientError: It could not be written now; nothing was.
        """
        return await self._one(Create(obj, cause), type(obj))

    async def adopt(self, obj: R, *, cause: Cause = CONTROLLER, news: Sequence[News] = ()) -> R:
        """
        Store an object of a store that is lost, with its uid, and return it as stored; see `Adopt`.

        Raises:
            ConflictError: There is one of that name (reason `AlreadyExists`).
            InvalidSpecError: It carries a resourceVersion, or no uid.
            TransientError: It could not be written now; nothing was.
        """
        return await self._one(Adopt(obj, cause, tuple(news)), type(obj))

    async def update(self, obj: R, *, cause: Cause = CONTROLLER) -> R:
        """
        Write everything but `status`, if nobody wrote since *obj* was read.

        Returns:
            The object as stored; when this emptied the finalizers of an object that is being
            deleted, the last there was of it.

        Raises:
            ConflictError: It was changed or replaced since.
            NotFoundError: It is gone.
            InvalidSpecError: No resourceVersion, or a finalizer added during deletion.
            TransientError: It could not be written now; nothing was.
        """
        return await self._one(Update(obj, cause), type(obj))

    async def update_status(
        self, obj: R, *, cause: Cause = CONTROLLER, news: Sequence[News] = ()
    ) -> R:
        """Write `status` and nothing else, with what that tells; otherwise as `update`."""
        return await self._one(UpdateStatus(obj, cause=cause, news=tuple(news)), type(obj))

    async def delete(
        self,
        model: type[R],
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        resource_version: str = "",
        cause: Cause = CONTROLLER,
    ) -> R | None:
        """
        Ask for deletion.

        Returns:
            The object, which waits for its finalizers; None when it is gone.

        Raises:
            ConflictError: It is not the one with *uid*, or not at *resource_version*.
            NotFoundError: It does not exist.
        """
        operation = Delete(model, name, namespace, uid, resource_version, cause=cause)
        (result,) = await self.write([operation])
        return _expect(result, model)

    async def write(
        self, operations: Sequence[Operation], *, dry_run: bool = False
    ) -> builtins.list[Result]:
        """
        Do many writes in one transaction, in order, each judged alone.

        Args:
            operations: What to write.
            dry_run: Judge each against what is stored, and write nothing.

        Returns:
            For each operation the object after it, None when it is gone, or why it was refused.

        Raises:
            TransientError: The transaction failed (locked, disk full); nothing was written.
            TerminalError: The file cannot be written, or the store is closed.
        """
        wishes = [_prepared(operation) for operation in operations]
        keys = [wish.key for wish in wishes if isinstance(wish, Wish)]

        def run(work: Transaction) -> builtins.list[Result]:
            do = work.preview if dry_run else work.apply
            return [do(wish) if isinstance(wish, Wish) else wish for wish in wishes]

        results: list[Result] = await self._writer.submit(keys, run)
        return results

    async def remark(self, remains: Remains, news: News, *, cause: Cause = CONTROLLER) -> None:
        """
        Add to a sandbox's story what befalls its remains on a host, be it living, gone or unknown.

        Sinks are not told of it. The same in a row is one transition with a count.

        Raises:
            TransientError: It could not be written now; nothing was.
        """
        key = Key(*map(_readable, remains.key))
        readable = replace(remains, uid=_readable(remains.uid), key=key)

        def run(work: Transaction) -> None:
            work.remark(readable, news, cause)

        await self._writer.submit([key], run)

    def subscribe(self, callback: Callable[[Change], object]) -> Callable[[], None]:
        """Call back on the event loop after the cache has a change; returns how to stop it."""
        return self._feed.subscribe(callback)

    def watch(self, since: int | None = None) -> AsyncIterator[Change]:
        """
        Iterate over every change after *since*, in order, until the store is closed.

        Args:
            since: A revision seen before; None means from this call on.

        Raises:
            ExpiredError: While iterating: changes after *since* were compacted away, *since* is
                newer than the store, or the reader fell behind.
        """
        return self._feed.watch(self.revision if since is None else since)

    async def compact(self, keep: int = retention.KEEP_CHANGES) -> int:
        """
        Forget old events, tombstones and dead letters, and all but the newest *keep* changes.

        Returns:
            How many changes were forgotten.
        """
        events = self._cache.entries("Event")
        stale = await asyncio.to_thread(retention.stale_events, events, self._clock.now())
        if stale:
            await self.write(stale)
        while await self._writer.submit([], retention.forget_tombstones):
            pass
        await self.deliveries.forget()
        removed = await self._writer.submit([], lambda work: retention.compact_changes(work, keep))
        return int(removed)

    async def transitions(self, uid: str) -> builtins.list[Transition]:
        """Return what happened to one sandbox, living or gone, oldest first."""

        def read() -> list[Transition]:
            with self._database.connect("reading transitions") as connection:
                return chronicle.read_transitions(connection, uid)

        return await asyncio.to_thread(read)

    async def tombstones(
        self, namespace: str | None = None, name: str = "", *, uid: str = "", limit: int = 500
    ) -> builtins.list[Tombstone]:
        """
        Return the newest tombstones, newest first.

        Args:
            namespace: None is all of them.
            name: Of this name only.
            uid: Of uids that begin so only.
            limit: How many at most.
        """
        wanted = (namespace, namespace, name, name, uid, len(uid), uid, limit)

        def read() -> list[Tombstone]:
            with self._database.connect("reading tombstones") as connection:
                return chronicle.read_tombstones(connection, wanted)

        return await asyncio.to_thread(read)

    async def load_inventory(self, source: str) -> builtins.list[InventoryEntry]:
        """Return what *source* has applied, in the order of keys; empty for an unknown source."""

        def read() -> list[InventoryEntry]:
            with self._database.connect("reading the inventory") as connection:
                return read_inventory(connection, source)

        return await asyncio.to_thread(read)

    async def save_inventory(self, source: str, entries: Iterable[InventoryEntry]) -> None:
        """Record durably that *source* has applied exactly *entries*."""
        rows = tuple(entries)
        await self._writer.submit([], lambda work: replace_inventory(work.connection, source, rows))

    async def _one(self, operation: Operation, model: type[R]) -> R:
        (result,) = await self.write([operation])
        obj = _expect(result, model)
        assert obj is not None
        return obj

    def _receive(self, delivery: Delivery) -> None:
        """Take over what the writer committed or read; changes first, then answers."""
        if delivery.replacement is not None:
            self._feed.interrupt()
            self._feed.announce(self._cache.replace(delivery.replacement))
        for change in delivery.changes:
            self._cache.apply(change)
        self._feed.announce(delivery.changes)
        for future, answer in delivery.answers:
            if future.done():
                continue
            if isinstance(answer, SandboxerError):
                future.set_exception(answer)
            else:
                future.set_result(answer)


def _load(path: Path) -> tuple[Database, str, bytes, Cache]:
    database = Database(path)
    try:
        with database.connect("loading it") as connection, history.snapshot(connection):
            return (
                database,
                history.read_meta(connection).environment,
                signing_key(path),
                history.read_everything(connection),
            )
    except BaseException:
        database.close()
        raise


def _readable(text: str) -> str:
    """Return a label of a host as text that can be stored."""
    return text[: chronicle.MAX_TEXT].encode("utf-8", "replace").decode()


def _prepared(operation: Operation) -> Wish | SandboxerError:
    try:
        return prepare(operation)
    except SandboxerError as refusal:
        return refusal


def _expect(result: Result, model: type[R]) -> R | None:
    if isinstance(result, SandboxerError):
        raise result
    assert result is None or isinstance(result, model)
    return result


def _kind(model: type[Resource]) -> str:
    return key_of(model, "").kind
