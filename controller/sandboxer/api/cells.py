"""
Cells of a `Table`: values found by a column's path and turned into what is printed.

The path is the simple JSONPath of a CRD's printer column: names, `[0]`, `[*]`, and one comparison
(`[?(@.type=="Ready")]`).

Source:
    apiextensions-apiserver, `tableconvertor.go` (v1.32): texts are printed, other types go as they
    are, lists are printed as JSON, dates become an age at the time of the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cache
from typing import Any

from sandboxer.units import format_duration

Cell = str | int | None

_STEP = re.compile(
    r"\.(?P<name>(?:[^.\[\]\\]|\\.)+)"
    r"|\[(?P<index>[0-9]+|\*)\]"
    r"|\['(?P<quoted>[^']+)'\]"
    r"|\[\?\(@\.(?P<field>\w+)\s*==\s*[\"'](?P<value>[^\"']*)[\"']\)\]"
)

_Step = Callable[[Any], Iterable[Any]]


def find(path: str, document: Any) -> list[Any]:
    """Return the values a column's path leads to; empty when there are none."""
    if _is_plain(path):
        # Names only, as most columns: a Table of 500 objects follows thousands of them.
        for name in path[1:].split("."):
            document = document.get(name) if isinstance(document, dict) else None
        return [] if document is None else [document]
    found = [document]
    for step in _steps(path):
        found = [value for item in found for value in step(item)]
    return [value for value in found if value is not None]


def cell(path: str, type_: str, document: Any, now: datetime) -> Cell:
    """Return one cell; None is printed as nothing."""
    values = find(path, document)
    if not values:
        return None
    value = values[0]
    if type_ == "date":
        return age(value, now)
    if type_ == "integer":
        return value if isinstance(value, int) else None
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def age(timestamp: object, now: datetime) -> str:
    """Return how long ago an RFC 3339 time was, as kubectl prints it."""
    try:
        seconds = (now - datetime.fromisoformat(str(timestamp))).total_seconds()
    except (ValueError, TypeError):
        return "<invalid>"
    # Clocks of two machines differ a little; more than that is shown as what it is.
    return format_duration(seconds) if seconds > -2 else "<invalid>"  # noqa: PLR2004 - Kubernetes' tolerance


@cache
def _is_plain(path: str) -> bool:
    return re.fullmatch(r"(\.\w+)+", path) is not None


@cache
def _steps(path: str) -> tuple[_Step, ...]:
    steps, at = [], 0
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            msg = f"the column path {path!r} cannot be read at {path[at:]!r}"
            raise ValueError(msg)
        at = found.end()
        steps.append(_step(found))
    return tuple(steps)


def _step(found: re.Match[str]) -> _Step:
    name = found["quoted"] or re.sub(r"\\(.)", r"\1", found["name"] or "")
    if name:
        return lambda item: (item.get(name),) if isinstance(item, dict) else ()
    if found["index"] == "*":
        return lambda item: item if isinstance(item, list) else ()
    if found["index"]:
        index = int(found["index"])
        return lambda item: item[index : index + 1] if isinstance(item, list) else ()
    field, value = found["field"], found["value"]
    return lambda item: (
        [part for part in item if isinstance(part, dict) and part.get(field) == value]
        if isinstance(item, list)
        else ()
    )
