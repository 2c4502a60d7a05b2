"""
What made the running pass happen: a word for the record, never read to decide.

    created, spec, deletion   somebody wrote the sandbox
    profile, host, room       something it depends on changed; a place became free
    probe, events             its host was looked at, or told of a change by itself
    expiry                    its lifetime ended
    retry                     the last pass failed
    (empty)                   a routine look
"""

from __future__ import annotations

from contextvars import ContextVar

TRIGGER: ContextVar[str] = ContextVar("trigger", default="")
"""Set by the worker for the pass it runs."""
