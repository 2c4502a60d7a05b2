r"""
kubectl's JSONPath templates: `{.items[*].metadata.name}`, filters, `{range}`, text around it.

Paths are evaluated by jsonpath-ng; this module knows what kubectl adds to them (templates, ranges,
`\.` inside a name, absent values that print as nothing) and nothing about kinds. Not supported:
`printf`-like functions, which kubectl does not have either.

Source:
    https://kubernetes.io/docs/reference/kubectl/jsonpath/ (v1.31).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import click

# One step of a path, in the order they are tried: `..`, `.name` (with `\.`), `[…]`.
_STEP = re.compile(
    r"(?P<deep>\.\.)|\.?(?P<name>(?:[^.\[\]{}\\\s]|\\.)+)|\.?\[(?P<index>(?:'[^']*'|\"[^\"]*\"|[^\]])*)\]|(?P<dot>\.)"
)
_TEXT_OR_ACTION = re.compile(r"\{((?:'[^']*'|\"(?:[^\"\\]|\\.)*\"|[^{}'\"])*)\}|([^{]+)")
_PLAIN_INDEX = re.compile(r"\*|-?[0-9]*(:-?[0-9]*){0,2}|\?\(.*\)")


@dataclass(frozen=True, slots=True)
class Literal:
    """Text that is printed as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Field:
    """A path whose values are printed, separated by a space."""

    path: str


@dataclass(frozen=True, slots=True)
class Range:
    """A path and what is printed for each of its values."""

    path: str
    body: tuple[Node, ...]


Node = Literal | Field | Range


def _translated(path: str) -> str:
    """Return kubectl's path in jsonpath-ng's language, every name quoted."""
    path = path.strip().removeprefix("$").removeprefix("@")
    steps, at = ["$"], 0
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            raise click.UsageError(f"The JSONPath {path!r} cannot be read at {path[at:]!r}.")
        at = found.end()
        steps.append(_step(found))
    return "".join(steps)


def _step(found: re.Match[str]) -> str:
    if found["deep"]:
        return "."
    if found["dot"]:
        return ""
    if (index := found["index"]) is not None:
        if index[:1] in "'\"" and index:
            return f".'{index[1:-1]}'"
        if not _PLAIN_INDEX.fullmatch(index):
            raise click.UsageError(f"The JSONPath index [{index}] is not known.")
        return f"[{index}]"
    name = re.sub(r"\\(.)", r"\1", found["name"]).replace("'", "")
    return ".*" if name == "*" else f".'{name}'"


@cache
def _compiled(path: str) -> Any:
    # NOTE: imported here because it costs 50 ms that a plain `get` in JSON does not need.
    from jsonpath_ng.exceptions import JSONPathError
    from jsonpath_ng.ext.parser import parse

    try:
        return parse(_translated(path))
    except JSONPathError as error:
        raise click.UsageError(
            f"The JSONPath {path!r} cannot be read: {error}. "
            "Write it like {.items[*].metadata.name}."
        ) from error


def find(path: str, document: Any) -> list[Any]:
    """
    Return every value at *path*, in document order; none when something on the way is absent.

    Raises:
        click.UsageError: The path cannot be read.
    """
    return [match.value for match in _compiled(path).find(document)]


def as_text(value: Any) -> str:
    """Return a value as kubectl prints it: strings bare, everything else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def parse_template(template: str) -> tuple[Node, ...]:
    """
    Read a template; text without braces is one path, as `--for=jsonpath=` allows.

    Raises:
        click.UsageError: A brace is open, or `{range}` and `{end}` do not match.
    """
    if "{" not in template:
        return (Field(template),)
    if "".join(found[0] for found in _TEXT_OR_ACTION.finditer(template)) != template:
        raise click.UsageError(
            f"The JSONPath template {template!r} has a brace that is not closed."
        )
    stack: list[tuple[str, list[Node]]] = [("", [])]
    for found in _TEXT_OR_ACTION.finditer(template):
        _push(stack, found[1], found[2])
    if len(stack) != 1:
        raise click.UsageError(
            f"The JSONPath template {template!r} has a {{range}} without {{end}}."
        )
    return tuple(stack[0][1])


def _push(stack: list[tuple[str, list[Node]]], action: str | None, text: str | None) -> None:
    if action is None:
        stack[-1][1].append(Literal(text or ""))
        return
    action = action.strip()
    if action.startswith("range "):
        stack.append((action.removeprefix("range "), []))
    elif action == "end":
        if len(stack) == 1:
            raise click.UsageError("The JSONPath template has an {end} without {range}.")
        path, body = stack.pop()
        stack[-1][1].append(Range(path, tuple(body)))
    elif action[:1] == '"':
        stack[-1][1].append(Literal(json.loads(action)))
    elif action[:1] == "'":
        stack[-1][1].append(Literal(action[1:-1]))
    else:
        stack[-1][1].append(Field(action))


def render(nodes: tuple[Node, ...], document: Any) -> str:
    """Return the text of a template for one JSON document."""
    return "".join(_rendered(node, document) for node in nodes)


def _rendered(node: Node, document: Any) -> str:
    match node:
        case Literal(text):
            return text
        case Field(path):
            return " ".join(as_text(value) for value in find(path, document))
        case Range(path, body):
            return "".join(render(body, value) for value in find(path, document))
