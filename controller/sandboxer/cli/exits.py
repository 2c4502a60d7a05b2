"""Exit codes: the one place that turns an outcome into a number a script can branch on."""

from __future__ import annotations

from enum import IntEnum
from typing import Self

from sandboxer.errors import (
    ConflictError,
    InvalidSpecError,
    NotFoundError,
    SandboxerError,
    TerminalError,
    TransientError,
    UnreachableError,
)


class Exit(IntEnum):
    """What the process tells its caller; `exec` passes the status of its command instead."""

    OK = 0, "it is as asked"
    NO = 1, "the answer is no: a difference, a condition that cannot come true, a failed check"
    USAGE = 2, "the command line is wrong"
    INVALID = 3, "a document is wrong"
    NOT_FOUND = 4, "no such object"
    CONFLICT = 5, "it exists already, or somebody else changed it first"
    TIMEOUT = 6, "the time given with --timeout, or the command's own, is over"
    UNREACHABLE = 7, "a host or the API does not answer"
    BLOCKED = 8, "a person has to act first; the message says how"
    TRANSIENT = 9, "it failed now; the same command may work later"
    BUG = 70, "an error in sandboxer itself"  # EX_SOFTWARE of sysexits(3)
    INTERRUPTED = 130, "interrupted with Ctrl-C"

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:
        """Give the number its meaning, which `--help` and the documents show."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


# The first class that matches is taken, so subclasses stand before their bases.
_BY_ERROR: tuple[tuple[type[SandboxerError], Exit], ...] = (
    (InvalidSpecError, Exit.INVALID),
    (NotFoundError, Exit.NOT_FOUND),
    (ConflictError, Exit.CONFLICT),
    (UnreachableError, Exit.UNREACHABLE),
    (TransientError, Exit.TRANSIENT),
    (TerminalError, Exit.BLOCKED),
)


class TimedOutError(SandboxerError):
    """What was waited for did not come within the time given."""

    default_reason = "Timeout"


class RefusedError(SandboxerError):
    """The command was understood and its answer is no."""

    default_reason = "Refused"


def exit_of(error: SandboxerError) -> Exit:
    """Return the exit code for an error that reached the command line."""
    if isinstance(error, TimedOutError):
        return Exit.TIMEOUT
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), Exit.NO)
