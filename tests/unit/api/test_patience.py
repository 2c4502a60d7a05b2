"""A block that ends when one of its steps stands still, and for no other reason."""

from __future__ import annotations

import asyncio

import pytest

from sandboxer.api.patience import Patience


async def test_a_step_that_stands_still_ends_the_block() -> None:
    """The block ends without an error, and the task goes on."""
    with Patience(0.01) as patience:
        patience.begin_step()
        await asyncio.Event().wait()

    assert patience.ended
    await asyncio.sleep(0)


async def test_what_lies_between_steps_may_take_long() -> None:
    """Waiting for something to send is no step."""
    with Patience(0.01) as patience:
        patience.begin_step()
        patience.end_step()
        await asyncio.sleep(0.1)

    assert not patience.ended


async def test_somebody_else_who_cancels_is_obeyed() -> None:
    """A cancellation that is not ours goes through, also together with ours."""

    async def stream(limit_s: float) -> None:
        with Patience(limit_s) as patience:
            patience.begin_step()
            await asyncio.Event().wait()

    for limit_s in (60.0, 0.0):
        task = asyncio.create_task(stream(limit_s))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
