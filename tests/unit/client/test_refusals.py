"""What a server says, as the errors that have exit codes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandboxer.api.entering import status_of
from sandboxer.client.connection import Answer
from sandboxer.client.refusals import HostSilentError, is_about, refusal, warnings_of
from sandboxer.client.server import Server
from sandboxer.errors import (
    ConflictError,
    InvalidSpecError,
    NotFoundError,
    SandboxerError,
    TerminalError,
    TransientError,
    UnreachableError,
)

SERVER = Server(url="https://here:1")


def answer(code: int, reason: str = "", message: str = "said", **details: Any) -> Answer:
    status = {"kind": "Status", "code": code, "reason": reason, "message": message}
    return Answer(code, (), json.dumps({**status, "details": details}).encode())


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (answer(400, "BadRequest"), InvalidSpecError),
        (answer(401, "Unauthorized"), TerminalError),
        (answer(403, "Forbidden"), TerminalError),
        (answer(404, "NotFound"), NotFoundError),
        (answer(405, "MethodNotAllowed"), TerminalError),
        (answer(409, "Conflict"), ConflictError),
        (answer(422, "Invalid"), InvalidSpecError),
        (answer(500, "NotCapable"), TerminalError),
        (answer(503, "ServiceUnavailable"), UnreachableError),
        (answer(503, "NotThereYet"), TransientError),
        (answer(429, "TooManyRequests"), UnreachableError),
        (Answer(502, (), b"<html>bad gateway</html>"), UnreachableError),
        (Answer(404, (), b"<html>no such page</html>"), TerminalError),
        (Answer(500, (), b"[" * 100_000), TerminalError),
        (Answer(500, (), b'"Status"'), TerminalError),
    ],
)
def test_each_refusal_is_one_kind_of_error(said: Answer, kind: type[SandboxerError]) -> None:
    """The class decides the exit code; what is no Status is no reason to crash."""
    assert type(refusal(said, SERVER)) is kind


@pytest.mark.parametrize("reason", ["HostUnreachable", "CommandTimeout", "EngineUnreachable"])
def test_silence_of_a_host_is_told_from_that_of_the_api(reason: str) -> None:
    """However a host was found not to answer, the class says it, and the reason how."""
    said = status_of(UnreachableError("Host h1 hangs.", reason=reason))

    error = refusal(Answer(said.code, (), json.dumps(said.document()).encode()), SERVER)

    assert isinstance(error, HostSilentError)
    assert (error.message, error.reason) == ("Host h1 hangs.", reason)


def test_invalid_document_names_every_field() -> None:
    """A person sees all that is wrong at once, and programs the first field."""
    causes = [
        {"reason": "FieldValueInvalid", "field": "spec.a", "message": "Invalid value: 1"},
        {"reason": "FieldValueRequired", "field": "spec.b", "message": "Required value"},
    ]

    error = refusal(answer(422, "Invalid", "long", causes=causes), SERVER)

    assert isinstance(error, InvalidSpecError)
    assert error.field == "spec.a"
    assert error.message == "spec.a: Invalid value: 1; spec.b: Required value."


def test_conflict_of_fields_names_field_manager_and_remedy() -> None:
    """Who applies over another's field learns which, whose, and how to insist."""
    cause = {
        "reason": "FieldManagerConflict",
        "field": ".spec.env.A",
        "message": 'conflict with "x"',
    }

    error = refusal(answer(409, "Conflict", causes=[cause]), SERVER)

    assert '.spec.env.A: conflict with "x"' in error.message
    assert "--force-conflicts" in error.remedy


def test_text_of_a_server_cannot_steer_the_terminal() -> None:
    """Escape sequences in messages and warnings are shown as blanks."""
    warned = Answer(200, (("warning", '299 - "a\x1b[2Jb"'),), b"")

    assert "\x1b" not in refusal(answer(403, message="no\x1b[2J"), SERVER).message
    assert warnings_of(warned) == ["a [2Jb"]


def test_warnings_are_read_from_every_header() -> None:
    """Several in one header, several headers, quotes and letters beyond ASCII."""
    headers = (
        ("warning", '299 - "one", 299 - "t\\"w\\\\o"'),
        ("warning", '299 - "drei \u00c3\u00a4"'),
        ("warning", "113 - stale"),
    )

    assert warnings_of(Answer(200, headers, b"")) == ["one", 't"w\\o', "drei \u00e4"]


@pytest.mark.parametrize(
    ("said", "is_it"),
    [
        (answer(404, "NotFound", name="a"), True),
        (answer(404, "NotFound", name="b"), False),
        (answer(404, "NotFound"), False),
        (Answer(404, (), b"gone"), False),
    ],
)
def test_absent_object_is_told_from_unknown_path(said: Answer, *, is_it: bool) -> None:
    """Only a Status that names the object says that there is no such object."""
    assert is_about(said, "a") is is_it
