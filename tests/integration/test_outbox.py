"""The outbox holds what sinks are to be told, exactly when it happened, and nothing else."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from sandboxer.errors import ConflictError
from sandboxer.kinds.sandbox import Phase, Sandbox
from sandboxer.store import Cause, Create, DueLetter, News, Registration, Store, UpdateStatus
from sandboxer.store.deliveries import MAX_DEAD_AGE, REMOVED, TOO_MANY
from sandboxer.testing.builders import host, sandbox
from sandboxer.testing.clock import EPOCH, ManualClock

READY = News(reason="Ready", message="It is ready.")
FAILED = News(reason="PullFails", message="No image.", type="Warning", evidence={"exitCode": "1"})
HUB = Registration(name="hub", url="https://hub")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "store.db", clock=clock)
    await opened.deliveries.register([HUB])
    yield opened
    await opened.close()


def said(obj: Sandbox, phase: Phase) -> Sandbox:
    return obj.model_copy(update={"status": obj.status.model_copy(update={"phase": phase})})


async def due(store: Store, sink: str = "hub") -> list[DueLetter]:
    return await store.deliveries.due(sink, limit=100, furthest_s=600)


async def drained(store: Store, sink: str = "hub") -> list[dict[str, Any]]:
    """Deliver everything, as it becomes due; return the events."""
    events = []
    while letters := await due(store, sink):
        events += [json.loads(letter.body) for letter in letters]
        for letter in letters:
            await store.deliveries.delivered(letter)
    return events


def words(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("dev.sandboxer.sandbox.") for event in events]


async def test_a_life_is_told(store: Store) -> None:
    """Each transition is one event, in order, with who did it, from which phase to which."""
    created = await store.create(sandbox())
    ready = await store.update_status(said(created, "Ready"), news=[READY])
    await store.update_status(said(ready, "Degraded"), news=[FAILED])
    await store.delete(Sandbox, "hello", cause=Cause("user/alice", "request", "kubectl/v1"))

    events = await drained(store)

    assert words(events) == ["created", "ready", "failing", "deleted"]
    failing, deleted = events[2]["data"], events[3]["data"]
    assert (failing["before"], failing["after"]) == ("Ready", "Degraded")
    assert failing["evidence"] == {"exitCode": "1"}
    assert (deleted["by"], deleted["via"]) == ("user/alice", "kubectl/v1")
    assert {event["data"]["uid"] for event in events} == {created.metadata.uid}
    assert [event["sequence"] for event in events] == sorted(event["sequence"] for event in events)
    assert len({event["id"] for event in events}) == 4


async def test_events_have_the_form_of_cloudevents(store: Store) -> None:
    """An event has the attributes that CloudEvents 1.0 requires, and its own data."""
    await store.create(sandbox())

    (event,) = await drained(store)

    assert event["specversion"] == "1.0"
    assert event["source"] == f"/sandboxer/{store.environment}"
    assert event["subject"] == "default/hello"
    assert event["time"] == "2026-01-01T12:00:00Z"
    assert event["datacontenttype"] == "application/json"


async def test_nothing_of_the_spec_is_told(store: Store) -> None:
    """The environment and the inputs of a sandbox are nobody's business."""
    await store.create(sandbox(env={"PASSWORD": "hunter2"}, inputs={"token": "hunter3"}))

    (letter,) = await due(store)

    assert "hunter" not in letter.body


async def test_what_is_refused_is_not_told(store: Store) -> None:
    """A write that changes nothing leaves no event, and neither do other kinds."""
    created = await store.create(sandbox())
    await store.update_status(said(created, "Ready"), news=[READY])

    (refused,) = await store.write([UpdateStatus(said(created, "Failed"), news=(FAILED,))])
    await store.write([Create(sandbox("other"))], dry_run=True)
    await store.create(host())

    assert isinstance(refused, ConflictError)
    assert words(await drained(store)) == ["created", "ready"]


async def test_what_fails_to_commit_is_not_told(store: Store, tmp_path: Path) -> None:
    """The outbox and the object are one transaction: where one cannot be written, neither is."""
    with sqlite3.connect(tmp_path / "store.db") as other:
        other.execute(
            "CREATE TRIGGER full BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'full'); END"
        )

    with pytest.raises(Exception, match="full"):
        await store.create(sandbox())
    with sqlite3.connect(tmp_path / "store.db") as other:
        other.execute("DROP TRIGGER full")

    assert await due(store) == []
    assert store.get(Sandbox, "hello") is None


async def test_repeats_are_told_once(store: Store) -> None:
    """What happens again in a row is counted in the story and sent once."""
    found = await store.create(sandbox())
    for attempt in range(3):
        status = found.status.model_copy(update={"repairs": attempt + 1})
        found = found.model_copy(update={"status": status})
        found = await store.update_status(found, news=[FAILED])

    assert words(await drained(store)) == ["created", "pending"]


async def test_only_the_first_of_a_sandbox_is_due(store: Store) -> None:
    """Later events of a sandbox wait for the first; those of other sandboxes do not."""
    created = await store.create(sandbox())
    await store.update_status(said(created, "Ready"), news=[READY])
    await store.write([Create(sandbox("other"))])

    first = await due(store)
    await store.deliveries.postpone(first[0], "It is away.", after_s=60)
    later = await due(store)

    assert [json.loads(each.body)["data"]["name"] for each in first] == ["hello", "other"]
    assert [json.loads(each.body)["data"]["name"] for each in later] == ["other"]


async def test_many_of_one_transaction_are_in_order(store: Store) -> None:
    """What one transaction tells of one sandbox is told in its order."""
    created = await store.create(sandbox())
    news = tuple(News(reason=f"Step{number}", message="") for number in range(300))

    await store.write([UpdateStatus(said(created, "Ready"), news=news)])
    events = await drained(store)

    assert [event["data"]["reason"] for event in events[1:]] == [each.reason for each in news]


async def test_a_sink_is_told_what_it_wants(store: Store) -> None:
    """Types and namespaces that a sink does not name are not written for it."""
    picky = Registration(name="picky", url="", words=("ready",), namespaces=("default",))
    elsewhere = Registration(name="elsewhere", url="", namespaces=("prod",))
    await store.deliveries.register([HUB, picky, elsewhere])

    created = await store.create(sandbox())
    await store.update_status(said(created, "Ready"), news=[READY])

    told = [words(await drained(store, name)) for name in ("hub", "picky", "elsewhere")]
    assert told == [["created", "ready"], ["ready"], []]


async def test_sinks_share_the_id(store: Store) -> None:
    """The same event has the same id for every sink."""
    await store.deliveries.register([HUB, Registration(name="other", url="")])
    await store.create(sandbox())

    (one,), (other,) = await due(store), await due(store, "other")

    assert one.event_id == other.event_id
    assert json.loads(one.body)["id"] == one.event_id


async def test_without_sinks_nothing_is_kept(store: Store) -> None:
    """Where nobody is to be told the outbox stays empty."""
    await store.deliveries.register([])

    await store.create(sandbox())

    assert await due(store) == []


async def test_another_process_writes_into_it(store: Store, tmp_path: Path) -> None:
    """A command without a controller leaves its events for the next controller."""
    other = await Store.open(tmp_path / "store.db", clock=ManualClock())
    await other.create(sandbox())
    await other.close()

    assert words(await drained(store)) == ["created"]


async def test_removed_sinks_keep_what_waited(store: Store) -> None:
    """What waited for a sink that is taken out is dead, and alive again when it is back."""
    await store.create(sandbox())
    await store.deliveries.register([])
    (dead,) = await store.deliveries.dead()
    unheard = await store.deliveries.revive()
    await store.deliveries.register([HUB])

    revived = await store.deliveries.revive()

    assert (dead.error, unheard, revived) == (REMOVED, 0, 1)
    assert words(await drained(store)) == ["created"]


async def test_the_dead_give_way(store: Store) -> None:
    """When an event is given up the next of its sandbox is due, and the dead one can be revived."""
    created = await store.create(sandbox())
    await store.update_status(said(created, "Ready"), news=[READY])
    (letter,) = await due(store)

    await store.deliveries.bury(letter, "It answered 410.")
    after = words(await drained(store))
    (dead,) = await store.deliveries.dead("hub")
    wrong = await store.deliveries.revive(position=dead.number + 1)
    right = await store.deliveries.revive(position=dead.number)

    assert after == ["ready"]
    assert (dead.type, dead.attempts, dead.error) == ("created", 1, "It answered 410.")
    assert (wrong, right) == (0, 1)
    assert words(await drained(store)) == ["created"]


async def steps(store: Store, name: str, count: int) -> None:
    """Have *count* things happen to one sandbox, its creation first."""
    created = await store.create(sandbox(name))
    news = tuple(News(reason=f"Step{number}", message="") for number in range(1, count))
    if news:
        await store.write([UpdateStatus(said(created, "Ready"), news=news)])


async def all_dead(store: Store, count: int) -> list[int]:
    """Give all of one sandbox up; return the numbers."""
    await steps(store, "hello", count)
    for _ in range(count):
        (letter,) = await due(store)
        await store.deliveries.bury(letter, "It answered 410.")
    return [letter.number for letter in await store.deliveries.dead()]


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_revived_in_any_order(store: Store, order: tuple[int, ...]) -> None:
    """One letter of a sandbox is due, the first, in whichever order they are revived."""
    numbers = await all_dead(store, 3)

    for index in order:
        await store.deliveries.revive(position=numbers[index])
        assert len(await due(store)) == 1

    assert words(await drained(store)) == ["created", "progressing", "progressing"]


async def test_revived_before_a_postponed_one(store: Store, clock: ManualClock) -> None:
    """What is revived takes the place of a later one that waits for its time."""
    await steps(store, "hello", 3)
    (first,) = await due(store)
    await store.deliveries.bury(first, "gone")
    (second,) = await due(store)
    await store.deliveries.postpone(second, "It is away.", after_s=60)

    await store.deliveries.revive()
    clock.advance(61)

    assert [each.position for each in await due(store)] == [first.position]


async def test_revived_while_a_later_one_is_under_way(store: Store, clock: ManualClock) -> None:
    """What fails behind something that was revived meanwhile has no time of its own any more."""
    await steps(store, "hello", 3)
    (first,) = await due(store)
    await store.deliveries.bury(first, "gone")
    (under_way,) = await due(store)

    await store.deliveries.revive()
    await store.deliveries.postpone(under_way, "It is away.", after_s=60)
    clock.advance(61)

    assert [each.position for each in await due(store)] == [first.position]


async def test_the_old_of_a_lane_go_together(store: Store, clock: ManualClock) -> None:
    """With one that is given up goes what else of its sandbox is as old, and nothing else."""
    await steps(store, "hello", 3)
    await steps(store, "other", 1)
    clock.advance(100)
    found = store.get(Sandbox, "hello")
    assert found is not None
    await store.update_status(said(found, "Degraded"), news=[FAILED])
    letter = (await due(store))[0]

    buried = await store.deliveries.bury(letter, "It is away.", before_s=EPOCH.timestamp() + 50)
    dead = await store.deliveries.dead()

    assert buried == 3
    assert [each.attempts for each in dead] == [1, 0, 0]
    assert dead[1].error == "Given up with an earlier one: It is away."
    assert words(await drained(store)) == ["created", "failing"]


async def test_too_many_wait(store: Store) -> None:
    """Beyond a number the oldest of a sink are given up; the first that is left of each is due."""
    await store.deliveries.register([HUB, Registration(name="picky", url="", words=("created",))])
    await steps(store, "hello", 4)
    await steps(store, "other", 3)
    await steps(store, "third", 1)

    await store.deliveries.forget(most_waiting=3)
    dead = await store.deliveries.dead()
    hub, picky = await store.deliveries.sinks()

    assert [(each.sink, each.name) for each in dead] == [("hub", "hello")] * 4 + [("hub", "other")]
    assert {each.error for each in dead} == {TOO_MANY}
    assert (hub.waiting, picky.waiting) == (3, 3)
    assert words(await drained(store)) == ["progressing", "created", "progressing"]


async def test_clock_set_back_does_not_hold_up(store: Store, clock: ManualClock) -> None:
    """A time that was set for another wall clock is not waited for."""
    await store.create(sandbox())
    (letter,) = await due(store)
    await store.deliveries.postpone(letter, "It is away.", after_s=300)
    soon = await due(store)

    clock.jump(-86400)

    assert soon == []
    assert len(await due(store)) == 1


async def test_state_of_a_sink(store: Store, clock: ManualClock) -> None:
    """What waits and what is dead is counted, with the oldest and the last error."""
    created = await store.create(sandbox())
    await store.update_status(said(created, "Ready"), news=[READY])
    await store.write([Create(sandbox("other"))])
    first, other = await due(store)
    clock.advance(5)
    await store.deliveries.bury(other, "gone")
    await store.deliveries.postpone(first, "It answered 500.", after_s=60)

    (state,) = await store.deliveries.sinks()

    assert (state.waiting, state.dead, state.oldest) == (2, 1, EPOCH)
    assert state.error == "It answered 500."


async def test_dead_letters_go(store: Store, clock: ManualClock) -> None:
    """Dead letters are kept for a month; what waits is kept."""
    await store.create(sandbox())
    await store.create(sandbox("other"))
    hello, _ = await due(store)
    await store.deliveries.bury(hello, "gone")

    await store.compact()
    kept = await store.deliveries.dead()
    clock.advance((MAX_DEAD_AGE + timedelta(seconds=1)).total_seconds())
    await store.compact()

    assert len(kept) == 1
    assert await store.deliveries.dead() == []
    assert len(await due(store)) == 1
