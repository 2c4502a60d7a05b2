"""
What left the wanted state by itself, in the words of status, conditions and evidence.

An extension that knows what it made says in `Observation.drift` what of it is different now. Of
one that says nothing the state alone is compared, so every drift has at least one difference.
"""

from __future__ import annotations

from collections.abc import Sequence

from sandboxer.extension import Observation
from sandboxer.kinds.sandbox import MAX_DIFFERENCES, Difference, SandboxStatus

# Characters of one text of a difference: a path of a host may be long, and is not trusted.
_MAX_TEXT = 200


def differences(seen: Observation) -> tuple[Difference, ...]:
    """Return what is different, bounded, each path once; those that lost data come first."""
    by_path: dict[str, Difference] = {}
    for one in sorted(seen.drift or (_of_state(seen),), key=lambda each: not each.data_lost):
        by_path.setdefault(one.path[:_MAX_TEXT], _bounded(one))
    return tuple(by_path.values())[:MAX_DIFFERENCES]


def drift_message(seen: Observation) -> str:
    """Return the evidence as sentences: the extension's own, else the differences."""
    if seen.message:
        return seen.message
    if seen.state == "Absent":
        return "Nothing of it is there any more."
    if not seen.drift:
        return f"It is {seen.state}."
    return f"It is not as it was made: {diff_text(differences(seen))}."


def diff_text(drift: Sequence[Difference]) -> str:
    """Return differences as one line."""
    return "; ".join(str(one) for one in drift)


def drift_evidence(status: SandboxStatus) -> dict[str, str]:
    """Return what is kept of a drift with its transition: `drift`, and `dataLost` if there is any."""
    evidence = {"drift": diff_text(status.drift), "dataLost": _lost_paths(status)}
    return {name: text for name, text in evidence.items() if text}


def loss(status: SandboxStatus) -> str:
    """Return the sentence about data that is gone, empty when none is."""
    lost = _lost_paths(status)
    return f"The data of {lost} is lost." if lost else ""


def _lost_paths(status: SandboxStatus) -> str:
    return ", ".join(one.path for one in status.drift if one.data_lost)


def _of_state(seen: Observation) -> Difference:
    if seen.state == "Absent":
        return Difference(path="workspace", wanted="present", seen="missing", data_lost=True)
    if seen.state == "Running":
        return Difference(
            path="specHash", wanted="that of the spec", seen=seen.spec_hash or "mixed"
        )
    return Difference(path="state", wanted="Running", seen=seen.state)


def _bounded(one: Difference) -> Difference:
    return Difference(
        path=one.path[:_MAX_TEXT],
        wanted=one.wanted[:_MAX_TEXT],
        seen=one.seen[:_MAX_TEXT],
        data_lost=one.data_lost,
    )
