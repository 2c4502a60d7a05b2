"""The API over a manager's store, for the command that has opened it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sandboxer.api.app import create_app
from sandboxer.api.private import served_privately
from sandboxer.manager.manager import Manager

if TYPE_CHECKING:
    from sandboxer.engine.adoption import Adoption
    from sandboxer.engine.inside import Inside
    from sandboxer.engine.observer import HostReport
    from sandboxer.extension import Capability, Observation
    from sandboxer.kinds.host import Host
    from sandboxer.kinds.sandbox import Sandbox


class LateEntrance:
    """
    The manager's `Entrance`, loaded when somebody takes it: `get` must not wait for SSH.

    Args:
        manager: An open one.
    """

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    async def enter(self, sandbox: Sandbox, *, needs: Capability) -> Inside:
        """Do as `sandboxer.engine.inside.Entrance.enter`."""
        return await self._manager.entrance.enter(sandbox, needs=needs)

    async def look(self, host: Host) -> tuple[HostReport, Collection[Observation]]:
        """Do as `sandboxer.engine.inside.Entrance.look`."""
        return await self._manager.entrance.look(host)

    async def reap(self, host: Host, uid: str, *, extension: str, by: str) -> bool:
        """Do as `sandboxer.engine.inside.Entrance.reap`."""
        return await self._manager.entrance.reap(host, uid, extension=extension, by=by)

    @property
    def adoption(self) -> Adoption:
        """The one of `sandboxer.engine.inside.Entrance`."""
        return self._manager.entrance.adoption


@asynccontextmanager
async def served_here(manager: Manager, *, checking: bool) -> AsyncIterator[Path]:
    """
    Serve the API inside the block, to this process only; yields the path of its socket.

    Args:
        manager: An open one.
        checking: Load the extensions, which have to say what they take when a Sandbox is written.
    """
    app = create_app(
        manager.store,
        registry=manager.registry if checking else None,
        entrance=LateEntrance(manager),
    )
    async with served_privately(app, manager.settings.data_dir) as path:
        yield path
