"""The planner, by the cases in `tests/cases/plan`."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from sandboxer.engine.plan import StepName, next_step
from tests.unit.engine.situations import situation

ROOT = Path(__file__).parents[3]
CASES = sorted((ROOT / "tests/cases/plan").glob("*.yaml"))


def load(path: Path) -> dict[str, Any]:
    case: dict[str, Any] = yaml.safe_load(path.read_text())
    return case


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in CASES])
def test_case(path: Path) -> None:
    """In the situation of a case the planner takes the step the case names, for its reason."""
    case = load(path)

    step = next_step(situation(case["given"]))

    assert (step.name, step.reason) == (case["step"], case["reason"])


def test_every_step_has_a_case() -> None:
    """No step of the planner is without a case."""
    covered = {load(path)["step"] for path in CASES}

    assert covered == set(get_args(StepName))


def test_lifecycle_document_is_current() -> None:
    """`docs/lifecycle.md` says what the cases say."""
    generator = runpy.run_path(str(ROOT / "docs/generate_lifecycle.py"))

    document = generator["lifecycle"](ROOT / "tests/cases/plan")

    assert (ROOT / "docs/lifecycle.md").read_text() == document


def test_pause_between_repairs_grows_and_ends() -> None:
    """The pause grows with the number of repairs, is bounded, and shrinks as time passes."""
    given = {"stage": "ready", "sees": "Stopped", "provisionedAgo": 0}
    pauses = [
        next_step(situation(given | {"status": {"repairs": repairs}})).after_s or 0.0
        for repairs in range(16)
    ]
    later = next_step(situation(given | {"status": {"repairs": 9}, "provisionedAgo": 60}))

    assert pauses[:3] == [0.0, 0.0, 0.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 300.0
    assert later.after_s == 4.0


def test_clock_set_back_does_not_lengthen_the_pause() -> None:
    """A wall clock that was set back by a day delays a repair by the pause at most."""
    given = {"stage": "ready", "sees": "Stopped", "provisionedAgo": -86400}

    step = next_step(situation(given | {"status": {"repairs": 5}}))

    assert step.after_s is not None
    assert step.after_s <= 4.0
