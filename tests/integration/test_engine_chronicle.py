"""Who did what to a sandbox and what made it happen, as the engine leaves it in the store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sandboxer.errors import TransientError
from sandboxer.kinds.meta import ObjectMeta
from sandboxer.kinds.pool import SandboxPool, SandboxPoolSpec, SandboxTemplate
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.kinds.story import Tombstone, Transition
from sandboxer.store import Cause
from sandboxer.testing.builders import host, profile, sandbox
from tests.integration.engine_lab import Lab, open_lab

ALICE = Cause("user/alice", "request", "kubectl/v1.32.2")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(tmp_path) as opened:
        await opened.store.create(profile())
        await opened.store.create(host())
        await opened.idle()
        yield opened


async def ready(lab: Lab, **spec: Any) -> str:
    created = await lab.store.create(sandbox(**spec), cause=ALICE)
    await lab.until(lambda: lab.is_true("Ready"))
    await lab.idle()
    return created.metadata.uid


async def by_reason(lab: Lab, uid: str) -> dict[str, Transition]:
    return {each.reason: each for each in await lab.store.transitions(uid)}


async def gone(lab: Lab, name: str = "hello") -> Tombstone:
    await lab.until(lambda: lab.store.get(Sandbox, name) is None)
    (stone,) = await lab.store.tombstones("default", name)
    return stone


async def test_a_life_is_told_with_who_and_why(lab: Lab) -> None:
    """From the request to the end, each transition names who made it and what made it happen."""
    uid = await ready(lab)
    lab.world.change(uid, "Stopped")
    lab.observer.notice("h1", uid)
    await lab.until(lambda: lab.sandbox().status.repairs == 1 and lab.is_true("Ready"))
    await lab.idle()
    await lab.store.delete(Sandbox, "hello", cause=ALICE)
    stone = await gone(lab)

    story = await lab.store.transitions(uid)

    assert [(t.by, t.trigger, t.reason) for t in story] == [
        ("user/alice", "request", "Created"),
        ("controller", "created", "Accepted"),
        ("controller", "created", "Routed"),
        ("controller", "created", "Provisioning"),
        ("controller", "created", "Provisioned"),
        ("controller", "created", "Ready"),
        ("controller", "probe", "Drifted"),
        ("controller", "probe", "Repaired"),
        ("controller", "probe", "Ready"),
        ("user/alice", "request", "DeletionRequested"),
        ("controller", "deletion", "Deleting"),
        ("controller", "deletion", "TornDown"),
        ("controller", "deletion", "Deleted"),
    ]
    phases = [each.after for each in story]
    assert [each.before for each in story][1:] == phases[:-1] or phases[-1] == ""
    drifted = next(t for t in story if t.reason == "Drifted")
    assert drifted.evidence["state"] == "Stopped"
    assert drifted.evidence["host"] == "h1"
    assert (stone.deleted_by, stone.deleted_via, stone.host) == (
        "user/alice", "kubectl/v1.32.2", "h1",
    )  # fmt: skip
    assert stone.phase == "Ready"


async def test_another_spec_is_told(lab: Lab) -> None:
    """An update names the fields that changed and is what the passes after it follow from."""
    uid = await ready(lab)
    document = lab.sandbox().to_document()
    document["spec"]["inputs"] = {"command": "other"}
    await lab.store.update(Sandbox.parse(document), cause=Cause("source/specs", "manifest"))
    await lab.until(lambda: lab.is_true("Ready"))

    told = await by_reason(lab, uid)

    assert (told["SpecChanged"].by, told["SpecChanged"].evidence) == (
        "source/specs", {"fields": "inputs"},
    )  # fmt: skip
    assert (told["Updating"].by, told["Updating"].trigger) == ("controller", "spec")


async def test_a_retry_is_told_and_counted(lab: Lab) -> None:
    """A failure that comes back is one transition with a count, after the first, which was no retry."""
    for _ in range(4):
        lab.world.fail("provision", TransientError("No image.", reason="PullFails"))
    created = await lab.store.create(sandbox())
    await lab.until(lambda: lab.is_true("Ready"), step_s=0.5)

    failures = [
        t for t in await lab.store.transitions(created.metadata.uid) if t.reason == "PullFails"
    ]

    assert sum(t.count for t in failures) == 4
    assert {t.trigger for t in failures[1:]} == {"retry"}
    assert failures[0].trigger == "created"
    assert failures[0].evidence["action"] == "Provision"


async def test_expiry_deletes_and_says_so(lab: Lab) -> None:
    """A sandbox whose lifetime ended was deleted by nobody but the clock, and its record says when."""
    uid = await ready(lab, lifetime={"ttl": "10m"})

    await lab.until(lambda: lab.store.get(Sandbox, "hello") is None, step_s=5.0)
    stone = await gone(lab)

    told = await by_reason(lab, uid)
    assert stone.deleted_by == "expiry"
    assert stone.because == "Its lifetime ended at 2026-01-01T12:10:00Z."
    assert (told["Expired"].by, told["Expired"].evidence) == ("expiry", {"ttl": "10m"})


async def test_a_lost_host_is_told(lab: Lab) -> None:
    """That its host is silent, and that it came back, is told with what noticed it."""
    uid = await ready(lab)
    lab.world.cut.add("h1")
    await lab.until(lambda: lab.sandbox().status.phase == "Unknown")
    lab.world.cut.clear()
    await lab.until(lambda: lab.is_true("Ready"), step_s=1.0)

    told = await by_reason(lab, uid)

    assert (told["HostUnreachable"].before, told["HostUnreachable"].after) == ("Ready", "Unknown")
    assert told["HostUnreachable"].trigger == "host"
    assert told["HostBack"].after == "Ready"


async def test_a_pending_one_says_what_every_host_said(lab: Lab) -> None:
    """A sandbox without a place has the answer of each host in its story."""
    await lab.store.create(host("h2", labels={"fake": "refuse"}))
    await lab.idle()
    created = await lab.store.create(sandbox(placement={"host": "h2"}))
    await lab.until(lambda: lab.sandbox().status.condition("Routed") is not None)
    await lab.idle()

    told = await by_reason(lab, created.metadata.uid)

    assert "the label says no." in told["NoFit"].message


async def test_a_pool_and_the_collector_are_somebody(lab: Lab) -> None:
    """What a pool makes, deletes and leaves behind names the pool, its reason, and its owner's end."""
    pool = SandboxPool(
        metadata=ObjectMeta(name="web"), spec=SandboxPoolSpec(replicas=2, template=SandboxTemplate())
    )  # fmt: skip
    pool = await lab.store.create(pool)
    await lab.until(lambda: len(lab.store.list(Sandbox)) == 2)
    await lab.idle()
    made = [await lab.store.transitions(s.metadata.uid) for s in lab.store.list(Sandbox)]
    found = lab.store.get(SandboxPool, "web")
    assert found is not None
    fewer = found.spec.model_copy(update={"replicas": 1})
    await lab.store.update(found.model_copy(update={"spec": fewer}))
    await lab.until(lambda: len(lab.store.list(Sandbox)) == 1)
    await lab.idle()
    await lab.store.delete(SandboxPool, "web")
    await lab.until(lambda: not lab.store.list(Sandbox))

    newest, first = await lab.store.tombstones()

    assert {story[0].by for story in made} == {"pool/web"}
    assert (first.deleted_by, first.because) == (
        "pool/web", "The pool is to have 1 and had 2.",
    )  # fmt: skip
    assert newest.deleted_by == "collector"
    assert newest.because == "What it belonged to was deleted: SandboxPool web."
