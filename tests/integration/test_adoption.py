"""Sandboxes whose store was lost are taken in as they are, or left as they are."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from sandboxer.errors import ConflictError, TerminalError
from sandboxer.extension import LABEL_ENVIRONMENT, LABEL_NAME
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import Destination, Sandbox
from sandboxer.store import Store
from sandboxer.store.environment import take_over
from sandboxer.testing.builders import profile, sandbox
from sandboxer.testing.clock import ManualClock
from sandboxer.testing.fake import FAKE_EXTENSION
from tests.integration.adoption_lab import HOST, PORTS, inherited, lose

NEIGHBOUR, ODD = (f"00000000-0000-4000-8000-{number:012}" for number in (1, 2))


async def test_adopted_sandbox_is_as_it_was(tmp_path: Path) -> None:
    """It has its uid, age and ports, becomes ready, and nothing of it is touched."""
    loss = await lose(tmp_path / "one")
    async with inherited(loss, tmp_path / "two") as heir:
        found = await heir.adopt()
        assert found is not None
        assert found.objection == ""
        await heir.lab.until(lambda: heir.lab.is_true("Ready"))

        adopted, before = heir.lab.sandbox(), loss.sandbox
        assert adopted.metadata.uid == before.metadata.uid
        assert adopted.metadata.creation_timestamp == before.metadata.creation_timestamp
        assert adopted.spec == before.spec
        assert adopted.status.ports == before.status.ports
        assert adopted.status.spec_hash == before.status.spec_hash
        assert adopted.status.handle == before.status.handle
        assert adopted.status.isolation == before.status.isolation
        assert heir.lab.world.calls == []
        story = await heir.lab.store.transitions(heir.uid)
        assert (story[0].reason, story[0].by) == ("Adopted", "user/me")
        assert await heir.adopt() is None


async def test_two_adopt_at_once(tmp_path: Path) -> None:
    """Of two that adopt one sandbox at the same moment one does, and there is one object."""
    loss = await lose(tmp_path / "one")
    async with inherited(loss, tmp_path / "two") as heir:
        ends = await asyncio.gather(heir.adopt(), heir.adopt(), return_exceptions=True)

        assert sum(not isinstance(end, BaseException) and end is not None for end in ends) == 1
        assert [each.metadata.uid for each in heir.lab.store.list(Sandbox)] == [heir.uid]


async def test_survey_lists_with_reasons(tmp_path: Path) -> None:
    """What can be adopted and what cannot are both listed, and what is stored is not."""
    loss = await lose(tmp_path / "one")
    async with inherited(loss, tmp_path / "two") as heir:
        (whole,) = await heir.survey()
        assert (whole.objection, whole.environment, whole.is_ours) == ("", loss.environment, True)
        loss.damage(manifest="")
        (bare,) = await heir.survey()
        assert "No manifest" in bare.objection


async def test_suspended_stays_suspended(tmp_path: Path) -> None:
    """What was suspended after it was made is suspended still."""
    loss = await lose(tmp_path / "one")
    loss.damage(state="Suspended")
    async with inherited(loss, tmp_path / "two") as heir:
        await heir.adopt()
        await heir.lab.until(lambda: heir.lab.is_true("Suspended"))

        assert heir.lab.sandbox().spec.operating_mode == "Suspended"
        assert "resume" not in {call[0] for call in heir.lab.world.calls}


async def test_what_its_profile_would_say_is_waited_for(tmp_path: Path) -> None:
    """Without its profile nobody knows that it is over; with it, it is adopted for an hour."""
    loss = await lose(tmp_path / "one")
    async with inherited(loss, tmp_path / "two", profile=False) as heir:
        assert "names profile 'fake', and there is none" in await heir.refusal()

        await heir.lab.store.create(profile(lifetime={"ttl": "10ms"}))
        await heir.adopt()
        await heir.lab.until(lambda: heir.lab.is_true("Ready"))
        assert heir.lab.world.calls == []


async def test_refused_inputs_are_waited_for(tmp_path: Path) -> None:
    """A profile that its extension refuses says nothing of the place either."""
    loss = await lose(tmp_path / "one")
    async with inherited(loss, tmp_path / "two", inputs={"unknown": 1}) as heir:
        assert "what was wished of it" in await heir.refusal()


async def test_other_profile_is_followed_and_said(tmp_path: Path) -> None:
    """When the profile is not what it was made by, that is said, and the next pass follows it."""
    loss = await lose(tmp_path / "one")
    async with inherited(loss, tmp_path / "two", inputs={"command": "other"}) as heir:
        found = await heir.adopt()
        assert found is not None
        assert found.rebuilt is not None
        assert "made anew" in found.rebuilt.remark
        await heir.lab.until(lambda: heir.lab.is_true("Ready"))

        assert [call[0] for call in heir.lab.world.calls] == ["provision"]


async def test_damaged_thing_is_completed(tmp_path: Path) -> None:
    """What carries no spec hash is brought to the wish, like what a crash left half done."""
    loss = await lose(tmp_path / "one")
    loss.damage(spec_hash="", state="Incomplete")
    async with inherited(loss, tmp_path / "two") as heir:
        await heir.adopt()
        await heir.lab.until(lambda: heir.lab.is_true("Ready"))

        assert loss.thing.spec_hash == loss.sandbox.status.spec_hash


async def test_what_is_over_gets_an_hour(tmp_path: Path) -> None:
    """A lifetime that may have been extended does not end at the moment of adoption."""
    loss = await lose(tmp_path / "one", lifetime={"ttl": "10m"})
    async with inherited(loss, tmp_path / "two") as heir:
        await heir.adopt()
        await heir.lab.until(lambda: heir.lab.is_true("Ready"))

        ends = heir.lab.sandbox().status.expires_at
        assert ends is not None
        assert timedelta(minutes=55) < ends - heir.lab.clock.now() <= timedelta(hours=1)


async def test_manifest_of_somebody_else_needs_trust(tmp_path: Path) -> None:
    """One that another key has signed counts only when a person says so."""
    loss = await lose(tmp_path / "one")
    async with inherited(loss, tmp_path / "two", keeps_key=False) as heir:
        assert "not signed" in await heir.refusal()

        found = await heir.adopt(trusts=True)
        assert found is not None
        assert found.objection == ""


async def test_changed_manifest_is_not_ours(tmp_path: Path) -> None:
    """A host that writes into a manifest breaks its signature."""
    loss = await lose(tmp_path / "one")
    told = json.loads(loss.thing.manifest)
    told["sandbox"]["spec"]["secretRefs"] = [{"name": "KEY", "fromFile": "/root/.ssh/id_ed25519"}]
    loss.damage(manifest=json.dumps(told))
    async with inherited(loss, tmp_path / "two") as heir:
        assert "not signed" in await heir.refusal()


async def test_manifest_of_another_installation_is_not_ours(tmp_path: Path) -> None:
    """A program that writes a neighbour's id into its labels has signed nothing for it."""
    loss = await lose(tmp_path / "one")
    loss.damage(labels={**loss.thing.labels, LABEL_ENVIRONMENT: NEIGHBOUR})
    async with inherited(loss, tmp_path / "two") as heir:
        (found,) = await heir.survey()

    assert (found.environment, found.is_ours) == (NEIGHBOUR, False)
    assert "not signed" in found.objection


async def test_an_odd_thing_hides_no_other(tmp_path: Path) -> None:
    """What somebody made so that it cannot be judged is listed with that, beside the others."""
    loss = await lose(tmp_path / "one", lifetime={"ttl": "8h"})
    told = json.loads(loss.thing.manifest)
    told["sandbox"]["metadata"] |= {"uid": ODD, "creationTimestamp": "9999-12-31T23:59:59Z"}
    odd = replace(loss.thing, manifest=json.dumps(told))
    loss.world.things[HOST, ODD] = odd
    loss.world.things[HOST, NEIGHBOUR] = replace(odd, labels={**odd.labels, LABEL_NAME: "\ud800"})
    async with inherited(loss, tmp_path / "two") as heir:
        lost = {each.seen.uid: each for each in await heir.survey(trusts=True)}

    assert lost[heir.uid].objection == ""
    assert "OverflowError" in lost[ODD].objection
    assert lost[NEIGHBOUR].key.name == "?"


async def test_a_look_is_nobodys(tmp_path: Path) -> None:
    """Who adopts looks as no installation, so that nothing of any sandbox is run for it."""
    loss = await lose(tmp_path / "one")
    async with inherited(loss, tmp_path / "two") as heir:
        await heir.survey()
        await heir.adopt()

        assert set(heir.looks) == {""}


async def test_manifest_of_another_sandbox_is_refused(tmp_path: Path) -> None:
    """Labels and manifest must speak of the same sandbox."""
    loss = await lose(tmp_path / "one")
    loss.damage(labels={**loss.thing.labels, LABEL_NAME: "other"})
    async with inherited(loss, tmp_path / "two") as heir:
        assert "is that of" in await heir.refusal()


async def test_taken_name_is_a_conflict(tmp_path: Path) -> None:
    """A sandbox that has the name by now keeps it, and the lost one is left alone."""
    loss = await lose(tmp_path / "one")
    async with inherited(loss, tmp_path / "two", profile=False) as heir:
        await heir.lab.store.create(sandbox())

        assert "another" in await heir.refusal()


async def test_leased_port_is_a_conflict(tmp_path: Path) -> None:
    """A port that another sandbox has leased since is not leased twice."""
    loss = await lose(tmp_path / "one")
    async with inherited(loss, tmp_path / "two") as heir:
        await heir.lab.store.create(sandbox("quick", ports=PORTS))
        await heir.lab.until(lambda: heir.lab.is_true("Ready", "quick"))

        assert "leased" in await heir.refusal()


async def test_port_of_one_that_comes_is_a_conflict(tmp_path: Path) -> None:
    """Nor is a port that is leased here for a sandbox on its way from another host."""
    loss = await lose(tmp_path / "one")
    async with inherited(loss, tmp_path / "two") as heir:
        lab = heir.lab
        await lab.store.create(sandbox("mover", profile="none"))
        await lab.until(lambda: lab.is_true("Stalled", "mover"))
        await lab.idle()
        mover = lab.sandbox("mover")
        coming = Destination(extension=FAKE_EXTENSION, host=HOST, ports=loss.sandbox.status.ports)
        status = mover.status.model_copy(update={"host": "h2", "destination": coming})
        await lab.store.update_status(mover.model_copy(update={"status": status}))

        assert "leased" in await heir.refusal()


async def test_what_would_be_moved_is_refused(tmp_path: Path) -> None:
    """A sandbox that names another Host would be torn down by the next pass, so it is not adopted."""
    loss = await lose(tmp_path / "one", placement={"host": HOST})
    loss.world.things["h2", loss.sandbox.metadata.uid] = loss.world.things.pop(loss.key)
    async with inherited(loss, tmp_path / "two") as heir:
        document = {"metadata": {"name": "h2"}}
        found = heir.lab.store.get(Host, HOST)
        assert found is not None
        other = Host.parse(found.to_document() | document)
        stored = await heir.lab.store.create(other)
        survey = await heir.adoption.survey(stored)

        assert "asks for host" in survey.lost[0].objection


async def test_deleted_sandbox_is_no_lost_one(tmp_path: Path) -> None:
    """What was deleted here is an orphan, even when something of it is still there."""
    loss = await lose(tmp_path / "one")
    async with inherited(loss, tmp_path / "two") as heir:
        await heir.adopt()
        thing = loss.thing
        await heir.lab.store.delete(Sandbox, "hello")
        await heir.lab.until(lambda: heir.lab.store.get(Sandbox, "hello") is None)
        loss.world.things[loss.key] = thing

        assert "deleted here" in await heir.refusal()


async def test_store_takes_over_an_installation(tmp_path: Path) -> None:
    """An unused store gets another id while nobody has it open, once and for all."""
    path = tmp_path / "store.db"
    store = await Store.open(path, clock=ManualClock())
    with pytest.raises(ConflictError):
        take_over(path, NEIGHBOUR)
    await store.close()
    with pytest.raises(TerminalError):
        take_over(path, "../other")

    for _ in range(2):
        take_over(path, NEIGHBOUR)

    store = await Store.open(path, clock=ManualClock())
    assert store.environment == NEIGHBOUR
    placed = await store.create(sandbox())
    status = placed.status.model_copy(update={"extension": "ext.fake", "host": HOST})
    await store.update_status(placed.model_copy(update={"status": status}))
    await store.close()
    with pytest.raises(ConflictError):
        take_over(path, ODD)
