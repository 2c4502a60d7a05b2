"""
Follow one extension's `watch` on one host, and turn its hints into looks.

A hint says "look at this sandbox again", nothing more. Hints of the same moment are looked at
together. When the stream breaks the follower ends; the next probe finds what was missed and
starts another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable

from sandboxer.errors import SandboxerError
from sandboxer.extension import Extension
from sandboxer.session import Session

log = logging.getLogger(__name__)

# Seconds hints are gathered before the look: a container that stops causes three events in a few
# milliseconds, and one look answers them all.
DEBOUNCE_S = 0.02

# Characters of a uid; hints come from the host and are not trusted.
_MAX_UID = 64

# Hints waiting for a look; beyond it they are dropped, the next probe sees everything anyway.
_MAX_PENDING = 10_000

Look = Callable[[set[str]], Awaitable[None]]


class Follower:
    """
    One running `watch`.

    Args:
        extension: Whose stream; has the capability `watch`.
        session: The machine.
        environment: Which installation's sandboxes.
        look: Called with the uids and short ids that were hinted at; raises SandboxerError.
    """

    def __init__(
        self, extension: Extension, session: Session, *, environment: str, look: Look
    ) -> None:
        self._extension = extension
        self._session = session
        self._environment = environment
        self._look = look
        self._fields = {"host": session.host, "extension": extension.name}
        self._pending: set[str] = set()
        self._hinted = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    @property
    def running(self) -> bool:
        """Whether the stream is still followed."""
        return not self._task.done()

    async def stop(self) -> None:
        """Stop following."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        looking = asyncio.create_task(self._look_when_hinted())
        try:
            await self._gather_hints()
        except SandboxerError as err:
            log.debug("The event stream of a host ended", extra=self._fields, exc_info=err)
        except Exception:
            log.exception("The event stream of a host ended by a bug", extra=self._fields)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _gather_hints(self) -> None:
        stream = self._extension.watch(self._session, self._environment)
        try:
            async for uid in stream:
                if len(uid) <= _MAX_UID and len(self._pending) < _MAX_PENDING:
                    self._pending.add(uid)
                    self._hinted.set()
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()

    async def _look_when_hinted(self) -> None:
        while True:
            await self._hinted.wait()
            await asyncio.sleep(DEBOUNCE_S)
            self._hinted.clear()
            uids, self._pending = self._pending, set()
            try:
                await self._look(uids)
            except SandboxerError as err:
                log.debug("A look after a hint failed", extra=self._fields, exc_info=err)
            except Exception:
                log.exception("A look after a hint failed by a bug", extra=self._fields)
