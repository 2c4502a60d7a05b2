# ruff: noqa: INP001 - a script beside the document it makes
"""Writes `docs/lifecycle.md` from the cases that test the planner; run it after changing a case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

HEAD = """\
# Life of a sandbox

Made by `python docs/generate_lifecycle.py` from `tests/cases/plan`; a test fails when it is stale.

A pass observes, plans one step, takes it and records what came of it (`controller/sandboxer/engine/reconcile.py`).
The planner (`plan.py`) chooses the step by what is wished, what the status says and what is seen, never by what woke the pass.
Below, *sees* is the state the extension observed, or `unknown` when its host does not answer.

| step | what it does |
|---|---|
| Admit | sets the finalizer, states Accepted, stores the expiry and the leases of ports |
| Refuse | states Accepted=False with the field and a remedy; what runs goes on running |
| Route | chooses extension and host, leases ports, stores why |
| Provision | stores the intention, then makes what is there equal to what is wished |
| Recall | asks, of an adopted sandbox, what its provisioning had said; changes nothing |
| WaitReady | asks once whether it is ready |
| Repair | as Provision, for what left the wished state by itself; counted |
| Report | states Drifted=True and does nothing else |
| Suspend, Resume | stops the processes and keeps the workspace; starts them again |
| Relocate | tears it down where it may not stay, then it is routed anew |
| Reserve | sets another place aside and leases its ports, before a drained host is left |
| Stay | states why it does not leave a drained host, or that it need not |
| Abandon | forgets a place on a host that was given up and does not answer; touches nothing there |
| Warn | states that it expires soon, once |
| Expire | deletes the object, as a user would |
| Teardown | removes everything that carries its uid |
| Forget | removes the finalizer, after a last look |
| Stall | states what a person has to change; nothing is tried before that |
| Hold | states that nothing is known; touches nothing |
| Guard | has its host know what to do at its end without a controller, or not any more |
| Fired | states that its host took it away by itself |
| Refresh | brings the status up to date |
| Nothing | writes nothing |

How far a sandbox has come (*stage*): `new`, `accepted`, `routed`, `provisioned`, `ready` or `suspended`.
"""


def lifecycle(cases: Path) -> str:
    """Return the document for the cases in a directory, sorted by step and file name."""
    lines = [HEAD]
    step = ""
    for path in sorted(cases.glob("*.yaml"), key=lambda path: (_load(path)["step"], path.name)):
        case = _load(path)
        if case["step"] != step:
            step = case["step"]
            lines.append(
                f"\n## {step}\n\n| situation | reason | stage | sees | besides |\n|---|---|---|---|---|"
            )
        given = dict(case["given"])
        stage, sees = given.pop("stage"), given.pop("sees", "")
        besides = ", ".join(f"{name}: {_plain(value)}" for name, value in given.items())
        lines.append(f"| {case['says']} | {case['reason']} | {stage} | {sees} | {besides} |")
    return "\n".join(lines) + "\n"


def _load(path: Path) -> dict[str, Any]:
    case: dict[str, Any] = yaml.safe_load(path.read_text())
    return case


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    docs = Path(__file__).parent
    (docs / "lifecycle.md").write_text(lifecycle(docs.parent / "tests/cases/plan"))
