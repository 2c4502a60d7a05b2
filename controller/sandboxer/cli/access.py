"""
The way of every verb to the API: one client, whoever answers it.

`SANDBOXER_SERVER` names a server; otherwise the running controller's socket is asked; and when no
controller runs, this command opens the store and serves the same API to itself. Then it also does
the work it waits for. A controller that goes away in the middle of a wait is followed by the next
one, or by this command.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from sandboxer.cli.logs import configure_for_command
from sandboxer.cli.printing import note, safe_text
from sandboxer.client.client import Client
from sandboxer.client.server import Server, server_from_settings
from sandboxer.errors import UnreachableError
from sandboxer.kinds.meta import Key
from sandboxer.settings import Settings, settings_from_environment

if TYPE_CHECKING:
    from sandboxer.client.mirror import Mirrors
    from sandboxer.manager import Manager

T = TypeVar("T")


class Access:
    """
    One open way to the API; made by `Access.open`.

    Attributes:
        settings: Of this process.
        client: Asks whoever answers now.
        manager: Of this command, while it serves itself; None while somebody else serves.
    """

    def __init__(self, settings: Settings, stack: AsyncExitStack, *, writes: bool) -> None:
        self.settings = settings
        self._writes = writes
        self.manager: Manager | None = None
        self._stack = stack
        self._remote = server_from_settings(settings)
        self._recovering = asyncio.Lock()
        self._told: set[str] = set()
        self._warn: Callable[[str], None] = _note_warning
        # The socket until it turns out that nobody is there.
        self.client = Client(
            self._remote or Server(socket=settings.socket_path),
            warn=self._remark,
            recover=self._recover,
        )

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, *, writes: bool) -> AsyncIterator[Access]:
        """
        Find the API, or become it.

        Args:
            settings: Of this process.
            writes: The verb writes or waits: a store that no controller looks after gets the
                objects every installation has, and extensions judge what is written.

        Raises:
            SandboxerError: The settings or the store cannot be used.
        """
        async with AsyncExitStack() as stack:
            access = cls(settings, stack, writes=writes)
            try:
                if access._remote is None and not await access._controller_answers():
                    access.client.move(await access._serve_here())
                yield access
            finally:
                # NOTE: before what this command serves, which would wait for it.
                await access.client.close()

    @property
    def is_remote(self) -> bool:
        """Whether the API is that of SANDBOXER_SERVER."""
        return self._remote is not None

    def somebody_works(self) -> bool:
        """Tell whether a controller does what is asked for, so that nobody has to wait for it."""
        return self.manager is None or self.manager.controller_running()

    def controller_pid(self) -> int | None:
        """Return the process id of the controller here, as it noted it, for messages only."""
        with suppress(OSError, ValueError):
            return int(self.settings.pid_path.read_text())
        return None

    @contextmanager
    def collected_warnings(self) -> Iterator[list[str]]:
        """Yield a list that takes what the server remarks inside the block, instead of stderr."""
        collected: list[str] = []
        self._warn = collected.append
        try:
            yield collected
        finally:
            self._warn = _note_warning

    async def settle(
        self, mirrors: Mirrors, keys: Collection[Key], until: Callable[[], bool]
    ) -> None:
        """
        Return once *until* says yes; while no controller works, reconcile *keys* here.

        Args:
            mirrors: What *until* looks at.
            keys: Objects that are waited for.
            until: Asked after every change; may raise to give up.
        """
        if self.manager is None and await mirrors.until(until, while_=lambda: self.manager is None):
            return
        assert self.manager is not None, "what nobody else serves is served here"
        await self.manager.settle(
            keys,
            lambda while_: mirrors.until(until, while_=while_),
            announce=lambda text: self._say_once(f"note: {text}"),
        )

    def _remark(self, text: str) -> None:
        self._warn(text)

    async def _controller_answers(self) -> bool:
        return self.settings.socket_path.exists() and await self.client.is_ready()

    async def _serve_here(self) -> Server:
        """Open the store and serve it to this command until its end."""
        from sandboxer.manager import Manager
        from sandboxer.manager.serving import served_here

        manager = await self._stack.enter_async_context(Manager.open(self.settings))
        configure_for_command(self.settings.data_dir / "errors.log")
        if self._writes:
            await manager.register()
        path = await self._stack.enter_async_context(served_here(manager, checking=self._writes))
        self.manager = manager
        return Server(socket=path)

    async def _recover(self, error: UnreachableError) -> bool:
        """Find who serves now that nobody answered; True when somebody new does."""
        async with self._recovering:
            if self.manager is not None:
                return False
            if self._remote is not None:
                self._say_once(f"note: {error.message} Asking again until it does.")
                return False
            if await self._controller_answers():
                return False
            self.client.move(await self._serve_here())
            return True

    def _say_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            note(text)


def _note_warning(text: str) -> None:
    note(f"warning: {safe_text(text)}")


def with_api(work: Callable[[Access], Awaitable[T]], *, writes: bool = False) -> T:
    """Run *work* with a way to the API and return what it returns; see `Access.open`."""

    async def opened(settings: Settings) -> T:
        async with Access.open(settings, writes=writes) as access:
            return await work(access)

    return asyncio.run(opened(settings_from_environment()))


def with_manager(work: Callable[[Manager], Awaitable[T]]) -> T:
    """Run *work*, which is the controller itself, on an opened manager."""

    async def opened(settings: Settings) -> T:
        from sandboxer.manager import Manager

        async with Manager.open(settings) as manager:
            return await work(manager)

    return asyncio.run(opened(settings_from_environment()))
