"""What is wrong on the backend, in words a program can read."""

from __future__ import annotations

import pytest

from sandboxer.engine.evidence import evidence_of
from sandboxer.kinds.sandbox import Ending, ResourceSeen, SandboxStatus
from sandboxer.testing.builders import sandbox
from sandboxer.testing.clock import EPOCH

WELL = ResourceSeen(kind="container", name="app", state="running")
SHOT = ResourceSeen(
    kind="container", name="app", state="exited", detail="service app ended with status 137",
    ending=Ending(exit_code=137, ended_at=EPOCH),
)  # fmt: skip
HOG = ResourceSeen(
    kind="container", name="hog", state="exited", detail="service hog was killed",
    ending=Ending(exit_code=137, oom_killed=True),
)  # fmt: skip
DONE = ResourceSeen(
    kind="container", name="setup", state="exited", ending=Ending(exit_code=0)
)  # fmt: skip
SICK = ResourceSeen(kind="container", name="web", state="running", health="unhealthy")


def seen(*resources: ResourceSeen, memory: str = "") -> dict[str, str]:
    wanted = sandbox(resources={"memory": memory} if memory else {})
    return evidence_of(wanted, SandboxStatus(host="h1", resources=resources))


def test_what_is_well_is_no_evidence() -> None:
    """Running things, things that are there, and one that has done its work are not blamed."""
    volume = ResourceSeen(kind="volume", name="v", state="present")

    assert seen(WELL, volume, DONE) == {"host": "h1"}


def test_an_ending_is_told() -> None:
    """What ended is named with its exit code and when."""
    assert seen(WELL, SHOT) == {
        "host": "h1", "resource": "container app", "state": "exited", "exitCode": "137",
        "detail": "service app ended with status 137", "endedAt": "2026-01-01T12:00:00Z",
    }  # fmt: skip


@pytest.mark.parametrize(("memory", "limit"), [("64Mi", {"memoryLimit": "64Mi"}), ("", {})])
def test_memory_comes_first(memory: str, limit: dict[str, str]) -> None:
    """Of several that fell, the one that was killed for its memory is the evidence, with its limit."""
    evidence = seen(SHOT, HOG, memory=memory)

    assert evidence["resource"] == "container hog"
    assert evidence["oomKilled"] == "true"
    assert {name: text for name, text in evidence.items() if name == "memoryLimit"} == limit


def test_a_failing_check_is_told() -> None:
    """What runs and is not healthy is evidence as well."""
    assert seen(SICK)["health"] == "unhealthy"
