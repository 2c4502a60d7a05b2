"""Label selectors in Kubernetes' form: `a=b,c!=d,e,!f,g in (h,i),j notin (k)`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sandboxer.errors import InvalidSpecError

# NOTE: blanks are taken for good (`*+`); two runs of them side by side could be shared out in as many
# ways as there are blanks, and each would be tried before the term is refused.
_TERM = re.compile(
    r"\s*+(?:(?P<absent>!)\s*+)?(?P<key>[A-Za-z0-9][-A-Za-z0-9_./]{0,316})\s*+"
    r"(?:(?P<equal>==|=|!=)\s*+(?P<value>[-A-Za-z0-9_.]{0,63})\s*+"
    r"|(?P<set>in|notin)\s*+\((?P<values>[-A-Za-z0-9_.,\s]{0,2000})\)\s*+)?(?:,|$)"
)

# Characters of a selector; longer ones are refused before they are read. A list that is held for
# paging keeps its selector.
MAX_LENGTH: Final = 8192

# Requirements of a selector: each is tried on every object there is, and nobody else is answered
# meanwhile. A hundred take 10,000 objects a fifth of a second.
MAX_TERMS: Final = 100

# Characters of a wrong selector that are repeated to the client.
_SHOWN: Final = 64


@dataclass(frozen=True, slots=True)
class Term:
    """One requirement on one label."""

    key: str
    values: frozenset[str] | None
    """Values it may (or may not) have; None means any value."""
    wanted: bool
    """False turns the requirement around; an absent label then fits."""


Selector = Sequence[Term]


def parse(text: str) -> Selector:
    """
    Read a selector; empty text selects everything.

    Raises:
        InvalidSpecError: It cannot be read.
    """
    if len(text) > MAX_LENGTH:
        raise InvalidSpecError(f"The label selector has more than {MAX_LENGTH} characters.")
    terms, at = [], 0
    while at < len(text):
        found = _TERM.match(text, at)
        if found is None or found.end() == at:
            raise InvalidSpecError(
                f"The label selector {text[:_SHOWN]!r} cannot be read at {text[at : at + _SHOWN]!r}.",
                remedy="Write it like app=web,tier!=test or env in (a,b).",
            )
        at = found.end()
        terms.append(_term(found))
        if len(terms) > MAX_TERMS:
            raise InvalidSpecError(f"The label selector has more than {MAX_TERMS} requirements.")
    return terms


def _term(found: re.Match[str]) -> Term:
    if found["set"]:
        values = frozenset(part.strip() for part in found["values"].split(","))
        return Term(found["key"], values, found["set"] == "in")
    if found["equal"]:
        return Term(found["key"], frozenset([found["value"]]), found["equal"] != "!=")
    return Term(found["key"], None, not found["absent"])


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Tell whether labels fulfil every requirement."""
    return all(_holds(term, labels.get(term.key)) for term in selector)


def _holds(term: Term, value: str | None) -> bool:
    has = value is not None and (term.values is None or value in term.values)
    return has == term.wanted
