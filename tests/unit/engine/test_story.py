"""Hosts and catalog objects tell what happened to them, and no more."""

from __future__ import annotations

import pytest

from sandboxer.engine import placing
from sandboxer.engine.conditions import Fact, stated
from sandboxer.engine.leaving import HOST_GIVEN_UP
from sandboxer.engine.plan import Step
from sandboxer.engine.story import catalog_news, host_news, sandbox_news
from sandboxer.kinds.host import Host, HostStatus
from sandboxer.kinds.profile import ProfileStatus
from sandboxer.testing.builders import host, sandbox
from sandboxer.testing.clock import EPOCH

UP = Fact("True", "Answers", "The last probe succeeded.")
DOWN = Fact("False", "HostUnreachable", "It does not answer.")
READY = Fact("True", "Ready", "Sandboxes can be placed here.")
BLIND = Fact("False", "CannotObserve", "ext.fake: it fails.")
FAILING = Fact("False", "ActionsFail", "ext.fake: the host fails.")
CORDONED = Fact("False", "Unschedulable", "Nothing new is placed here.")
ROOM = Fact("False", "DiskHasRoom", "Less than 85 % are in use.")
FULL = Fact("True", "WorkRootFull", "The disk of the work root has 91 % in use.")
BOTH_FULL = Fact("True", "DisksFull", "Both.")
NO_SIZE = Fact("Unknown", "DiskUnknown", "It is not known how full its disks are.")
UNUSABLE = Fact("False", "NoExtension", "None of its extensions is loaded.")
USABLE = Fact("True", "Valid", "It can be used.")


def host_status(before: HostStatus, reachable: Fact, ready: Fact) -> HostStatus:
    return stated(before, {"Reachable": reachable, "Ready": ready}, generation=1, now=EPOCH)


def seen(*facts: Fact) -> Host:
    found = host()
    if not facts:
        return found
    return found.model_copy(update={"status": host_status(HostStatus(), *facts)})


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        pytest.param((), (UP, READY), [("Ready", "Normal")], id="first"),
        pytest.param((), (DOWN, DOWN), [("HostUnreachable", "Warning")], id="first-down"),
        pytest.param((UP, READY), (DOWN, DOWN), [("HostUnreachable", "Warning")], id="lost"),
        pytest.param((DOWN, DOWN), (UP, READY), [("HostBack", "Normal")], id="back"),
        pytest.param((UP, READY), (UP, BLIND), [("CannotObserve", "Warning")], id="blind"),
        pytest.param((UP, READY), (UP, CORDONED), [("Unschedulable", "Normal")], id="cordoned"),
        pytest.param((UP, CORDONED), (UP, READY), [("Ready", "Normal")], id="uncordoned"),
        pytest.param((UP, READY), (UP, FAILING), [("ActionsFail", "Warning")], id="failing"),
        pytest.param((UP, FAILING), (UP, READY), [("ActionsWork", "Normal")], id="working"),
        pytest.param((UP, READY), (UP, READY), [], id="same"),
    ],
)
def test_host_tells_what_happened(
    before: tuple[Fact, ...], after: tuple[Fact, Fact], told: list[tuple[str, str]]
) -> None:
    """Each change of a host is one event, and a warning where a person may have to act."""
    found = seen(*before)

    news = host_news(found, host_status(found.status, *after))

    assert [(item.reason, item.type) for item in news] == told


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        pytest.param(None, USABLE, [], id="usable-at-first"),
        pytest.param(None, UNUSABLE, [("NoExtension", "Warning")], id="unusable"),
        pytest.param(UNUSABLE, USABLE, [("Valid", "Normal")], id="mended"),
    ],
)
def test_catalog_tells_what_is_wrong(
    before: Fact | None, after: Fact, told: list[tuple[str, str]]
) -> None:
    """A profile or an extension tells that it cannot be used, and that it can be again."""
    status = ProfileStatus()
    if before is not None:
        status = stated(status, {"Ready": before}, generation=1, now=EPOCH)

    news = catalog_news(status, stated(status, {"Ready": after}, generation=1, now=EPOCH))

    assert [(item.reason, item.type) for item in news] == told


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        pytest.param(ROOM, FULL, [("DiskPressure", "Warning")], id="full"),
        pytest.param(None, FULL, [("DiskPressure", "Warning")], id="full-at-first"),
        pytest.param(FULL, ROOM, [("DiskHasRoom", "Normal")], id="room"),
        pytest.param(FULL, BOTH_FULL, [], id="still-full"),
        pytest.param(None, ROOM, [], id="room-at-first"),
        pytest.param(ROOM, NO_SIZE, [], id="unknown"),
    ],
)
def test_host_tells_when_a_disk_is_full(
    before: Fact | None, after: Fact, told: list[tuple[str, str]]
) -> None:
    """A full disk is a warning once, and room again is told; that one cannot say is no news."""
    found = seen(UP, READY)
    if before is not None:
        status = stated(found.status, {"DiskPressure": before}, generation=1, now=EPOCH)
        found = found.model_copy(update={"status": status})

    news = host_news(found, stated(found.status, {"DiskPressure": after}, generation=1, now=EPOCH))

    assert [(item.reason, item.type) for item in news] == told


def test_each_host_that_is_given_up_is_told() -> None:
    """A sandbox that loses a second host says so, though its conditions hold the same words."""
    found = sandbox()
    for name in ("h1", "h2"):
        placed = found.status.model_copy(update={"host": name, "extension": "ext.fake"})
        found = found.model_copy(update={"status": placed})
        step = Step(name="Abandon", reason=HOST_GIVEN_UP, message=f"Host {name} was given up.")
        after = placing.abandoned(found, step, EPOCH)

        told = sandbox_news(found, after)

        assert [(item.reason, item.evidence) for item in told] == [(HOST_GIVEN_UP, {"host": name})]
        found = found.model_copy(update={"status": after})
