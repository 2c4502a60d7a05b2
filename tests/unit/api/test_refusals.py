"""Errors of ours as `Status`."""

from __future__ import annotations

import pytest

from sandboxer.api.refusals import invalid, refused, unavailable_or_failed
from sandboxer.api.served import stored
from sandboxer.errors import (
    ConflictError,
    InvalidSpecError,
    NotFoundError,
    SandboxerError,
    TerminalError,
    TransientError,
    UnreachableError,
)
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import ExpiredError

SANDBOXES = stored(Sandbox)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        pytest.param(ConflictError("x", reason="AlreadyExists"), 409, "AlreadyExists", id="exists"),
        pytest.param(ConflictError("x"), 409, "Conflict", id="conflict"),
        pytest.param(NotFoundError("x"), 404, "NotFound", id="absent"),
        pytest.param(InvalidSpecError("x", field="spec.a"), 422, "Invalid", id="invalid"),
        pytest.param(TransientError("x"), 503, "ServiceUnavailable", id="transient"),
        pytest.param(UnreachableError("x"), 503, "ServiceUnavailable", id="unreachable"),
        pytest.param(TerminalError("x"), 500, "InternalError", id="terminal"),
        pytest.param(ExpiredError("x"), 410, "Expired", id="expired"),
    ],
)
def test_errors_of_a_write(error: SandboxerError, code: int, reason: str) -> None:
    """Every error has its code and reason, and details that a program can read."""
    status = refused(error, SANDBOXES, "a").document()

    assert (status["code"], status["reason"], status["status"]) == (code, reason, "Failure")
    assert status["details"]


def test_a_field_is_a_cause() -> None:
    """A refusal of the store names the field, with what to do."""
    error = InvalidSpecError("It is too big.", field="spec.env", remedy="Make it small.")

    status = refused(error, SANDBOXES, "a").document()

    assert status["details"]["causes"] == [
        {
            "reason": "FieldValueInvalid",
            "message": "Invalid value: It is too big. Make it small.",
            "field": "spec.env",
        }
    ]


def test_what_passes_is_worth_another_try() -> None:
    """A client is told when to come again."""
    status = unavailable_or_failed(TransientError("The disk is full."))

    assert status.headers == {"Retry-After": "1"}
    assert status.details == {"retryAfterSeconds": 1}


def test_a_failure_says_what_it_was() -> None:
    """What retrying cannot help is told with its remedy."""
    error = TerminalError("The file is damaged.", remedy="Restore a backup.")

    assert unavailable_or_failed(error).message == "The file is damaged. Restore a backup."


def test_several_causes_are_one_message() -> None:
    """The message lists the causes as Kubernetes does."""
    causes = [
        {"reason": "FieldValueRequired", "field": f, "message": "Required value"} for f in "ab"
    ]

    assert invalid(SANDBOXES, "x", causes).message == (
        'Sandbox.sandboxer.dev "x" is invalid: [a: Required value, b: Required value]'
    )
