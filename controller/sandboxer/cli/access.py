"""Opening what a verb works on: the store for looking and writing, the manager for waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from sandboxer.cli.logs import configure_for_command
from sandboxer.clock import SystemClock
from sandboxer.settings import Settings, settings_from_environment

if TYPE_CHECKING:
    from sandboxer.manager import Manager
    from sandboxer.store import Store

T = TypeVar("T")


def with_store(work: Callable[[Store], Awaitable[T]]) -> T:
    """Run *work* on the opened store and return what it returns."""

    async def opened(settings: Settings) -> T:
        from sandboxer.store import Store

        store = await Store.open(settings.database_path, clock=SystemClock())
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(opened(settings_from_environment()))


def with_manager(work: Callable[[Manager], Awaitable[T]], *, log_to_file: bool = True) -> T:
    """
    Run *work* on an opened manager, which can reconcile when nobody else does.

    Args:
        work: What to do.
        log_to_file: Send warnings to `errors.log`; the controller has configured its own log.
    """

    async def opened(settings: Settings) -> T:
        from sandboxer.manager import Manager

        async with Manager.open(settings) as manager:
            if log_to_file:
                configure_for_command(settings.data_dir / "errors.log")
            return await work(manager)

    return asyncio.run(opened(settings_from_environment()))
