"""Answering a request, or a websocket that was not accepted yet, before the application sees it."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from sandboxer.api.answers import StatusError, json_response

# Policy violation, RFC 6455 section 7.4.1, for a server that cannot refuse with an HTTP answer.
_WEBSOCKET_REFUSED = 1008

# Bytes of a reason that fit a close frame: 125 less the code, RFC 6455 section 5.5.
_MAX_REASON_BYTES = 123


async def deny(error: StatusError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with a `Status`."""
    if scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
        response = json_response(error.document(), code=error.code)
        response.headers.update(error.headers)
        await response(scope, receive, send)
    else:
        reason = error.message.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
        await send({"type": "websocket.close", "code": _WEBSOCKET_REFUSED, "reason": reason})
