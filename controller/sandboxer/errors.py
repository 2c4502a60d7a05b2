"""
The errors of sandboxer, and what each one asks of the caller.

    SandboxerError
    ├── InvalidSpecError      the user must change the document; no retry until it changes
    ├── TerminalError         retrying cannot help; the sandbox is Stalled, the message has the remedy
    ├── TransientError        try again with backoff
    │   └── UnreachableError  the host did not answer: nothing is known about what runs there
    ├── ConflictError         somebody else wrote first; drop this pass and run again
    └── NotFoundError         the named object does not exist
    Waiting                   not a failure: come back after `retry_after_s`

An extension or a transport chooses the class; only `sandboxer.engine.worker` turns a class into
a delay, and only `sandboxer.cli` turns one into an exit code. Nobody else sleeps or retries.
"""

from __future__ import annotations


class SandboxerError(Exception):
    """
    Something failed, and the message says what, for which object and what to do.

    Args:
        message: One or two sentences for a person, naming the object.
        reason: Stable CamelCase word; becomes the `reason` of a condition and of an event.
        remedy: What the person can do, as an imperative sentence; empty when nothing is known.
    """

    default_reason = "Error"

    def __init__(self, message: str, *, reason: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.remedy = remedy

    def __str__(self) -> str:
        """Return the message with its remedy, as it is shown to a person."""
        return f"{self.message} {self.remedy}".rstrip()


class InvalidSpecError(SandboxerError):
    """
    The document is wrong and stays wrong until its author changes it.

    Args:
        message: One or two sentences for a person.
        field: Dotted path of the offending field (`spec.inputs.repo`), or empty.
        reason: See `SandboxerError`.
        remedy: See `SandboxerError`.
    """

    default_reason = "InvalidSpec"

    def __init__(
        self, message: str, *, field: str = "", reason: str = "", remedy: str = ""
    ) -> None:
        super().__init__(message, reason=reason, remedy=remedy)
        self.field = field


class TerminalError(SandboxerError):
    """Retrying cannot help; a person must act, and the remedy says how."""

    default_reason = "Terminal"


class TransientError(SandboxerError):
    """It failed now and may work later; the worker retries with backoff."""

    default_reason = "Transient"


class UnreachableError(TransientError):
    """The host did not answer, so the outcome of what was asked is unknown: observe, never assume."""

    default_reason = "HostUnreachable"


class ConflictError(SandboxerError):
    """The object changed since it was read; read it again and start over."""

    default_reason = "Conflict"


class NotFoundError(SandboxerError):
    """The named object does not exist."""

    default_reason = "NotFound"


class Waiting(Exception):  # noqa: N818 - a planned wait is not an error
    """
    Not a failure: what was asked for is under way.

    Args:
        message: What is being waited for, as a sentence.
        retry_after_s: Seconds until it is worth looking again.
        reason: Stable CamelCase word for the condition.
    """

    def __init__(self, message: str, *, retry_after_s: float, reason: str = "Waiting") -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.reason = reason
