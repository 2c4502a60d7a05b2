"""
What an apply makes of a document: what the config says is set, what it said before and does not
say now is taken away, unless somebody else says it too.

Source:
    kubernetes-sigs/structured-merge-diff, merge/update.go (`Apply`, `prune`) and typed/merge.go.
    Two departures, both about what nobody owns. There, a struct whose applied fields all go takes
    everything in it along; here only when that is not more than defaults (`_is_bare`). There, an
    item that somebody still wants can lose a required field and the apply is refused as invalid;
    here the field stays, without an owner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sandboxer.fields.parts import is_item, joined, parts, prefix
from sandboxer.fields.sets import FieldSet
from sandboxer.fields.shapes import Shape


def merged(live: Any, config: Any, shape: Shape) -> Any:
    """
    Return *live* with everything *config* says.

    Items of lists come in the order of *config*; those it does not name stay where they were
    between them.
    """
    if shape.kind == "leaf":
        return config
    old, new = parts(live, shape), parts(config, shape)
    if old is None or new is None or type(live) is not type(config):
        return config
    if isinstance(config, list):
        return [_one(name, old, new, shape) for name in _in_order(old, new)]
    return {**old, **{name: _one(name, old, new, shape) for name in new}}


def _one(name: str, old: Mapping[str, Any], new: Mapping[str, Any], shape: Shape) -> Any:
    if name in old and name in new:
        return merged(old[name], new[name], shape.at(name))
    return new[name] if name in new else old[name]


def _in_order(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield the steps of both, those of *new* in its order."""
    left = iter(new)
    told: set[str] = set()
    for step in old:
        if step not in new:
            yield step
            continue
        while step not in told:
            told.add(following := next(left))
            yield following
    yield from left


def pruned(value: Any, shape: Shape, *, before: FieldSet, owned: FieldSet) -> Any:
    """
    Return *value* without what is in *before* and no longer in *owned*.

    Args:
        value: What is there, the new config merged in.
        shape: Its shape.
        before: What the applying manager applied last time.
        owned: What anybody owns now, the applying manager's new config included.
    """
    content = parts(value, shape)
    if content is None or not before.children:
        return value
    step = prefix(value)
    kept: dict[str, Any] = {}
    for name, part in content.items():
        was, now = before.at(step + name), owned.at(step + name)
        if not was:
            kept[name] = part
            continue
        is_owned = now.member or (bool(now) and not is_item(name, shape))
        is_kept = is_owned or name in shape.required
        if is_item(name, shape) and was.member and not is_kept:
            continue
        below = pruned(part, shape.at(name), before=was, owned=now)
        if is_kept or is_item(name, shape) or not _is_bare(below, shape.at(name)):
            kept[name] = below
    return joined(value, kept)


def _is_bare(value: Any, shape: Shape) -> bool:
    """
    Tell whether a struct that nobody owns holds no more than the defaults of its fields would.

    Entries of maps and items of lists have no defaults: somebody wrote them, the controller for
    example, whose writes are not noted.
    """
    content = parts(value, shape)
    if content is None:
        return True
    return all(
        not is_item(name, shape) and _is_bare(part, shape.at(name))
        for name, part in content.items()
    )
