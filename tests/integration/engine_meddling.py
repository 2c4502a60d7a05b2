"""A store in which somebody else writes right before a write: the races that sleep never shows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from sandboxer.store import Store
from sandboxer.store.operations import Operation
from sandboxer.store.transaction import Result


class MeddlingStore(Store):
    """A real store, and one moment at which another writer comes first."""

    meddle: Callable[[], Awaitable[object]] | None = None
    """Done once, right before the next write that is not empty."""

    async def write(
        self, operations: Sequence[Operation], *, dry_run: bool = False
    ) -> list[Result]:
        """Let the other one write first."""
        meddle = self.meddle
        if meddle is not None and operations:
            self.meddle = None
            await meddle()
        return await super().write(operations, dry_run=dry_run)
