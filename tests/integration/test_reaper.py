"""Nothing is taken away on what was known a moment ago: the reaper looks and judges once more."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandboxer.engine.leaving import HOST_GIVEN_UP
from sandboxer.engine.stale import REAPED, REAPING, Reaper, Stale, remembers, stale_of
from sandboxer.errors import TerminalError, TransientError, Waiting
from sandboxer.extension import (
    LABEL_ENVIRONMENT,
    LABEL_EXTENSION,
    LABEL_NAME,
    LABEL_NAMESPACE,
    LABEL_UID,
)
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Cause, EventRecorder, KeyLocks, News, Remains, Store
from sandboxer.testing.builders import host, sandbox
from sandboxer.testing.clock import ManualClock
from sandboxer.testing.fake import FAKE_EXTENSION, FakeExtension, FakeObserver, FakeWorld, Thing

REACHABLE = {
    "type": "Reachable", "status": "True", "reason": "Answers",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}  # fmt: skip


@dataclass
class Bench:
    """A reaper with two hosts, and a sandbox that is on `h2` and has left a copy on `h1`."""

    store: Store
    world: FakeWorld
    reaper: Reaper
    sandbox: Sandbox
    path: Path

    @property
    def host(self) -> Host:
        """The host with the copy."""
        found = self.store.get(Host, "h1")
        assert found is not None
        return found

    def judged(self) -> Stale:
        """Return the copy as it is judged now."""
        seen = self.world.observe("h1", self.sandbox.metadata.uid)
        (stale,) = stale_of(self.store, self.host, [seen])
        return stale

    @property
    def is_there(self) -> bool:
        """Whether the copy is there."""
        return ("h1", self.sandbox.metadata.uid) in self.world.things


async def placed(store: Store, found: Sandbox, name: str) -> Sandbox:
    """Write that a sandbox is on a host."""
    update = {"host": name, "extension": FAKE_EXTENSION}
    status = found.status.model_copy(update=update)
    return await store.update_status(found.model_copy(update={"status": status}))


async def answering(store: Store, name: str, hostname: str) -> None:
    """Have a Host that answered, with a machine's name."""
    made = await store.create(host(name))
    document = made.to_document()
    document["status"] = {"facts": {"hostname": hostname}, "conditions": [REACHABLE]}
    await store.update_status(Host.parse(document))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Everything a reaper needs, and something for it."""
    clock, world = ManualClock(), FakeWorld()
    store = await Store.open(tmp_path / "store.db", clock=clock)
    locks = KeyLocks(tmp_path / "locks")
    await answering(store, "h1", "one")
    await answering(store, "h2", "two")
    made = await placed(store, await store.create(sandbox()), "h2")
    labels = {
        LABEL_UID: made.metadata.uid, LABEL_NAMESPACE: "default", LABEL_NAME: "hello",
        LABEL_ENVIRONMENT: store.environment, LABEL_EXTENSION: FAKE_EXTENSION,
    }  # fmt: skip
    for name in ("h1", "h2"):
        thing = Thing(state="Running", spec_hash="0", labels=labels)
        world.things[name, made.metadata.uid] = thing
    reaper = Reaper(
        store, FakeObserver(world), extensions={FAKE_EXTENSION: FakeExtension(world)},
        locks=locks, events=EventRecorder(store, clock),
    )  # fmt: skip
    yield Bench(store, world, reaper, made, tmp_path)
    await store.close()
    locks.close()


async def test_what_is_stale_is_taken_away(bench: Bench) -> None:
    """The copy goes and the sandbox stays, so that the refusals below mean something."""
    assert await bench.reaper.reap(
        bench.judged(), bench.host, because="A test.", cause=Cause("user/alice")
    )

    assert not bench.is_there
    assert ("h2", bench.sandbox.metadata.uid) in bench.world.things


async def test_what_another_process_placed_there_stays(bench: Bench) -> None:
    """A commit of another process that this one has not noticed yet counts."""
    stale = bench.judged()
    other = await Store.open(bench.path / "store.db", clock=ManualClock())
    await placed(other, bench.sandbox, "h1")
    await other.close()

    assert not await bench.reaper.reap(
        stale, bench.host, because="A test.", cause=Cause("user/alice")
    )

    assert bench.is_there


async def test_what_is_gone_or_of_others_by_now_is_left(bench: Bench) -> None:
    """A fresh look decides, not what was listed before."""
    stale = bench.judged()
    key = ("h1", bench.sandbox.metadata.uid)
    labels = {**bench.world.things[key].labels, LABEL_ENVIRONMENT: "elsewhere"}
    bench.world.things[key] = Thing(state="Running", spec_hash="0", labels=labels)

    assert not await bench.reaper.reap(
        stale, bench.host, because="A test.", cause=Cause("user/alice")
    )
    assert bench.is_there
    del bench.world.things[key]
    assert not await bench.reaper.reap(
        stale, bench.host, because="A test.", cause=Cause("user/alice")
    )
    assert not [call for call in bench.world.calls if call[0] == "reap"]


async def test_what_may_be_the_sandbox_itself_is_refused(bench: Bench) -> None:
    """When the sandbox's own host turns out to be the same machine, nothing is taken away."""
    stale = bench.judged()
    home = bench.store.get(Host, "h2")
    assert home is not None
    status = home.status.model_copy(update={"facts": bench.host.status.facts})
    await bench.store.update_status(home.model_copy(update={"status": status}))

    with pytest.raises(TerminalError, match="same machine"):
        await bench.reaper.reap(stale, bench.host, because="A test.", cause=Cause("user/alice"))

    assert bench.is_there


async def test_a_pass_under_way_comes_first(bench: Bench) -> None:
    """While another process works on the sandbox, nothing is taken away."""
    stale = bench.judged()
    others = KeyLocks(bench.path / "locks")
    with others.try_key(stale.key), pytest.raises(Waiting):
        await bench.reaper.reap(stale, bench.host, because="A test.", cause=Cause("user/alice"))
    others.close()

    assert bench.is_there


async def test_the_story_says_what_is_taken_away_before_it_is(bench: Bench) -> None:
    """A removal that fails leaves who began it and why; one that ends says so."""
    uid = bench.sandbox.metadata.uid
    bench.world.fail("reap", TimeoutError("its own"))
    with pytest.raises(TransientError, match="unexpected TimeoutError"):
        await bench.reaper.reap(
            bench.judged(), bench.host, because="A test.", cause=Cause("user/alice")
        )
    begun = (await bench.store.transitions(uid))[-1]
    await bench.reaper.reap(
        bench.judged(), bench.host, because="A test.", cause=Cause("user/alice")
    )
    *_, again, ended = await bench.store.transitions(uid)

    assert (begun.by, begun.reason, begun.count) == ("user/alice", REAPING, 1)
    assert begun.evidence == {"host": "h1", "extension": FAKE_EXTENSION, "resources": "1 process"}
    assert "is placed on host h2" in begun.message
    assert (again.number, again.count, ended.reason) == (begun.number, 2, REAPED)
    assert await bench.store.tombstones() == []


async def test_what_nobody_remembers_leaves_a_tombstone(bench: Bench) -> None:
    """What a person has taken away can be asked for afterwards, be it never heard of before."""
    uid = str(uuid.uuid4())
    labels = {**bench.world.things["h1", bench.sandbox.metadata.uid].labels, LABEL_UID: uid}
    labels |= {LABEL_NAMESPACE: "lost", LABEL_NAME: "\udcff" * 2}
    bench.world.things["h1", uid] = Thing(state="Running", spec_hash="0", labels=labels)
    (stale,) = stale_of(bench.store, bench.host, [bench.world.observe("h1", uid)])

    await bench.reaper.reap(stale, bench.host, because="A test.", cause=Cause("user/alice"))

    (stone,) = await bench.store.tombstones("lost")
    assert (stone.uid, stone.name, stone.deleted_by) == (uid, "??", "user/alice")
    assert stone.host == "h1"
    story = await bench.store.transitions(uid)
    assert [each.reason for each in story] == [REAPING, REAPED]


@pytest.mark.parametrize(
    ("told", "known"),
    [
        pytest.param([], False, id="never-there"),
        pytest.param([(HOST_GIVEN_UP, "h1")], True, id="given-up"),
        pytest.param([(HOST_GIVEN_UP, "h1"), (REAPING, "h1")], True, id="begun"),
        pytest.param([(HOST_GIVEN_UP, "h1"), (REAPED, "h1")], False, id="taken-away"),
        pytest.param([(HOST_GIVEN_UP, "h1"), ("Routed", "h1")], False, id="there-since"),
        pytest.param([("Routed", "h1"), ("Moving", "h1")], False, id="left-in-order"),
        pytest.param([(HOST_GIVEN_UP, "h2")], False, id="another-host"),
    ],
)
async def test_only_what_was_left_unseen_explains_a_copy(
    bench: Bench, told: list[tuple[str, str]], *, known: bool
) -> None:
    """The store knows why a copy is there only if it last heard that the host was given up."""
    stale = bench.judged()
    for reason, where in told:
        remains = Remains(uid=stale.uid, key=stale.key, host=where, extension=FAKE_EXTENSION)
        news = News(reason=reason, message="A test.", evidence={"host": where})
        await bench.store.remark(remains, news)

    assert await remembers(bench.store, stale, bench.host) is known
