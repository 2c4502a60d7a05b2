"""A backend that isolates less than it said: nothing of it stays."""

from __future__ import annotations

from pathlib import Path

from sandboxer.extension import Inputs, Offer
from sandboxer.kinds.event import Event
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.testing.builders import host, profile, sandbox
from sandboxer.testing.fake import FakeExtension
from tests.changing import change_spec
from tests.integration.engine_lab import Lab, open_lab


class Boastful(FakeExtension):
    """Offers a virtual machine and makes a namespace."""

    def offer(self, host: Host, inputs: Inputs) -> Offer:
        """Promise more than `provision` reports."""
        return Offer(fits=True, reason="it runs in memory.", isolation="vm")


async def weaken(lab: Lab, minimum: str) -> None:
    await change_spec(
        lab.store, Sandbox, lab.sandbox().metadata.name, isolation={"minimum": minimum}
    )


async def test_too_weak_is_taken_away_and_not_tried_again(tmp_path: Path) -> None:
    """What isolates too little is torn down once, stalled with a remedy, and made when that is allowed."""
    async with open_lab(tmp_path, extension=Boastful) as lab:
        await lab.store.create(profile())
        await lab.store.create(host())
        await lab.store.create(sandbox(isolation={"minimum": "container"}))

        await lab.until(lambda: lab.is_true("Stalled") and not lab.world.things)
        for _ in range(20):
            lab.observer.notice("h1", lab.sandbox().metadata.uid)
            lab.clock.advance(60)
            await lab.idle()
        calls = [method for method, _, _ in lab.world.calls]
        stalled = lab.sandbox().status
        warnings = [e.reason for e in lab.store.list(Event) if e.type == "Warning"]
        await weaken(lab, "namespace")
        await lab.until(lambda: lab.is_true("Ready"))

        condition = stalled.condition("Stalled")
        assert calls == ["provision", "teardown"]
        assert warnings == ["IsolationTooWeak"]
        assert condition is not None
        assert condition.reason == "IsolationTooWeak"
        assert "spec.isolation.minimum" in condition.message
        assert stalled.phase == "Failed"
        assert not stalled.is_true("Reconciling")
        assert not lab.is_true("Stalled")


async def test_too_weak_leaves_with_its_deletion(tmp_path: Path) -> None:
    """A sandbox that was withdrawn for its isolation can be deleted."""
    async with open_lab(tmp_path, extension=Boastful) as lab:
        await lab.store.create(profile())
        await lab.store.create(host())
        await lab.store.create(sandbox(isolation={"minimum": "vm"}))
        await lab.until(lambda: lab.is_true("Stalled") and not lab.world.things)

        await lab.store.delete(Sandbox, "hello")
        await lab.until(lambda: lab.store.get(Sandbox, "hello") is None)

        assert lab.world.things == {}


async def test_raised_minimum_refuses_and_destroys_nothing(tmp_path: Path) -> None:
    """A running sandbox whose minimum is raised over what it has is refused, and goes on running."""
    async with open_lab(tmp_path) as lab:
        await lab.store.create(profile())
        await lab.store.create(host())
        await lab.store.create(sandbox())
        await lab.until(lambda: lab.is_true("Ready"))

        await weaken(lab, "vm")
        await lab.until(lambda: lab.is_true("Stalled"))
        accepted = lab.sandbox().status.condition("Accepted")

        assert accepted is not None
        assert (accepted.status, accepted.reason) == ("False", "IsolationTooWeak")
        assert [method for method, _, _ in lab.world.calls] == ["provision"]
