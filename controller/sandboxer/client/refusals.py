"""
What a server refuses, as the errors of sandboxer: the same classes, so the same exit codes.

A `Status` names a reason and causes; messages are the server's own, made printable, because a
server is somebody else's machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from sandboxer.client.connection import Answer
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

# Characters of a server's message that are shown, and causes that are.
MAX_MESSAGE = 4000
MAX_CAUSES = 20

# RFC 7234: `299 - "text"`; commas separate several in one header.
_WARNING = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')

_UNAVAILABLE = (429, 502, 503, 504)


class HostSilentError(UnreachableError):
    """The API answered, and said that the host behind it does not."""


def warnings_of(answer: Answer) -> list[str]:
    """Return what the server remarked about a request it fulfilled, a sentence each."""
    texts = [
        re.sub(r"\\(.)", r"\1", text)
        for header in answer.header("warning")
        for text in _WARNING.findall(header)
    ]
    return [_printable(_utf8(text)) for text in texts]


def refusal(answer: Answer, server: Server) -> SandboxerError:
    """Return the error that an answer with a code of 400 or more stands for."""
    status = _status(answer)
    if status is None:
        return _foreign(answer, server)
    return refusal_of_status(status, server, code=answer.code)


def refusal_of_status(status: dict[str, Any], server: Server, *, code: int = 0) -> SandboxerError:
    """Return the error that a `Status` stands for; *code* is that of the answer it came in."""
    code = _number(status.get("code")) or code
    reason = _word(status.get("reason"))
    message = _printable(str(status.get("message") or "no reason was given"))[:MAX_MESSAGE]
    causes = _causes(status)
    match code:
        case 401 | 403:
            return _not_allowed(code, message, server)
        case 404:
            return NotFoundError(_sentence(message), reason=reason or "NotFound")
        case 409:
            return _conflict(reason, message, causes)
        case 422 | 400 | 413:
            return _invalid(reason, message, causes)
        case _ if code in _UNAVAILABLE:
            return _unavailable(reason, message, causes, server)
        case _:
            return TerminalError(_sentence(message), reason=reason or "Refused")


def is_about(status: Answer, name: str) -> bool:
    """Tell whether a 404 means this object, and not a path that the server does not know."""
    document = _status(status) or {}
    details = document.get("details")
    return isinstance(details, dict) and details.get("name") == name


def _status(answer: Answer) -> dict[str, Any] | None:
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    is_status = isinstance(document, dict) and document.get("kind") == "Status"
    return document if is_status else None


def _not_allowed(code: int, message: str, server: Server) -> TerminalError:
    if code == 401:  # noqa: PLR2004 - HTTP
        return TerminalError(
            f"{server.where} does not know who asks: {_sentence(message)}",
            reason="Unauthorized",
            remedy="Set SANDBOXER_TOKEN to a token of that server; `sandboxer token create` there "
            "makes one.",
        )
    return TerminalError(
        _sentence(message[:1].upper() + message[1:]),
        reason="Forbidden",
        remedy="Use the token of a user whose role allows it (`sandboxer token create NAME --role "
        "admin` on the server's machine).",
    )


def _conflict(reason: str, message: str, causes: Sequence[dict[str, str]]) -> ConflictError:
    owned = [cause for cause in causes if cause["reason"] == "FieldManagerConflict"]
    if not owned:
        return ConflictError(_sentence(message), reason=reason or "Conflict")
    fields = "; ".join(f"{cause['field']}: {cause['message']}" for cause in owned)
    return ConflictError(
        f"Other managers set fields that the manifest sets differently: {fields}.",
        reason="FieldConflict",
        remedy="Take their values over, leave the fields out, or take the fields with "
        "--force-conflicts.",
    )


def _invalid(reason: str, message: str, causes: Sequence[dict[str, str]]) -> InvalidSpecError:
    told = [f"{cause['field']}: {cause['message']}" for cause in causes if cause["field"]]
    field = next((cause["field"] for cause in causes if cause["field"]), "")
    return InvalidSpecError(_sentence("; ".join(told) or message), field=field, reason=reason)


def _unavailable(
    reason: str, message: str, causes: Sequence[dict[str, str]], server: Server
) -> TransientError:
    # The cause that `sandboxer.api.entering` gives to every error of a host that does not answer.
    if any(cause["reason"] == HostSilentError.default_reason for cause in causes):
        return HostSilentError(_sentence(message), reason=reason)
    if reason in ("", "ServiceUnavailable", "Timeout", "TooManyRequests"):
        return UnreachableError(
            f"The API at {server.where} cannot answer now: {_sentence(message)}",
            reason="ServerUnavailable",
            remedy="Try again in a moment.",
        )
    return TransientError(_sentence(message), reason=reason)


def _foreign(answer: Answer, server: Server) -> SandboxerError:
    """Return the error for an answer that no API of ours gives: a proxy's, another program's."""
    if answer.code in _UNAVAILABLE:
        return UnreachableError(
            f"What answers at {server.where} says {answer.code}.",
            reason="ServerUnavailable",
            remedy="Try again in a moment.",
        )
    return TerminalError(
        f"What answers at {server.where} is not the API of sandboxer (HTTP {answer.code}).",
        reason="NotTheAPI",
        remedy="Check SANDBOXER_SERVER.",
    )


def _causes(status: dict[str, Any]) -> list[dict[str, str]]:
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    found = (
        [cause for cause in causes if isinstance(cause, dict)] if isinstance(causes, list) else []
    )
    return [
        {name: _printable(str(cause.get(name) or ""))[:MAX_MESSAGE] for name in ("reason", "field", "message")}
        for cause in found[:MAX_CAUSES]
    ]  # fmt: skip


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _word(value: object) -> str:
    return value if isinstance(value, str) and value.isascii() and value.isalnum() else ""


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", "\n")) else f"{text}."


def _printable(text: str) -> str:
    """Return a server's text without control characters that could steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def _utf8(text: str) -> str:
    """Return header text as it was meant: bytes of UTF-8 arrive as Latin-1."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
