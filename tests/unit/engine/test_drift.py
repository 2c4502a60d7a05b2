"""What drifted: noted in status, told in the story, and cleared when it is mended."""

from __future__ import annotations

import pytest

from sandboxer.engine import record
from sandboxer.engine.drift import differences, drift_message
from sandboxer.engine.plan import Step
from sandboxer.engine.story import sandbox_news
from sandboxer.extension import Observation, Provisioned, absent
from sandboxer.kinds.sandbox import MAX_DIFFERENCES, Difference, Sandbox
from sandboxer.store import News
from sandboxer.testing.clock import EPOCH
from tests.unit.engine.situations import HASH, situation

MEMORY = Difference(path="containers/app/memory", wanted="64 MiB", seen="128 MiB")
VOLUME = Difference(path="volumes/data", wanted="present", seen="missing", data_lost=True)
RUNNING = Observation(uid="u", state="Running", spec_hash=HASH)


def drifted(*drift: Difference, reason: str = "Drift", before: Sandbox | None = None) -> Sandbox:
    """Return a sandbox of which this drift was noted."""
    sandbox = before or situation({"stage": "ready", "sees": "Running"}).sandbox
    seen = Observation(uid="u", state="Running", spec_hash=HASH, drift=drift)
    message = drift_message(seen)
    step = Step(name="Repair" if reason == "Drift" else "Report", reason=reason, message=message)
    status = record.drifted(sandbox, step, seen, EPOCH)
    return sandbox.model_copy(update={"status": status})


def news(before: Sandbox, after: Sandbox, reason: str) -> News | None:
    """Return what is told of that reason between two statuses."""
    told = sandbox_news(before, after.status)
    return next((each for each in told if each.reason == reason), None)


@pytest.mark.parametrize(
    ("seen", "path", "message"),
    [
        pytest.param(absent("u"), "workspace", "Nothing of it is there any more.", id="gone"),
        pytest.param(Observation(uid="u", state="Stopped"), "state", "It is Stopped.", id="stopped"),
        pytest.param(RUNNING, "specHash", "It is Running.", id="another-hash"),
        pytest.param(
            Observation(uid="u", state="Running", drift=(MEMORY,)), MEMORY.path,
            "It is not as it was made: containers/app/memory: 64 MiB -> 128 MiB.", id="different",
        ),
        pytest.param(
            Observation(uid="u", state="Stopped", message="It was killed.", drift=(MEMORY,)),
            MEMORY.path, "It was killed.", id="said-by-the-extension",
        ),
    ],
)  # fmt: skip
def test_every_drift_has_a_difference(seen: Observation, path: str, message: str) -> None:
    """Also an extension that tells only a state has a path and a sentence."""
    assert differences(seen)[0].path == path
    assert drift_message(seen) == message


def test_differences_are_bounded() -> None:
    """What lost data comes first, a path comes once, and neither number nor texts grow."""
    many = [Difference(path=f"p{n}", wanted="w" * 999, seen="s" * 999) for n in range(99)]
    seen = Observation(uid="u", state="Running", drift=(*many, many[0], VOLUME))

    noted = differences(seen)

    assert noted[0] == VOLUME
    assert len({one.path for one in noted}) == len(noted) == MAX_DIFFERENCES
    assert max(len(one.seen) for one in noted) <= 200


def test_a_drift_is_noted_told_and_cleared() -> None:
    """Status and event carry the diff; the repair says it again, and status forgets it."""
    ready = situation({"stage": "ready", "sees": "Running"}).sandbox
    noted = drifted(MEMORY)
    mended = record.provisioned(noted, Provisioned(), HASH, RUNNING, EPOCH)

    told = news(ready, noted, "Drifted")

    assert noted.status.drift == (MEMORY,)
    assert told is not None
    assert told.evidence["drift"] == str(MEMORY)
    assert "dataLost" not in told.evidence
    assert "64 MiB -> 128 MiB" in told.message
    assert mended.drift == ()
    assert mended.repairs == 1
    drifted_ = mended.condition("Drifted")
    assert drifted_ is not None
    assert (drifted_.status, drifted_.reason) == ("False", "Repaired")


def test_lost_data_is_said() -> None:
    """Both the drift and its repair say which data is gone, as a warning."""
    ready = situation({"stage": "ready", "sees": "Running"}).sandbox
    noted = drifted(VOLUME)
    intended = noted.model_copy(
        update={
            "status": record.intended(
                noted, "Provision", step=Step(name="Repair"), hash_=HASH, now=EPOCH
            )
        }
    )
    mended = intended.model_copy(
        update={"status": record.provisioned(intended, Provisioned(), HASH, RUNNING, EPOCH)}
    )

    found, repaired = news(ready, noted, "Drifted"), news(intended, mended, "Repaired")

    for told in (found, repaired):
        assert told is not None
        assert "The data of volumes/data is lost." in told.message
        assert (told.type, told.evidence["dataLost"]) == ("Warning", "volumes/data")


@pytest.mark.parametrize(
    ("before", "told"),
    [
        pytest.param(drifted(MEMORY), (VOLUME, MEMORY), id="repairing"),
        pytest.param(situation({"stage": "ready"}).sandbox, (VOLUME,), id="updating"),
        pytest.param(drifted(VOLUME), (VOLUME,), id="known"),
        pytest.param(situation({"stage": "routed"}).sandbox, (), id="never-made"),
    ],
)
def test_data_lost_while_it_is_brought_up_is_told(
    before: Sandbox, told: tuple[Difference, ...]
) -> None:
    """What goes between two attempts is noted with what had drifted, other differences are not."""
    step = Step(name="Provision", reason="Unfinished", message="It is not finished.")
    record_ = Difference(path="workspace/record", wanted="present", seen="missing")
    seen = Observation(uid="u", state="Incomplete", drift=(record_, VOLUME))

    status = record.noticed(before, step, seen, EPOCH)
    after = before.model_copy(update={"status": status})

    assert status.drift == told
    assert status.is_true("Drifted") == bool(told)
    assert (news(before, after, "Drifted") is None) == (told == before.status.drift)


def test_a_reported_drift_stays_and_another_one_is_told() -> None:
    """With Report it stays, Ready says so, and only another drift is told again."""
    first = drifted(MEMORY, reason="DriftReported")
    same = drifted(MEMORY, reason="DriftReported", before=first)
    other = drifted(MEMORY, VOLUME, reason="DriftReported", before=first)
    back = record.settled(other, RUNNING, EPOCH)

    ready = other.status.condition("Ready")

    assert news(first, same, "Drifted") is None
    assert news(first, other, "Drifted") is not None
    assert ready is not None
    assert (ready.status, ready.reason) == ("False", "DriftReported")
    assert "volumes/data" in ready.message
    assert back.drift == ()
    assert not back.is_true("Drifted")
