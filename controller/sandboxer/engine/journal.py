"""Writing down what a pass is about to do, what came of it, and what went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sandboxer.clock import Clock
from sandboxer.engine import record
from sandboxer.engine.story import sandbox_news
from sandboxer.engine.trigger import TRIGGER
from sandboxer.errors import (
    ConflictError,
    NotFoundError,
    SandboxerError,
    TransientError,
    Waiting,
)
from sandboxer.kinds.meta import Key
from sandboxer.kinds.sandbox import Sandbox, SandboxStatus
from sandboxer.store import Cause, EventRecorder, Store


@dataclass(frozen=True, kw_only=True)
class Journal:
    """Statuses and events of sandboxes, in the store."""

    store: Store
    events: EventRecorder
    clock: Clock
    _accepted: dict[str, float] = field(default_factory=dict)
    """Monotonic seconds at which a sandbox that is not ready yet was accepted, by uid."""

    async def write(
        self, sandbox: Sandbox, status: SandboxStatus, *, cause: Cause | None = None
    ) -> Sandbox:
        """
        Write a status with what it tells; nothing when it says nothing new.

        Args:
            sandbox: As it was read.
            status: What it is to say.
            cause: Who says it, when that is not this pass of the controller.

        Raises:
            ConflictError: The sandbox changed since it was read.
        """
        return sandbox if status == sandbox.status else await self._put(sandbox, status, cause)

    async def intend(self, sandbox: Sandbox, status: SandboxStatus) -> Sandbox:
        """
        Write the status that holds an intention, also when it says nothing new.

        The store compares before it finds that nothing changes, so this is the check that the
        sandbox is still what was read, and not what another process has made of it since.

        Raises:
            ConflictError: The sandbox changed since it was read.
        """
        return await self._put(sandbox, status)

    async def record_unexpected(self, key: Key, error: TransientError) -> None:
        """Record an error that nobody expected, so that it is seen in the sandbox's conditions."""
        sandbox = self.store.get(Sandbox, key.name, key.namespace)
        if sandbox is not None:
            intention = sandbox.status.intention
            action = intention.action if intention is not None else ""
            await self.write(sandbox, record.failed(sandbox, action, error, self.clock.now()))

    async def set_finalizers(
        self, sandbox: Sandbox, finalizers: Iterable[str], *, because: str = ""
    ) -> Sandbox:
        """Replace what holds the object back; the last one taken away removes it, *because* of something."""
        self._accepted.pop(sandbox.metadata.uid, None)
        metadata = sandbox.metadata.model_copy(update={"finalizers": tuple(finalizers)})
        kept = sandbox.model_copy(update={"metadata": metadata})
        return await self.store.update(kept, cause=Cause(trigger=TRIGGER.get(), because=because))

    @asynccontextmanager
    async def recording(
        self, sandbox: Sandbox, action: str, *, ready_timeout_s: float | None = None
    ) -> AsyncIterator[None]:
        """
        Record what an action raises, then let the worker have it.

        Args:
            sandbox: As it was last written.
            action: What is being done.
            ready_timeout_s: Seconds after which waiting is called stalled.
        """
        try:
            yield
        except TimeoutError as timeout:
            error = TransientError(
                f"{action} of {sandbox.key} on host {sandbox.status.host} did not return in time.",
                reason="ActionTimeout",
            )
            await self.write(sandbox, record.failed(sandbox, action, error, self.clock.now()))
            raise error from timeout
        except Waiting as waiting:
            now = self.clock.now()
            await self.write(
                sandbox, record.waiting(sandbox, waiting, timeout_s=ready_timeout_s, now=now)
            )
            raise
        except (ConflictError, NotFoundError) as stray:
            # NOTE: these speak of the store. As a conflict it would be tried again at once, for ever.
            error = TransientError(
                f"An unexpected {type(stray).__name__} stopped {action} of {sandbox.key}: {stray}",
                reason="UnexpectedError",
                remedy=f"Please report it to the author of {sandbox.status.extension}.",
            )
            await self.write(sandbox, record.failed(sandbox, action, error, self.clock.now()))
            raise error from stray
        except SandboxerError as failure:
            await self.write(sandbox, record.failed(sandbox, action, failure, self.clock.now()))
            raise

    async def _put(
        self, sandbox: Sandbox, status: SandboxStatus, cause: Cause | None = None
    ) -> Sandbox:
        news = sandbox_news(sandbox, status, took_s=self._took_s(sandbox, status))
        stored = await self.store.update_status(
            sandbox.model_copy(update={"status": status}),
            cause=cause or Cause(trigger=TRIGGER.get()),
            news=news,
        )
        self._note_start(sandbox, status)
        # Together, so that they share one transaction of the store.
        await asyncio.gather(
            *(self.events.record(stored, n.reason, n.message, type=n.type) for n in news)
        )
        return stored

    def _took_s(self, sandbox: Sandbox, status: SandboxStatus) -> float | None:
        """Return the seconds from acceptance to readiness, when this process saw both."""
        accepted_s = self._accepted.get(sandbox.metadata.uid)
        if accepted_s is None or not status.is_true("Ready"):
            return None
        return self.clock.monotonic_s() - accepted_s

    def _note_start(self, sandbox: Sandbox, status: SandboxStatus) -> None:
        """Note when a sandbox was accepted, until it is ready or goes."""
        uid = sandbox.metadata.uid
        if status.is_true("Ready") or sandbox.metadata.deletion_timestamp is not None:
            self._accepted.pop(uid, None)
        elif sandbox.status.condition("Accepted") is None:
            self._accepted[uid] = self.clock.monotonic_s()
