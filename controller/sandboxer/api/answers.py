"""
Answers in Kubernetes' form: objects, lists, warnings, and `Status` for everything else.

Source:
    Kubernetes API conventions, "Response Status Kind"; codes and reasons as kube-apiserver sends
    them (v1.31). Warnings: `pkg/endpoints/filters/warning.go` and apimachinery's
    `util/net.NewWarningHeader`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

# Reason words by HTTP code, where kubectl shows or branches on them.
_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}

# Bytes of all warnings of one answer, and of one of them: clients and proxies refuse long headers.
# Source: `truncateAtTotalRunes` and `truncateItemRunes` of kube-apiserver's filters/warning.go.
_MAX_WARNING_BYTES: Final = 4 * 2**10
_MAX_WARNING_CHARS: Final = 256


class StatusError(Exception):
    """A request that is answered with a `Status`."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str = "",
        details: dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason or _REASONS.get(code, "Unknown")
        self.message = message
        self.details = details or {}
        self.headers = headers or {}

    def document(self) -> dict[str, Any]:
        """Return the `Status` object."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def json_response(document: Any, *, code: int = 200, warnings: Iterable[str] = ()) -> Response:
    """Return a document as JSON, with `Warning` headers that kubectl prints."""
    response = json_bytes(json.dumps(document, separators=(",", ":")).encode(), code=code)
    response.raw_headers.extend((b"warning", line) for line in warning_lines(warnings))
    return response


def warning_lines(warnings: Iterable[str]) -> list[bytes]:
    """Return the values of `Warning` headers: the same text once, and no more than fit."""
    lines: list[bytes] = []
    for text in dict.fromkeys(warnings):
        printable = "".join(letter if letter.isprintable() else " " for letter in text)
        short = printable[:_MAX_WARNING_CHARS].replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'299 - "{short}"'.encode("utf-8", "replace"))
        if sum(map(len, lines)) > _MAX_WARNING_BYTES:
            return lines[:-1]
    return lines


def json_bytes(body: bytes, *, code: int = 200) -> Response:
    """Return JSON that is already encoded."""
    return Response(body, status_code=code, media_type="application/json")


def list_bytes(
    api_version: str, kind: str, metadata: Mapping[str, Any], items: Iterable[bytes]
) -> bytes:
    """Return a list around encoded objects, without decoding any of them."""
    head = {"kind": kind, "apiVersion": api_version, "metadata": metadata}
    opening = json.dumps(head, separators=(",", ":"))[:-1].encode() + b',"items":['
    parts = list(items)
    if not parts:
        return opening + b"]}"
    # NOTE: joined in one go. Each `+` copies the whole list once more, 2 MB for 1,000 objects,
    # which takes four times as long as all the rest.
    parts[0] = opening + parts[0]
    parts[-1] += b"]}"
    return b",".join(parts)


def watch_line(type_: str, body: bytes) -> bytes:
    """Return one line of a watch stream."""
    return b'{"type":"' + type_.encode() + b'","object":' + body + b"}\n"


async def status_response(request: Request, error: Exception) -> Response:
    """Answer a `StatusError`, with the warnings that the handler had before it failed."""
    assert isinstance(error, StatusError), "registered for StatusError only"
    warnings: Iterable[str] = getattr(request.state, "warnings", ())
    response = json_response(error.document(), code=error.code, warnings=warnings)
    response.headers.update(error.headers)
    return response
