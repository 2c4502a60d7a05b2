"""
Steps of a field path, as FieldsV1 writes them.

    f:<name>          a field of a struct or an entry of a map
    k:{"name":"web"}  an item of a keyed list, by its keys
    v:"text"          an item of a set, by itself
    i:0               an item by position; Kubernetes has it, none of our lists uses it

Source:
    kubernetes-sigs/structured-merge-diff, fieldpath/serialize-pe.go and fieldpath/element.go.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

FIELD: Final = "f:"
"""What a step into a field or map entry begins with."""

_KINDS: Final = "fkvi"

_compact: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def field(name: str) -> str:
    """Return the step into a field or map entry."""
    return FIELD + name


def key(item: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return the step into the item of a keyed list that has these values of its keys."""
    return "k:" + _compact({name: item[name] for name in names})


def value(item: Any) -> str:
    """Return the step into the item of a set."""
    return "v:" + _compact(item)


def canonical(step: str) -> str:
    """
    Return *step* in the one form that is compared, whoever wrote it.

    Raises:
        ValueError: It is no step.
    """
    if step.startswith(FIELD):
        return step
    kind, colon, rest = step[:1], step[1:2], step[2:]
    if colon != ":" or not kind or kind not in _KINDS:
        msg = f"{step[:60]!r} is no step of a field path"
        raise ValueError(msg)
    if kind == "i":
        return f"i:{int(rest)}"
    content = json.loads(rest)
    if kind == "k" and not isinstance(content, dict):
        msg = f"{step[:60]!r} names no keys"
        raise ValueError(msg)
    return f"{kind}:{_compact(content)}"


def text(step: str) -> str:
    """Return a step as a person reads it: `.spec`, `[name="web"]`, `[="text"]`, `[0]`."""
    kind, rest = step[:1], step[2:]
    match kind:
        case "f":
            # Names of map entries are somebody's text; a terminal must not obey them.
            return "." + "".join(letter if letter.isprintable() else "?" for letter in rest)
        case "k":
            pairs = json.loads(rest).items()
            return "[" + ",".join(f"{name}={_compact(item)}" for name, item in pairs) + "]"
        case "v":
            return f"[={rest}]"
        case _:
            return f"[{rest}]"
