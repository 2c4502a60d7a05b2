"""The queue of keys: client-go's rules, controller-runtime's priorities and delays."""

from __future__ import annotations

import asyncio

import pytest

from sandboxer.engine.queue import Item, KeyedQueue
from sandboxer.kinds.meta import Key
from sandboxer.testing.clock import ManualClock

A, B, C = (Key("Sandbox", "default", name) for name in "abc")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def queue(clock: ManualClock) -> KeyedQueue:
    made = KeyedQueue(clock)
    clock.on_advance(made.promote)
    return made


async def take(queue: KeyedQueue) -> Key:
    async with asyncio.timeout(60):
        item = await queue.get()
    assert item is not None
    return item.key


def is_empty(queue: KeyedQueue) -> bool:
    return len(queue) == 0


async def test_hands_out_in_order(queue: KeyedQueue) -> None:
    """Keys of one priority come out first in, first out."""
    for key in (B, A, C):
        queue.add(key)

    assert [await take(queue) for _ in range(3)] == [B, A, C]


async def test_collapses_repeats(queue: KeyedQueue) -> None:
    """A key asked for many times is handed out once."""
    for _ in range(5):
        queue.add(A)

    await take(queue)

    assert is_empty(queue)


async def test_collapse_while_processing(queue: KeyedQueue) -> None:
    """Asked for many times during its pass, a key comes back exactly once (TestCollapseWhileProcessing)."""
    queue.add(A)
    await take(queue)
    for _ in range(5):
        queue.add(A)

    queue.done(A)
    again = await take(queue)
    queue.done(A)

    assert again == A
    assert is_empty(queue)


async def test_locked_key_is_not_handed_out(queue: KeyedQueue) -> None:
    """A key is not handed out while a pass over it runs (TestAddWhileProcessing)."""
    queue.add(A)
    await take(queue)
    queue.add(A)
    queue.add(B)

    assert await take(queue) == B
    assert len(queue) == 1


async def test_reinsert(queue: KeyedQueue) -> None:
    """A key that is done can be asked for again (TestReinsert)."""
    queue.add(A)
    queue.done(await take(queue))

    queue.add(A)

    assert await take(queue) == A


async def test_higher_priority_first(queue: KeyedQueue) -> None:
    """A higher priority overtakes, and the item says which it had."""
    queue.add(A, priority=-100)
    queue.add(B)

    assert await queue.get() == Item(B, 0)
    assert await queue.get() == Item(A, -100)


async def test_priority_is_not_decreased(queue: KeyedQueue) -> None:
    """Asked for again at a lower priority, a key keeps the higher one."""
    queue.add(A, priority=5)
    queue.add(B)
    queue.add(A, priority=-5)

    assert await queue.get() == Item(A, 5)


async def test_priority_increase_moves_to_the_end_of_its_level(queue: KeyedQueue) -> None:
    """Raised to a higher priority, a key comes after those that had it already."""
    queue.add(A, priority=-100)
    queue.add(B)
    queue.add(A)

    assert [await take(queue), await take(queue)] == [B, A]
    assert is_empty(queue)


async def test_delayed_key_waits_for_its_time(queue: KeyedQueue, clock: ManualClock) -> None:
    """A delayed key is handed out when its time has come, not before."""
    queue.add(A, after_s=10)
    clock.advance(9.9)
    early = len(queue)
    clock.advance(0.2)

    assert early == 0
    assert await take(queue) == A


async def test_earlier_time_wins(queue: KeyedQueue, clock: ManualClock) -> None:
    """Of two delays of one key the earlier one counts, once (TestAddTwoFireEarly, TestDeduping)."""
    queue.add(A, after_s=10)
    queue.add(A, after_s=1)
    queue.add(A, after_s=5)
    clock.advance(1.1)
    queue.done(await take(queue))

    clock.advance(20)

    assert is_empty(queue)


async def test_now_beats_later(queue: KeyedQueue, clock: ManualClock) -> None:
    """Asked for now, a delayed key is handed out now and not a second time later."""
    queue.add(A, after_s=10, priority=7)
    queue.add(A)

    item = await queue.get()
    queue.done(A)
    clock.advance(20)

    assert item == Item(A, 7)
    assert is_empty(queue)


async def test_timer_wakes_a_waiting_worker() -> None:
    """A worker that waits is woken by the clock alone."""

    class Real:
        def now(self) -> None:
            raise NotImplementedError

        def monotonic_s(self) -> float:
            return asyncio.get_running_loop().time()

    queue = KeyedQueue(Real())  # type: ignore[arg-type] # see above
    queue.add(A, after_s=0.02)

    assert await take(queue) == A


async def test_get_waits_for_a_key(queue: KeyedQueue) -> None:
    """A worker that finds nothing waits until a key is added."""
    waiting = asyncio.create_task(take(queue))
    await asyncio.sleep(0)

    queue.add(A)

    assert await waiting == A


async def test_cancelled_getter_loses_nothing(queue: KeyedQueue) -> None:
    """A wake-up whose worker is cancelled at that moment goes to another one."""
    first = asyncio.create_task(take(queue))
    second = asyncio.create_task(take(queue))
    await asyncio.sleep(0)

    queue.add(A)
    first.cancel()

    assert await second == A


async def test_shutdown_hands_out_the_rest(queue: KeyedQueue) -> None:
    """After shutdown nothing is taken, the rest is handed out, then None (TestForceQueueShutdown)."""
    queue.add(A)
    queue.add(B, after_s=5)

    queue.shutdown()
    queue.add(C)

    assert await take(queue) == A
    assert await queue.get() is None


async def test_shutdown_can_discard(queue: KeyedQueue) -> None:
    """A shutdown that discards hands out nothing more."""
    queue.add(A)

    queue.shutdown(discard=True)

    assert await queue.get() is None


async def test_shutdown_wakes_all_workers(queue: KeyedQueue) -> None:
    """No worker waits for ever after a shutdown (DoesNotDeadlockOnShutdown)."""
    waiting = [asyncio.create_task(queue.get()) for _ in range(4)]
    await asyncio.sleep(0)

    queue.shutdown()

    async with asyncio.timeout(60):
        assert await asyncio.gather(*waiting) == [None] * 4


async def test_drain_waits_for_running_passes(queue: KeyedQueue) -> None:
    """Drain ends when the last pass is done (TestQueueDrainageUsingShutDownWithDrain)."""
    queue.add(A)
    await take(queue)
    queue.shutdown()
    draining = asyncio.create_task(queue.drain())
    await asyncio.sleep(0)
    early = draining.done()

    queue.done(A)

    async with asyncio.timeout(60):
        await draining
    assert not early


async def test_drain_with_dirty_key(queue: KeyedQueue) -> None:
    """A key asked for during its pass is worked on before the end (…WithDrainWithDirtyItem)."""
    queue.add(A)
    await take(queue)
    queue.add(A)
    queue.shutdown()
    draining = asyncio.create_task(queue.drain())

    queue.done(A)
    await asyncio.sleep(0)
    early = draining.done()
    queue.done(await take(queue))

    async with asyncio.timeout(60):
        await draining
    assert not early


async def test_far_delays_do_not_pile_up(queue: KeyedQueue) -> None:
    """A key that is delayed for long again and again takes the memory of a few thousand entries."""
    for _ in range(20_000):
        queue.add(A, after_s=3600)
        queue.add(A)
        queue.done(await take(queue))

    assert len(queue._heap) < 3000
