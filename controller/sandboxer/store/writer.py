"""
The one thread that writes, and that notices what other processes have written.

Design notes. Everything that has queued up while the last transaction was being made durable goes
into the next one, so a burst of small writes shares one fsync and a lone write waits for nobody.
Compare-and-set is judged inside the transaction against the database, so a second process on the
same file is safe. Each transaction first reads what others committed since the last one; when
idle, the thread asks `PRAGMA data_version` instead. What it has read or written it hands to the
event loop in the order of revisions, answers after changes, so a caller who got an answer finds
it in the cache.

Refused: a connection per request (no shared fsync), `BEGIN` at the first statement (a transaction
that must upgrade its lock fails), notification through a file or socket (one more thing to lose).
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy.engine import Connection

from sandboxer.clock import Clock
from sandboxer.errors import SandboxerError, TerminalError
from sandboxer.kinds.meta import Key
from sandboxer.store import history, statements
from sandboxer.store.cache import Cache
from sandboxer.store.database import Database, transaction
from sandboxer.store.entries import Change
from sandboxer.store.failures import ExpiredError
from sandboxer.store.transaction import Transaction

# Seconds between two looks at `PRAGMA data_version`, which costs 5 µs. A command that writes
# without a controller is to be noticed within half a second.
POLL_INTERVAL_S: Final = 0.1

# Jobs in one transaction: bounds how long the first of them waits for the last (about 20 ms).
MAX_JOBS: Final = 256

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """Something to be done inside a write transaction."""

    keys: Sequence[Key]
    """Objects it will judge, to be loaded before."""
    run: Callable[[Transaction], Any]
    future: asyncio.Future[Any]


@dataclass(slots=True)
class Delivery:
    """What the event loop is told after a transaction, or after others' commits were read."""

    replacement: Cache | None = None
    """Everything anew, when the changes since the last look are no longer known."""
    changes: list[Change] = field(default_factory=list)
    """In order of revision."""
    answers: list[tuple[asyncio.Future[Any], Any]] = field(default_factory=list)
    """What each job returned; an exception when its transaction failed."""


class Writer:
    """
    Args:
        database: The open file.
        revision: Newest revision the event loop already knows.
        clock: Gives the time of writes.
        deliver: Called on the event loop with each delivery, in order.
    """

    def __init__(
        self,
        database: Database,
        revision: int,
        *,
        clock: Clock,
        deliver: Callable[[Delivery], None],
    ) -> None:
        self._database = database
        self._seen = revision
        self._clock = clock
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._data_version = -1
        # NOTE: guards `_open` against the queue: no job may be put after the thread's last look.
        self._closing = threading.Lock()
        self._open = True
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.failed = asyncio.Event()
        self._working: list[Job] = []
        # A daemon, so that a process that forgot to close can end; what it had not acknowledged
        # is lost then, as in a crash.
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    async def submit(self, keys: Sequence[Key], run: Callable[[Transaction], Any]) -> Any:
        """
        Run a function inside the next write transaction and return its answer once it is durable.

        When the caller is cancelled, the write may still happen.

        Raises:
            TransientError: The file is locked or the disk full; nothing was written.
            TerminalError: The file cannot be written, or the store is closed.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        with self._closing:
            if not self._open:
                raise _closed(self._database)
            self._jobs.put(Job(keys, run, future))
        return await future

    async def close(self) -> None:
        """Finish what was submitted, then end the thread."""
        with self._closing:
            self._open = False
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            with self._database.connect("writing") as connection:
                while self._turn(connection):
                    pass
        except BaseException:
            # A bug, told by the thread's own traceback; whoever runs for long must not go on without.
            self._loop.call_soon_threadsafe(self.failed.set)
            raise
        finally:
            self._abandon()

    def _turn(self, connection: Connection) -> bool:
        """Do what has queued up, or look for others' commits; False at the end."""
        try:
            jobs: list[Job | None] = [self._jobs.get(timeout=POLL_INTERVAL_S)]
        except queue.Empty:
            self._poll(connection)
            return True
        while jobs[-1] is not None and len(jobs) < MAX_JOBS and not self._jobs.empty():
            # NOTE: only this thread takes from the queue, so what is there cannot vanish.
            jobs.append(self._jobs.get())
        self._working = [job for job in jobs if job is not None]
        if self._working:
            self._commit(connection, self._working)
            self._working = []
        return jobs[-1] is not None

    def _commit(self, connection: Connection, jobs: list[Job]) -> None:
        delivery = Delivery()
        try:
            with (
                self._database.explained(f"writing {len(jobs)} changes"),
                transaction(connection),
            ):
                work = Transaction(connection, self._clock.now())
                self._catch_up(connection, work.revision, delivery)
                work.load(key for job in jobs for key in job.keys)
                answers = [(job.future, job.run(work)) for job in jobs]
                work.flush()
        except SandboxerError as error:
            _log.warning("cannot write to the store", extra={"error": str(error)})
            self._post(Delivery(answers=[(job.future, error) for job in jobs]))
            return
        self._seen = work.revision
        delivery.changes += work.changes
        delivery.answers = answers
        self._post(delivery)

    def _poll(self, connection: Connection) -> None:
        try:
            with self._database.explained("looking for changes"):
                version = connection.exec_driver_sql(statements.DATA_VERSION).scalar_one()
                if version == self._data_version:
                    return
                delivery = Delivery()
                with history.snapshot(connection):
                    revision = history.read_meta(connection).revision
                    self._catch_up(connection, revision, delivery)
        except SandboxerError as error:
            # The next poll looks again, because the version is remembered only after success.
            _log.warning("cannot read changes of the store", extra={"error": str(error)})
            return
        self._data_version = version
        self._seen = revision
        if delivery.changes or delivery.replacement:
            self._post(delivery)

    def _catch_up(self, connection: Connection, revision: int, delivery: Delivery) -> None:
        """Read what others committed up to *revision*; call inside a transaction."""
        if revision == self._seen:
            return
        try:
            delivery.changes = history.read_changes(connection, self._seen, revision)
        except ExpiredError:
            # This process stood still for longer than changes are kept.
            delivery.replacement = history.read_everything(connection)

    def _post(self, delivery: Delivery) -> None:
        try:
            self._loop.call_soon_threadsafe(self._deliver, delivery)
        except RuntimeError:
            # The loop is closed, so nobody waits for the answer any more.
            _log.warning("the event loop ended before the store was closed")

    def _abandon(self) -> None:
        """Refuse what can no longer be done, so that nobody waits for ever."""
        with self._closing:
            self._open = False
        left = self._working
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is not None:
                left.append(job)
        if left:
            error = _closed(self._database)
            self._post(Delivery(answers=[(job.future, error) for job in left]))


def _closed(database: Database) -> TerminalError:
    return TerminalError(f"Store {database.path} is closed.", reason="StoreClosed")
