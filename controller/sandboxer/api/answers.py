"""
Answers in Kubernetes' form: objects, lists, and `Status` for everything else.

Source:
    Kubernetes API conventions, "Response Status Kind"; codes and reasons as kube-apiserver sends
    them (v1.31).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

# Reason words by HTTP code, where kubectl shows or branches on them.
_REASONS = {
    400: "BadRequest",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    410: "Expired",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class StatusError(Exception):
    """A request that is answered with a `Status`."""

    def __init__(
        self, code: int, message: str, *, reason: str = "", details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason or _REASONS.get(code, "Unknown")
        self.message = message
        self.details = details or {}

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


def json_response(document: Any, *, code: int = 200) -> Response:
    """Return a document as JSON."""
    return json_bytes(json.dumps(document, separators=(",", ":")).encode(), code=code)


def json_bytes(body: bytes, *, code: int = 200) -> Response:
    """Return JSON that is already encoded."""
    return Response(body, status_code=code, media_type="application/json")


def list_bytes(api_version: str, kind: str, revision: int, bodies: Iterable[bytes]) -> bytes:
    """Return a `<kind>List` around encoded objects, without decoding any of them."""
    head = {
        "kind": f"{kind}List",
        "apiVersion": api_version,
        "metadata": {"resourceVersion": str(revision)},
    }
    opening = json.dumps(head, separators=(",", ":"))[:-1].encode()
    return opening + b',"items":[' + b",".join(bodies) + b"]}"


def watch_line(type_: str, body: bytes) -> bytes:
    """Return one line of a watch stream."""
    return b'{"type":"' + type_.encode() + b'","object":' + body + b"}\n"


async def status_response(request: Request, error: Exception) -> Response:
    """Answer a `StatusError`."""
    del request
    assert isinstance(error, StatusError), "registered for StatusError only"
    return json_response(error.document(), code=error.code)
