"""
Faults at the border between an extension and a machine.

`FaultySession` is a real session whose calls are counted, and which does something evil before,
during or after the n-th of them: lose the link (`LinkLoss`), or kill the process that runs the
extension (`killed`), as a power cut or an OOM killer would. An extension that survives both at
every call survives a crash of the controller anywhere between its effects.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from sandboxer.errors import UnreachableError
from sandboxer.kinds.host import HostFacts
from sandboxer.session import EVERYTHING, Completed, Connection, Copying, Engine, Session, Streams

Moment = Literal["before", "during", "after"]
T = TypeVar("T")
Call = Callable[[Session], Awaitable[object]]
OpenSession = Callable[[], AbstractAsyncContextManager[Session]]

# Starting a local script takes about 5 ms and running it 20 (measured 2026-11); this is in between.
DURING_S = 0.01

# Exit status of a child in which nothing was left to be killed at.
EXIT_FINISHED = 0
EXIT_RAISED = 3


@dataclass(slots=True)
class Fault:
    """What happens at which call of a session, the first being 1."""

    at: int
    moment: Moment
    strike: Callable[[], None]
    calls: int = 0
    struck: bool = field(default=False, init=False)

    async def around(self, effect: Awaitable[T]) -> T:
        """Await *effect* and strike at its moment, if this is the call."""
        self.calls += 1
        if self.calls != self.at:
            return await effect
        self.struck = True
        task = asyncio.ensure_future(effect)
        try:
            await self._wait(task)
            self.strike()
            return await task
        finally:
            task.cancel()

    async def _wait(self, task: asyncio.Future[T]) -> None:
        if self.moment == "during":
            await asyncio.wait({task}, timeout=DURING_S)
        elif self.moment == "after":
            await asyncio.wait({task})


def lose_link() -> None:
    """Raise what a session raises when the machine does not answer."""
    raise UnreachableError("The link was cut by a test.")


def kill_this_process() -> None:
    """End this process as nothing can prevent."""
    os.kill(os.getpid(), signal.SIGKILL)


class FaultySession:
    """A real session in which one call meets a `Fault`."""

    def __init__(self, session: Session, fault: Fault) -> None:
        self._session = session
        self._fault = fault

    @property
    def host(self) -> str:
        """Name of the Host object."""
        return self._session.host

    @property
    def target(self) -> str:
        """See `Session.target`."""
        return self._session.target

    @property
    def facts(self) -> HostFacts:
        """See `Session.facts`."""
        return self._session.facts

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout_s: float = 60.0,
        max_output_bytes: int = 16 * 2**20,
    ) -> Completed:
        """See `Session.run`."""
        return await self._fault.around(
            self._session.run(
                argv, stdin=stdin, timeout_s=timeout_s, max_output_bytes=max_output_bytes
            )
        )

    async def script(
        self, text: str, *arguments: str, stdin: bytes = b"", timeout_s: float = 60.0
    ) -> Completed:
        """See `Session.script`."""
        return await self._fault.around(
            self._session.script(text, *arguments, stdin=stdin, timeout_s=timeout_s)
        )

    async def stream(self, argv: Sequence[str], streams: Streams) -> int:
        """See `Session.stream`."""
        return await self._fault.around(self._session.stream(argv, streams))

    async def connect(self, address: str, port: int, *, timeout_s: float = 10.0) -> Connection:
        """See `Session.connect`."""
        return await self._fault.around(self._session.connect(address, port, timeout_s=timeout_s))

    async def upload(
        self,
        source: str,
        destination: str,
        *,
        copying: Copying = EVERYTHING,
        timeout_s: float = 600.0,
    ) -> None:
        """See `Session.upload`."""
        await self._fault.around(
            self._session.upload(source, destination, copying=copying, timeout_s=timeout_s)
        )

    def engine(self) -> Engine | None:
        """Return the engine without faults: it only looks."""
        return self._session.engine()


async def lost(session: Session, call: Call, *, at: int, moment: Moment) -> bool:
    """
    Run *call* with the link lost at one session call.

    Returns:
        Whether there was such a call; False means that every one has been tried.

    Raises:
        AssertionError: The call swallowed the loss.
    """
    fault = Fault(at=at, moment=moment, strike=lose_link)
    try:
        await call(FaultySession(session, fault))
    except UnreachableError:
        assert fault.struck, "the machine did not answer without our doing"
        return True
    assert not fault.struck, "a lost link was swallowed: it must end the call"
    return False


def killed(open_session: OpenSession, call: Call, *, at: int, moment: Moment) -> bool:
    """
    Run *call* in a child process that is killed (SIGKILL) at one session call.

    Args:
        open_session: Opens a session of the child's own.
        call: What to do with it.
        at: Number of the session call, the first being 1.
        moment: When, seen from that call.

    Returns:
        Whether the child was killed; False means that every session call has been tried.

    Raises:
        AssertionError: The call failed by itself; its traceback is on stderr.
    """
    child = os.fork()
    if child == 0:
        _run_in_child(open_session, call, Fault(at=at, moment=moment, strike=kill_this_process))
    _, wait_status = os.waitpid(child, 0)
    exit_status = os.waitstatus_to_exitcode(wait_status)
    assert exit_status in (EXIT_FINISHED, -signal.SIGKILL), f"the call failed ({exit_status})"
    return exit_status != EXIT_FINISHED


def _run_in_child(open_session: OpenSession, call: Call, fault: Fault) -> None:
    """Never returns: nothing of the parent's may run twice, its cleanup least of all."""

    async def run() -> None:
        async with open_session() as session:
            await call(FaultySession(session, fault))

    exit_status = EXIT_RAISED
    try:
        asyncio.run(run())
        exit_status = EXIT_FINISHED
    finally:
        if exit_status != EXIT_FINISHED:
            traceback.print_exception(sys.exception())
            sys.stderr.flush()
        os._exit(exit_status)
