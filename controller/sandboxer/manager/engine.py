"""The engine for the length of a block: started at once, stopped in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sandboxer.engine import Engine

# Seconds that running passes get when they are asked to stop. An upload or a pull takes longer and
# is cancelled; its intention is stored, so the next process finishes it.
GRACE_S = 10.0


@asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[asyncio.Task[None]]:
    """Reconcile inside the block; yields the task of the engine, which ends only by an error."""
    task = asyncio.create_task(engine.run(), name="engine")
    try:
        # NOTE: the engine has to have begun, or stopping it at once would leave it running. An
        # interrupt that came while modules were loaded arrives here, at the first thing awaited.
        await asyncio.sleep(0)
        yield task
    finally:
        await engine.stop(budget_s=GRACE_S)
        await asyncio.gather(task, return_exceptions=True)
