"""`make soak`: a soak on a rig of its own; see the package's docstring."""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

from tests.rig import Rig, RigError
from tests.rig.install import install_missing, why_not
from tests.soak.run import Plan, say, soak

_HOSTS = 3


def main() -> int:
    """Do what the arguments say; the exit status is 0 when nothing is wrong in the end."""
    plan, directory = _plan()
    if not install_missing():
        raise RigError(f"The rig cannot be built: {why_not() or 'packages are missing.'}")
    with Rig.start(_HOSTS) as rig:
        problems = soak(plan, rig, directory)
    say(f"log: {directory}/own/controller.log")
    say(f"again: {_again(plan)}")
    return 1 if problems else 0


def _again(plan: Plan) -> str:
    """Return the command that does the same; what is as by default is left out."""
    command = (
        f"make soak SEED={plan.seed} SANDBOXES={plan.sandboxes} MINUTES={plan.length_s / 60:g}"
    )
    options = [
        ("--compose-share", plan.compose_share, Plan.compose_share),
        ("--gap", plan.gap_s, Plan.gap_s),
    ]
    more = " ".join(f"{option} {value}" for option, value, usual in options if value != usual)
    return f"{command} SOAK_ARGS='{more}'" if more else command


def _plan() -> tuple[Plan, Path]:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seed", type=int, help="repeats the choices of a run")
    parser.add_argument("--sandboxes", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long strokes begin")
    parser.add_argument(
        "--compose-share", type=float, default=Plan.compose_share, help="of the sandboxes, 0 to 1"
    )
    parser.add_argument(
        "--gap", type=float, default=Plan.gap_s, help="mean seconds between two strokes"
    )
    parser.add_argument("--directory", type=Path, help="empty; kept afterwards")
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    plan = Plan(
        seed=seed, sandboxes=asked.sandboxes, length_s=asked.minutes * 60,
        compose_share=asked.compose_share, gap_s=asked.gap,
    )  # fmt: skip
    # Below the place tests use for long files: the API's socket has a path of 108 bytes at most.
    directory = asked.directory or Path(tempfile.mkdtemp(prefix="sandboxer-soak-"))
    directory.mkdir(exist_ok=True)
    return plan, directory


if __name__ == "__main__":
    raise SystemExit(main())
