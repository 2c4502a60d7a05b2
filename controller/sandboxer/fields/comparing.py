"""What differs between two documents, as sets of paths."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sandboxer.fields.parts import fields_of, is_item, parts, prefix
from sandboxer.fields.sets import EMPTY, HERE, FieldSet
from sandboxer.fields.shapes import Shape


class Changes(NamedTuple):
    """The difference from one document to another."""

    written: FieldSet
    """What was added or has another value."""
    removed: FieldSet
    """What is gone; only the uppermost path of each."""


NO_CHANGES: Final = Changes(EMPTY, EMPTY)


def compare(old: Any, new: Any, shape: Shape) -> Changes:
    """Return what a write made of *old*; the order of keyed items is no difference."""
    if old is new:
        return NO_CHANGES
    before, after = parts(old, shape), parts(new, shape)
    if before is None or after is None or type(old) is not type(new):
        if same(old, new):
            return NO_CHANGES
        was_taken_apart = before is not None or after is not None
        return Changes(fields_of(new, shape) | HERE, HERE if was_taken_apart else EMPTY)
    step = prefix(new)
    written: dict[str, FieldSet] = {}
    removed: dict[str, FieldSet] = {step + name: HERE for name in before if name not in after}
    for name, part in after.items():
        if name in before:
            found = compare(before[name], part, shape.at(name))
        else:
            below = fields_of(part, shape.at(name))
            found = Changes(below | HERE if is_item(name, shape) else below, EMPTY)
        if found.written:
            written[step + name] = found.written
        if found.removed:
            removed[step + name] = found.removed
    return Changes(FieldSet(children=written), FieldSet(children=removed))


def same(one: Any, other: Any) -> bool:
    """Tell whether two JSON values are the same; `1`, `1.0` and `true` are not."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
