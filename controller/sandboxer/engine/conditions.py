"""Conditions as facts: how they are stated, and when their times move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeVar

from sandboxer.kinds.meta import Condition, Status

Truth = Literal["True", "False", "Unknown"]
AnyStatus = TypeVar("AnyStatus", bound=Status)

# Characters of a condition's message; more evidence than a person reads, and a host's text in it
# cannot fill the store.
MAX_MESSAGE = 2000


@dataclass(frozen=True, slots=True)
class Fact:
    """What a condition is to say; its times and generation are added when it is stated."""

    status: Truth
    reason: str
    message: str


def stated(
    status: AnyStatus, facts: Mapping[str, Fact], *, generation: int, now: datetime
) -> AnyStatus:
    """
    Return *status* with these facts stated about *generation*; other conditions stay.

    A condition's `lastTransitionTime` moves only with its `status`.

    Args:
        status: What was said before.
        facts: By condition type; a new type is added at the end.
        generation: `metadata.generation` the facts are about.
        now: Time of a transition; only whole seconds are kept.
    """
    conditions = {condition.type: condition for condition in status.conditions}
    for type_, fact in facts.items():
        before = conditions.get(type_)
        moved = before is None or before.status != fact.status
        conditions[type_] = Condition(
            type=type_,
            status=fact.status,
            reason=fact.reason,
            message=fact.message[:MAX_MESSAGE],
            observed_generation=generation,
            last_transition_time=now.replace(microsecond=0)
            if moved or before is None
            else before.last_transition_time,
        )
    update = {"conditions": tuple(conditions.values()), "observed_generation": generation}
    return status.model_copy(update=update)


def kept(status: Status, type_: str, fact: Fact) -> Fact:
    """Return *fact* in the words it was stated in before, when those say the same."""
    before = status.condition(type_)
    if before is None or before.status != fact.status:
        return fact
    return Fact(before.status, before.reason, before.message)


def restated(before: Status, after: Status, type_: str) -> Condition | None:
    """Return a condition whose status or reason is not what it was; other words do not count."""
    old, new = before.condition(type_), after.condition(type_)
    if new is None or (old is not None and (old.status, old.reason) == (new.status, new.reason)):
        return None
    return new
