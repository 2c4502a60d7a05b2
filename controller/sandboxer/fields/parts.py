"""
Documents taken apart by their shape: the one walk that merging, pruning and comparing share.

A value that does not look as its shape says (text where a map belongs, a keyed list with a key
twice) is one thing: whether it is allowed is for the kind's model to say, not for us.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandboxer.errors import InvalidSpecError
from sandboxer.fields import elements
from sandboxer.fields.sets import HERE, FieldSet
from sandboxer.fields.shapes import Shape


def parts(value: Any, shape: Shape) -> Mapping[str, Any] | None:
    """
    Return what *value* consists of, in its own order; None when it is taken whole.

    A struct or map is given as it is, by names; a list by the steps of its items.
    """
    if isinstance(value, dict):
        return value if shape.kind in ("struct", "map") else None
    if isinstance(value, list) and shape.kind in ("keyed", "set"):
        found = {_step(item, shape): item for item in value}
        if len(found) == len(value) and None not in found:
            return {step: item for step, item in found.items() if step is not None}
    return None


def prefix(value: Any) -> str:
    """Return what makes a step of the name of a part of *value*."""
    return elements.FIELD if isinstance(value, dict) else ""


def is_item(name: str, shape: Shape) -> bool:
    """Tell whether a part is there only because somebody put it there, unlike a struct's field."""
    return name not in shape.fields


def joined(value: Any, content: dict[str, Any]) -> Any:
    """Return parts as one value again, of the same type as *value*."""
    return content if isinstance(value, dict) else list(content.values())


def fields_of(value: Any, shape: Shape) -> FieldSet:
    """Return the set of what *value* says, its own path included when it is taken whole or empty."""
    content = None if shape.kind == "leaf" else parts(value, shape)
    if not content:
        return HERE
    step = prefix(value)
    children: dict[str, FieldSet] = {}
    for name, part in content.items():
        below = fields_of(part, shape.at(name))
        if not below.member and is_item(name, shape):
            below = FieldSet(member=True, children=below.children)
        children[step + name] = below
    return FieldSet(children=children)


def without_nulls(value: Any, shape: Shape) -> Any:
    """Return *value* without the fields that are null, which stand for fields that are not there."""
    content = None if shape.open or shape.kind == "leaf" else parts(value, shape)
    if content is None:
        return value
    may_be_null = isinstance(value, list)
    left = {
        name: without_nulls(part, shape.at(name))
        for name, part in content.items()
        if part is not None or may_be_null or shape.at(name).open
    }
    return joined(value, left)


def check_keys(value: Any, shape: Shape, path: tuple[str, ...] = ()) -> None:
    """
    Check that the items of every keyed list and set can be told apart.

    Raises:
        InvalidSpecError: An item has no key, or two have the same.
    """
    if not shape.has_keys:
        return
    content = parts(value, shape)
    if content is None:
        if isinstance(value, list) and shape.kind in ("keyed", "set"):
            raise _not_apart(value, shape, "".join(map(elements.text, path)))
        return
    step = prefix(value)
    for name, part in content.items():
        check_keys(part, shape.at(name), (*path, step + name))


def _step(item: Any, shape: Shape) -> str | None:
    if shape.kind == "set":
        return elements.value(item)
    if isinstance(item, dict) and all(_is_scalar(item.get(name)) for name in shape.keys):
        return elements.key(item, shape.keys)
    return None


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float))


def _not_apart(items: list[Any], shape: Shape, path: str) -> InvalidSpecError:
    seen = set()
    for index, item in enumerate(items):
        step = _step(item, shape)
        if step is None:
            message = f"{path}: element {index} has no {' and '.join(shape.keys)}."
            return InvalidSpecError(message, field=f"{path}[{index}]".removeprefix("."))
        if step in seen:
            message = f"{path}: duplicate entries for key {elements.text(step)}."
            return InvalidSpecError(message, field=path.removeprefix("."))
        seen.add(step)
    return InvalidSpecError(f"{path}: its items cannot be told apart.", field=path)
