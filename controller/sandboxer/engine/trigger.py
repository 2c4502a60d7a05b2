"""
What made the running pass happen: a word for the record, never read to decide.

    created, spec, deletion   somebody wrote the sandbox
    profile, host, room       something it depends on changed; a place became free
    probe, events             its host was looked at, or told of a change by itself
    expiry                    its lifetime ended, or the clock was set
    retry                     the last pass failed
    (empty)                   a routine look
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

TRIGGER: ContextVar[str] = ContextVar("trigger", default="")
"""Set by the worker for the pass it runs."""

# What somebody asked for explains what follows from it, and what was seen explains more than what
# was merely looked at again.
_STRENGTH: Final = (
    "",
    "room",
    "host",
    "profile",
    "retry",
    "probe",
    "events",
    "created",
    "expiry",
    "spec",
    "deletion",
)


def stronger(one: str, other: str) -> str:
    """Return which of two triggers explains more; the first when they are equal."""
    return max(one, other, key=lambda word: _STRENGTH.index(word) if word in _STRENGTH else 0)
