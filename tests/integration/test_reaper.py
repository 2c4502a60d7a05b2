"""Nothing is taken away on what was known a moment ago: the reaper looks and judges once more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandboxer.engine.stale import Reaper, Stale, stale_of
from sandboxer.errors import TerminalError, Waiting
from sandboxer.extension import (
    LABEL_ENVIRONMENT,
    LABEL_EXTENSION,
    LABEL_NAME,
    LABEL_NAMESPACE,
    LABEL_UID,
)
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import EventRecorder, KeyLocks, Store
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
    assert await bench.reaper.reap(bench.judged(), bench.host, because="A test.")

    assert not bench.is_there
    assert ("h2", bench.sandbox.metadata.uid) in bench.world.things


async def test_what_another_process_placed_there_stays(bench: Bench) -> None:
    """A commit of another process that this one has not noticed yet counts."""
    stale = bench.judged()
    other = await Store.open(bench.path / "store.db", clock=ManualClock())
    await placed(other, bench.sandbox, "h1")
    await other.close()

    assert not await bench.reaper.reap(stale, bench.host, because="A test.")

    assert bench.is_there


async def test_what_is_gone_or_of_others_by_now_is_left(bench: Bench) -> None:
    """A fresh look decides, not what was listed before."""
    stale = bench.judged()
    key = ("h1", bench.sandbox.metadata.uid)
    labels = {**bench.world.things[key].labels, LABEL_ENVIRONMENT: "elsewhere"}
    bench.world.things[key] = Thing(state="Running", spec_hash="0", labels=labels)

    assert not await bench.reaper.reap(stale, bench.host, because="A test.")
    assert bench.is_there
    del bench.world.things[key]
    assert not await bench.reaper.reap(stale, bench.host, because="A test.")
    assert not [call for call in bench.world.calls if call[0] == "reap"]


async def test_what_may_be_the_sandbox_itself_is_refused(bench: Bench) -> None:
    """When the sandbox's own host turns out to be the same machine, nothing is taken away."""
    stale = bench.judged()
    home = bench.store.get(Host, "h2")
    assert home is not None
    status = home.status.model_copy(update={"facts": bench.host.status.facts})
    await bench.store.update_status(home.model_copy(update={"status": status}))

    with pytest.raises(TerminalError, match="same machine"):
        await bench.reaper.reap(stale, bench.host, because="A test.")

    assert bench.is_there


async def test_a_pass_under_way_comes_first(bench: Bench) -> None:
    """While another process works on the sandbox, nothing is taken away."""
    stale = bench.judged()
    others = KeyLocks(bench.path / "locks")
    with others.try_key(stale.key), pytest.raises(Waiting):
        await bench.reaper.reap(stale, bench.host, because="A test.")
    others.close()

    assert bench.is_there
