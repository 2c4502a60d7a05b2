"""
What a kind's model finds wrong with a document, in the words of the document's author.

Pydantic speaks to Python programmers; whoever wrote a manifest wants to know which field, what is
wrong with it and what to write instead.
"""

from __future__ import annotations

import difflib
import functools
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sandboxer.kinds import host, meta, sandbox, schema
from sandboxer.kinds.meta import Resource
from sandboxer.values import FieldPath

MAX_SHOWN_CHARS = 60
"""A value is repeated in a message so that it is recognised; longer ones would hide the message."""

# Of one document; each is worth a search for what was meant, and a document can hold 50,000.
_MAX_MISTAKES = 100

# Alternatives pydantic tries for one value; each reports on its own, a person wants one sentence.
_SCALARS = ("str", "int", "float", "bool")

_WORDS_FOR_PATTERN = {
    meta.NAME_PATTERN: "may hold lower-case letters, digits, '-' and '.', and begins and ends "
    "with a letter or digit",
    meta.NAMESPACE_PATTERN: "may hold lower-case letters, digits and '-', and begins and ends "
    "with a letter or digit",
    meta.LABEL_KEY_PATTERN: "is no label key: [prefix/]name with letters, digits, '-', '_' and '.'",
    meta.LABEL_VALUE_PATTERN: "is no label value: at most 63 letters, digits, '-', '_' and '.', "
    "beginning and ending with a letter or digit",
    host.HOST_KEY_PATTERN: "is no public host key: a type and a key, as in "
    "/etc/ssh/ssh_host_ed25519_key.pub without the comment",
    host.ADDRESS_PATTERN: "is no host name or address",
    host.USER_PATTERN: "is no login name",
    host.ABSOLUTE_PATH_PATTERN: "is no absolute path of letters, digits and ._+-",
    sandbox.ENV_NAME_PATTERN: "is no name of a variable: letters, digits and '_', no digit first",
}


class Mistake(NamedTuple):
    """One thing wrong with a document."""

    path: FieldPath
    message: str
    """What is wrong and what to write instead, without the path and without a final stop."""
    type: str
    """Pydantic's word for it: `missing`, `literal_error`, `string_type`…"""
    given: Any
    """The value that stands there; for a missing field the value around it."""


def mistakes_of(error: ValidationError, model: type[Resource]) -> list[Mistake]:
    """Return the mistakes of one document, one per field, at most 100."""
    mistakes: dict[FieldPath, Mistake] = {}
    for found in error.errors(include_url=False)[:_MAX_MISTAKES]:
        path: FieldPath = tuple(part for part in found["loc"] if part != "[key]")
        if path and path[-1] in _SCALARS and found["type"].endswith("_type"):
            path = path[:-1]
            message = f"must be text, a number, true or false, not {called(found['input'])}"
        else:
            message = _message(found, path, model)
        mistakes.setdefault(path, Mistake(path, message, found["type"], found["input"]))
    return list(mistakes.values())


def _message(error: ErrorDetails, path: FieldPath, model: type[Resource]) -> str:  # noqa: PLR0911 - one line per kind of mistake
    given = error["input"]
    match error["type"]:
        case "extra_forbidden":
            return f"unknown field{_nearest(path, model)}"
        case "missing":
            return "is required"
        case "string_type" if isinstance(given, (int, float)):
            text = str(given).lower() if isinstance(given, bool) else str(given)
            return f'must be text; put it in quotes: "{text}"'
        case "string_type":
            return f"must be text, not {called(given)}"
        case "string_pattern_mismatch":
            pattern = error["ctx"]["pattern"]
            words = _WORDS_FOR_PATTERN.get(pattern, f"does not match {pattern}")
            return f"{shown(given)} {words}"
        case "value_error":
            return str(error["ctx"]["error"])
        case "literal_error":
            return f"{shown(given)} is not one of {error['ctx']['expected']}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"must be a mapping, not {called(given)}"
        case "tuple_type" | "list_type":
            return f"must be a list, not {called(given)}"
        case _:
            words = error["msg"].removeprefix("Input ")
            return f"{words}, not {shown(given)}"


def _nearest(path: FieldPath, model: type[Resource]) -> str:
    """Return the "did you mean" of an unknown field, from the fields its neighbours could be."""
    node = _schema(model)
    for part in path[:-1]:
        node = next((item for item in node.get("anyOf", ()) if "properties" in item), node)
        child = node.get("items") if isinstance(part, int) else node.get("properties", {}).get(part)
        node = child or {}
    node = next((item for item in node.get("anyOf", ()) if "properties" in item), node)
    names = list(node.get("properties", {}))
    word = str(path[-1])[:MAX_SHOWN_CHARS]
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if near:
        return f'; did you mean "{near[0]}"?'
    return f"; there are {', '.join(names)}" if names else ""


@functools.cache
def _schema(model: type[Resource]) -> dict[str, Any]:
    return schema.json_schema(model)


def called(value: Any) -> str:
    """Return what a document's author calls a value of this type."""
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true or false"}
    return "nothing" if value is None else names.get(type(value), "a number")


def shown(value: Any) -> str:
    """Return a value as it is repeated in a message: in quotes when it is text, never long."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"
