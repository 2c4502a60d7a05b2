"""Hosts and catalog objects tell what happened to them, and no more."""

from __future__ import annotations

import pytest

from sandboxer.engine.conditions import Fact, stated
from sandboxer.engine.story import catalog_news, host_news
from sandboxer.kinds.host import Host, HostStatus
from sandboxer.kinds.profile import ProfileStatus
from sandboxer.testing.builders import host
from sandboxer.testing.clock import EPOCH

UP = Fact("True", "Answers", "The last probe succeeded.")
DOWN = Fact("False", "HostUnreachable", "It does not answer.")
READY = Fact("True", "Ready", "Sandboxes can be placed here.")
BLIND = Fact("False", "CannotObserve", "ext.fake: it fails.")
CORDONED = Fact("False", "Unschedulable", "Nothing new is placed here.")
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
