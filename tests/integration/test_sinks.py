"""Events reach a real receiver: in order, at least once, whatever it does."""

from __future__ import annotations

import base64
import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from time import monotonic

import pytest
import trustme
from standardwebhooks import Webhook

from sandboxer.clock import SystemClock
from sandboxer.errors import InvalidSpecError
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.sinks.dispatcher import LONGEST_PAUSE_S, MIN_ATTEMPTS
from sandboxer.sinks.receiver import ATTEMPT_S
from sandboxer.store import News, Registration, Store
from sandboxer.testing.builders import sandbox
from sandboxer.testing.clock import ManualClock
from tests.integration.sink_lab import RESET, HubServer, Received, hub_server, serving, sink, until

STEPS = 5


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "store.db", clock=clock)
    yield opened
    await opened.close()


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with hub_server() as opened:
        yield opened


async def lives(store: Store, *names: str, steps: int = STEPS) -> None:
    """Create sandboxes and have something happen to each of them, in turns."""
    for name in names:
        await store.create(sandbox(name))
    for step in range(steps):
        for name in names:
            found = store.get(Sandbox, name)
            assert found is not None
            status = found.status.model_copy(update={"repairs": step + 1})
            news = [News(reason=f"Step{step}", message="It went on.")]
            await store.update_status(found.model_copy(update={"status": status}), news=news)


def reasons(received: list[Received]) -> list[str]:
    return [each.event["data"]["reason"] for each in received]


STORY = ["Created", *(f"Step{step}" for step in range(STEPS))]


async def test_events_arrive_signed(store: Store, hub: HubServer, tmp_path: Path) -> None:
    """An event is posted as a CloudEvent whose signature the receiver can check."""
    key = tmp_path / "key"
    key.write_text("whsec_" + base64.b64encode(b"k" * 32).decode())
    key.chmod(0o600)

    async with serving(store, sink(hub, secret_file=str(key)), clock=SystemClock()):
        await store.create(sandbox())
        await until(lambda: len(hub.requests) == 1)

    (received,) = hub.requests
    assert received.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert received.headers["webhook-id"] == received.event["id"]
    assert Webhook(key.read_text()).verify(received.body, dict(received.headers)) == received.event


async def test_order_of_each_sandbox(store: Store, hub: HubServer, clock: ManualClock) -> None:
    """Many sandboxes at a time are delivered at the same time, each in its own order."""
    names = [f"s{number}" for number in range(20)]
    together = threading.Barrier(2)

    def meet(received: Received) -> int:
        if received.word == "created":
            # Two requests at a time, or this ends in an error.
            together.wait(20)
        return 204

    hub.behave = meet
    async with serving(store, sink(hub), clock=clock):
        await lives(store, *names)
        await until(lambda: len(hub.requests) == len(names) * len(STORY))

    assert {name: reasons(hub.of(name)) for name in names} == dict.fromkeys(names, STORY)


async def test_failing_sandbox_holds_up_only_itself(
    store: Store, hub: HubServer, clock: ManualClock
) -> None:
    """While one sandbox's event is refused its later ones wait, and those of others do not."""
    hub.behave = lambda received: 500 if received.name == "bad" else 204
    hub.answer = b"out of \x1b[31mroom"

    async with serving(store, sink(hub), clock=clock):
        await lives(store, "bad", "good")
        await until(lambda: len(hub.of("good")) == len(STORY) and len(hub.of("bad")) == 1)
        await _until_said(store, "500")
        (state,) = await store.deliveries.sinks()
        hub.behave = lambda _: 204
        clock.advance(LONGEST_PAUSE_S)
        await until(lambda: len(hub.of("bad")) == len(STORY) + 1)

    assert reasons(hub.of("bad")) == ["Created", *STORY]
    assert state.waiting == len(STORY)
    assert state.error == "It answered 500: out of ?[31mroom"


@pytest.mark.parametrize(
    ("status", "says"),
    [
        pytest.param(503, "503", id="unavailable"),
        pytest.param(302, "redirects are not followed", id="redirect"),
        pytest.param(401, "401", id="unauthorized"),
        pytest.param(RESET, "cannot be reached", id="reset"),
    ],
)
async def test_tried_again_with_the_same_id(
    store: Store, hub: HubServer, clock: ManualClock, status: int, says: str
) -> None:
    """Whatever is no yes is tried again: the same event, byte for byte, until it is taken."""
    hub.behave = lambda _: 204 if len(hub.requests) > 2 else status
    hub.headers = {"location": hub.url}

    async with serving(store, sink(hub), clock=clock) as sinks:
        await store.create(sandbox())
        await until(lambda: len(hub.requests) == 1)
        await _until_said(store, says)

        def later() -> bool:
            # NOTE: again and again, for a pause begins only when its attempt is recorded.
            clock.advance(LONGEST_PAUSE_S)
            return len(hub.requests) == 3

        await until(later, sinks)
        await _until_empty(store)

    assert len({each.body for each in hub.requests}) == 1
    assert len({each.headers["webhook-id"] for each in hub.requests}) == 1


async def test_no_attempt_before_its_time(store: Store, hub: HubServer, clock: ManualClock) -> None:
    """A receiver that asks for a pause is given it."""
    hub.behave = lambda _: 429
    hub.headers = {"retry-after": "120"}

    async with serving(store, sink(hub), clock=clock) as sinks:
        await store.create(sandbox())
        await _until_said(store, "429")
        clock.advance(119)
        await store.create(sandbox("other"))
        await until(lambda: len(hub.of("other")) == 1, sinks)
        early = len(hub.of("hello"))
        clock.advance(2)
        await until(lambda: len(hub.of("hello")) == 2, sinks)

    assert early == 1


async def test_gone_is_final(store: Store, hub: HubServer, clock: ManualClock) -> None:
    """410 is a receiver's last word on an event: it is given up, and the next one is sent."""
    hub.behave = lambda received: 410 if received.word == "created" else 204

    async with serving(store, sink(hub), clock=clock):
        await lives(store, "hello")
        await until(lambda: len(hub.requests) == len(STORY))
        await _until_empty(store)

    (dead,) = await store.deliveries.dead()
    assert (dead.name, dead.type, dead.attempts) == ("hello", "created", 1)
    assert reasons(hub.requests) == STORY


async def test_given_up_when_old_and_tried(
    store: Store, hub: HubServer, clock: ManualClock
) -> None:
    """An event is given up when it is too old, but not before some attempts: a clock can jump."""
    hub.behave = lambda _: 500

    async with serving(store, sink(hub, give_up_after="1h"), clock=clock) as sinks:
        await store.create(sandbox())
        await until(lambda: len(hub.requests) == 1)
        clock.jump(7200)
        while not (dead := await store.deliveries.dead()):
            clock.advance(LONGEST_PAUSE_S)
            sinks.wake()

    assert dead[0].attempts == MIN_ATTEMPTS
    assert len(hub.requests) == MIN_ATTEMPTS


async def test_given_up_with_what_is_as_old(store: Store, clock: ManualClock) -> None:
    """Who does not answer for long costs a sandbox five attempts, not five for each event."""
    with hub_server() as away:
        spec = sink(away, give_up_after="1h")
    async with serving(store, spec, clock=clock) as sinks:
        await lives(store, "hello")
        await _until_said(store, "cannot be reached")
        clock.jump(7200)
        while not (dead := await store.deliveries.dead()):
            clock.advance(LONGEST_PAUSE_S)
            sinks.wake()

    assert [each.attempts for each in dead] == [MIN_ATTEMPTS] + [0] * STEPS


async def test_revived_beside_one_that_waits(
    store: Store, hub: HubServer, clock: ManualClock
) -> None:
    """Dead letters that are revived while a later one waits are sent before it, one by one."""
    hub.behave = lambda received: 410 if received.word == "created" else 500
    async with serving(store, sink(hub), clock=clock):
        await lives(store, "hello")
        await _until_said(store, "500")
    hub.requests.clear()
    hub.behave = lambda _: 204
    clock.advance(LONGEST_PAUSE_S)

    await store.deliveries.revive()
    async with serving(store, sink(hub), clock=clock):
        await until(lambda: len(hub.requests) == len(STORY))
        await _until_empty(store)

    assert reasons(hub.requests) == STORY


async def test_two_are_due_of_one_sandbox(
    store: Store, hub: HubServer, clock: ManualClock, tmp_path: Path
) -> None:
    """Whatever the outbox says is due, of one sandbox one event is under way at a time."""
    await store.deliveries.register([Registration(name="hub", url="")])
    await lives(store, "hello")
    with sqlite3.connect(tmp_path / "store.db") as other:
        other.execute("UPDATE outbox SET due_at = 0")

    async with serving(store, sink(hub), clock=clock):
        await until(lambda: len(hub.requests) == len(STORY))
        await _until_empty(store)

    assert reasons(hub.requests) == STORY


class FaultyClock(ManualClock):
    """Raises what nobody expects, once, when a test says so."""

    is_faulty = False

    def now(self) -> datetime:
        if self.is_faulty:
            self.is_faulty = False
            raise RuntimeError("a bug")
        return super().now()


async def test_bug_with_one_event(
    store: Store, hub: HubServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in a delivery is logged; other sandboxes are not held up, and it is tried again."""
    clock = FaultyClock()

    def fail(received: Received) -> int:
        if received.name == "bad" and len(hub.of("bad")) == 1:
            clock.is_faulty = True
            return 500
        return 204

    hub.behave = fail
    async with serving(store, sink(hub), clock=clock):
        await lives(store, "bad", steps=0)
        await until(lambda: "failed by a bug" in caplog.text)
        await lives(store, "good")
        await until(lambda: len(hub.of("good")) == len(STORY))
        early = len(hub.of("bad"))
        await until(lambda: len(hub.of("bad")) == 2)

    assert early == 1
    assert "RuntimeError: a bug" in caplog.text


async def test_bug_in_a_sink(
    tmp_path: Path, hub: HubServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A sink that meets a bug begins again, and tells what has happened meanwhile."""
    clock = FaultyClock()
    store = await Store.open(tmp_path / "store.db", clock=clock)
    async with serving(store, sink(hub), clock=clock) as sinks:
        clock.is_faulty = True
        await until(lambda: not clock.is_faulty, sinks)
        await lives(store, "hello")
        await until(lambda: len(hub.requests) == len(STORY))
    await store.close()

    (bug,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert bug.message == "a sink stopped by a bug"
    assert reasons(hub.requests) == STORY


async def test_hanging_receiver_delays_nothing_else(
    store: Store, hub: HubServer, clock: ManualClock
) -> None:
    """One sink that hangs delays neither writes nor another sink."""
    release = threading.Event()
    hub.behave = lambda _: 204 if release.wait(120) else 500
    began_s = monotonic()
    try:
        with hub_server() as other:
            specs = (sink(hub), sink(other, "other"))
            async with serving(store, *specs, clock=clock):
                await lives(store, *(f"s{number}" for number in range(12)))
                await until(lambda: len(other.requests) == 12 * len(STORY))
            hanging = len(hub.requests)
    finally:
        release.set()

    # Bounded: no more than eight at a time wait for it, each until its attempt is given up.
    assert 8 <= hanging <= 8 * (1 + (monotonic() - began_s) // ATTEMPT_S)


async def test_cut_short_is_sent_again(store: Store, hub: HubServer, clock: ManualClock) -> None:
    """What was received but never recorded as taken is sent again, and nothing is lost."""
    release, reached = threading.Event(), threading.Event()

    def hang(_: Received) -> int:
        reached.set()
        release.wait(60)
        return 204

    hub.behave = hang
    try:
        async with serving(store, sink(hub), clock=clock):
            await lives(store, "hello")
            await until(reached.is_set)
    finally:
        release.set()
    hub.behave = lambda _: 204
    async with serving(store, sink(hub), clock=clock):
        await until(lambda: len(hub.requests) == len(STORY) + 1)
        await _until_empty(store)

    ids = Counter(each.headers["webhook-id"] for each in hub.requests)
    assert sorted(ids.values()) == [1] * STEPS + [2]
    assert reasons(hub.requests) == ["Created", *STORY]


async def test_long_answer_is_not_read(store: Store, hub: HubServer, clock: ManualClock) -> None:
    """Of an answer only the beginning is looked at."""
    hub.answer = b"x" * 10_000_000
    hub.behave = lambda _: 500

    async with serving(store, sink(hub), clock=clock):
        await store.create(sandbox())
        await _until_said(store, "500")
        (state,) = await store.deliveries.sinks()

    assert len(state.error) < 300


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Path, Path]:
    """Return the files of an authority's certificate, and of a server's with its key."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    made.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "hub.pem")
    return tmp_path / "ca.pem", tmp_path / "hub.pem"


async def test_tls_is_verified(
    store: Store, clock: ManualClock, authority: tuple[Path, Path]
) -> None:
    """A receiver whose certificate nobody vouches for is told nothing; with its authority it is."""
    ca_file, certificate = authority
    with hub_server(certificate=certificate) as hub:
        async with serving(store, sink(hub), clock=clock):
            await store.create(sandbox())
            await _until_said(store, "CERTIFICATE_VERIFY_FAILED")
        refused = len(hub.requests)
        clock.advance(LONGEST_PAUSE_S)
        async with serving(store, sink(hub, ca_file=str(ca_file)), clock=clock):
            await until(lambda: len(hub.requests) == 1)

    assert refused == 0


async def test_unusable_key_is_refused_at_the_start(
    store: Store, hub: HubServer, clock: ManualClock, tmp_path: Path
) -> None:
    """A sink whose key is missing is refused before anything is sent."""
    with pytest.raises(InvalidSpecError, match="cannot be read"):
        async with serving(store, sink(hub, secret_file=str(tmp_path / "no")), clock=clock):
            pass


async def _until_said(store: Store, words: str) -> None:
    """Return when the last attempt failed with these words."""
    said = ""
    while words not in said:
        await until(lambda: True)
        (state,) = await store.deliveries.sinks()
        said = state.error


async def _until_empty(store: Store) -> None:
    while (await store.deliveries.sinks())[0].waiting:
        await until(lambda: True)
