"""What `drain` says before and after, and whom it believes."""

from __future__ import annotations

import io
from typing import Any

import pytest

from sandboxer.cli import drain
from sandboxer.cli.exits import RefusedError
from sandboxer.engine.conditions import Fact, stated
from sandboxer.kinds.sandbox import ResourceSeen, Sandbox
from sandboxer.testing.builders import sandbox
from sandboxer.testing.clock import EPOCH


def placed(host: str = "h1", *, leaving: Fact | None = None, **spec: Any) -> Sandbox:
    """Return a sandbox that is placed on a host."""
    found = sandbox(status={"host": host, "phase": "Ready"}, **spec)
    facts = {"Leaving": leaving} if leaving is not None else {}
    return found.model_copy(update={"status": stated(found.status, facts, generation=1, now=EPOCH)})


def build(state: str) -> Sandbox:
    """Return a sandbox that builds, or has built."""
    found = placed()
    seen = (ResourceSeen(kind="build", name="b", state=state),)
    return found.model_copy(update={"status": found.status.model_copy(update={"resources": seen})})


@pytest.mark.parametrize(
    ("found", "says"),
    [
        pytest.param(placed(), "be made anew", id="plain"),
        pytest.param(placed(placement={"host": "h1"}), "stay: it asks", id="pinned"),
        pytest.param(build("running"), "stay: a build", id="build"),
    ],
)
def test_rehearsal_tells_what_is_known_before(found: Sandbox, says: str) -> None:
    """A rehearsal says what becomes of a sandbox as far as its own document tells."""
    assert says in drain.rehearsal([found])


@pytest.mark.parametrize(
    ("found", "says"),
    [
        pytest.param(placed(), "be made anew", id="plain"),
        pytest.param(placed(placement={"host": "h1"}), "wait without its workspace", id="pinned"),
        pytest.param(build("running"), "be made anew", id="build"),
    ],
)
def test_nothing_stays_on_a_host_that_is_given_up(found: Sandbox, says: str) -> None:
    """Who is forgotten there is told so, and who asks for that very host can only wait."""
    assert says in drain.rehearsal([found], unseen=True)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        pytest.param(None, "is gone", id="gone"),
        pytest.param(placed("h2"), "moved to h2", id="moved"),
        pytest.param(
            placed(leaving=Fact("True", "NoOtherPlace", "It\x1b[31m fits nowhere.")),
            "stays: It [31m fits nowhere.",
            id="stays",
        ),
        pytest.param(placed(""), "waits for a place: ", id="homeless"),
    ],
)
def test_end_is_told_for_each(found: Sandbox | None, says: str) -> None:
    """Each sandbox that was there has a line, with nothing in it that steers a terminal."""
    assert drain.fate(found, "h1") == says


@pytest.mark.parametrize("reason", ["Moving", "WaitingForHosts"])
def test_what_is_under_way_is_waited_for(reason: str) -> None:
    """Who is leaving, or waits for hosts to be looked at, is not reported as staying."""
    assert not drain.why_stay(placed(leaving=Fact("True", reason, "Soon.")))


def test_nobody_is_asked_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody can be asked, a host is given up with --yes only."""
    monkeypatch.setattr("sys.stdin", io.StringIO("h1\n"))

    drain.make_sure("h1", is_sure=True)
    with pytest.raises(RefusedError, match="--yes"):
        drain.make_sure("h1", is_sure=False)
