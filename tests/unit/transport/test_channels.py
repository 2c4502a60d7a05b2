"""How many commands run at once."""

from __future__ import annotations

import asyncio

import pytest

from sandboxer.transport.channels import ChannelGate


async def _hold(gate: ChannelGate, entered: list[int], release: asyncio.Event) -> None:
    async with gate.enter():
        entered.append(1)
        await release.wait()


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_no_more_than_the_limit_inside() -> None:
    """The rest waits, and comes in when somebody leaves."""
    gate, entered, release = ChannelGate(2), list[int](), asyncio.Event()
    tasks = [asyncio.create_task(_hold(gate, entered, release)) for _ in range(5)]
    await _settle()

    assert len(entered) == 2

    release.set()
    await asyncio.gather(*tasks)
    assert len(entered) == 5


async def test_refusal_lowers_the_limit_for_good() -> None:
    """After a refusal with two inside, one at a time is the limit."""
    gate, entered, release = ChannelGate(2), list[int](), asyncio.Event()
    other = asyncio.create_task(_hold(gate, entered, release))
    await _settle()

    async with gate.enter():
        waiting = asyncio.create_task(gate.give_way())
        await _settle()
        assert not waiting.done()
        release.set()
        assert await waiting

    await other
    assert gate.limit == 1


async def test_refused_alone_does_not_wait() -> None:
    """When nobody else is inside there is nobody to wait for."""
    gate = ChannelGate(3)

    async with gate.enter():
        assert not await gate.give_way()

    assert gate.limit == 3


async def test_cancelled_waiter_takes_no_place() -> None:
    """Somebody who gives up waiting leaves the count right."""
    gate, entered, release = ChannelGate(1), list[int](), asyncio.Event()
    holder = asyncio.create_task(_hold(gate, entered, release))
    await _settle()
    waiter = asyncio.create_task(_hold(gate, entered, release))
    await _settle()

    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    release.set()
    await holder

    async with asyncio.timeout(1), gate.enter():
        assert entered == [1]
