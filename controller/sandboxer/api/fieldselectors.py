r"""
Field selectors in Kubernetes' form: `metadata.name=a,type!=Normal`.

Values are compared as text, an absent field is empty; `\,`, `\=` and `\\` stand for the character.
Names and namespaces are compared without decoding anything.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from pydantic_core import from_json

from sandboxer.api.answers import StatusError
from sandboxer.api.selectors import MAX_LENGTH, MAX_TERMS
from sandboxer.store import Entry

NAME = "metadata.name"
NAMESPACE = "metadata.namespace"

_PART = re.compile(r"(?:[^\\,]|\\[\\,=])*+")
_TERM = re.compile(r"(?P<path>[^=!\\]*)(?P<operator>!=|==|=)(?P<value>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """One requirement on one field."""

    path: str
    value: str
    wanted: bool
    """False when the field must differ."""


FieldSelector = Sequence[FieldTerm]


def parse(text: str, selectable: Collection[str]) -> FieldSelector:
    """
    Read a selector; empty text selects everything.

    Args:
        text: The selector.
        selectable: Paths that may be named besides name and namespace.

    Raises:
        StatusError: 400, it cannot be read or names another field.
    """
    if len(text) > MAX_LENGTH:
        raise StatusError(400, f"invalid selector: it has more than {MAX_LENGTH} characters")
    terms = [_term(part) for part in _parts(text) if part]
    if len(terms) > MAX_TERMS:
        raise StatusError(400, f"invalid selector: it has more than {MAX_TERMS} requirements")
    for term in terms:
        if term.path not in (NAME, NAMESPACE) and term.path not in selectable:
            raise StatusError(400, f"field label not supported: {term.path[:128]}")
    return terms


def _parts(text: str) -> Iterator[str]:
    """Yield what stands between commas; all of the text, or a delete would hit more than was meant."""
    at = 0
    while at <= len(text):
        found = _PART.match(text, at)
        assert found is not None, "it matches nothing at all too"
        if found.end() < len(text) and text[found.end()] != ",":
            raise StatusError(400, f"invalid selector: '{text[at:][:128]}'; can't understand it")
        yield found[0]
        at = found.end() + 1


def _term(part: str) -> FieldTerm:
    found = _TERM.fullmatch(part)
    if found is None:
        raise StatusError(400, f"invalid selector: '{part[:128]}'; can't understand it")
    value = re.sub(r"\\([\\,=])", r"\1", found["value"])
    return FieldTerm(found["path"], value, found["operator"] != "!=")


def matches(selector: FieldSelector, entry: Entry) -> bool:
    """Tell whether an object fulfils every requirement."""
    if not all(_key_fits(term, entry) for term in selector):
        return False
    others = [term for term in selector if term.path not in (NAME, NAMESPACE)]
    if not others:
        return True
    document = from_json(entry.body)
    return all((_value(document, term.path) == term.value) == term.wanted for term in others)


def _key_fits(term: FieldTerm, entry: Entry) -> bool:
    if term.path == NAME:
        return (entry.key.name == term.value) == term.wanted
    if term.path == NAMESPACE:
        return (entry.key.namespace == term.value) == term.wanted
    return True


def _value(document: object, path: str) -> str:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return "" if document is None else str(document)
