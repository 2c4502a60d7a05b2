"""A short soak, so that the long one does not rot, and the schedule it follows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.soak.run import Plan, soak
from tests.soak.schedule import KINDS, Stroke, schedule

HOSTS = ("h1", "h2", "h3")

# Among its strokes are a cut host, killed engines and two dead controllers.
SEED = 6


@pytest.fixture
def directory() -> Iterator[Path]:
    """An empty directory with a short path: sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="soak-") as made:
        yield Path(made)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_a_short_soak_ends_well(rig: Rig, directory: Path) -> None:
    """After twenty seconds of faults everything is there once, and whatever is gone has a reason."""
    plan = Plan(seed=SEED, sandboxes=6, length_s=20.0, gap_s=0.7)

    assert soak(plan, rig, directory) == []


def test_a_seed_says_it_all() -> None:
    """The same seed gives the same strokes, and another one others."""
    first, again, other = (_strokes(seed) for seed in (7, 7, 8))

    assert first == again
    assert first != other


@pytest.mark.parametrize("seed", range(20))
def test_every_stroke_is_cured_and_none_by_another(seed: int) -> None:
    """A host has one lasting fault at a time, and each has its end."""
    open_: dict[str, Stroke] = {}
    for stroke in _strokes(seed):
        if stroke.cures:
            assert open_.pop(stroke.host).kind == stroke.kind
        elif KINDS[stroke.kind].lasts_s:
            assert stroke.host not in open_
            open_[stroke.host] = stroke

    assert open_ == {}


def test_every_kind_happens() -> None:
    """In three times ten minutes nothing is left out."""
    assert {stroke.kind for seed in range(3) for stroke in _strokes(seed)} == set(KINDS)


def _strokes(seed: int) -> list[Stroke]:
    return schedule(seed, length_s=600.0, hosts=HOSTS, gap_s=2.0)
