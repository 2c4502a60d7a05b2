"""
Starting and stopping without breaking clients.

While the controller starts or stops, its sockets are open and everything is answered with 503 and
`Retry-After`, which kubectl and client libraries obey. Streams without an end of their own (a watch,
a log that is followed) are ended properly when it stops, with the last chunk, so that a client
resumes instead of failing; everything else may finish.
"""

from __future__ import annotations

import asyncio
from typing import Literal
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandboxer.api.answers import StatusError
from sandboxer.api.denial import deny

# Whether the process lives, which it does also while it starts and stops.
_ALWAYS = frozenset({"/healthz", "/livez"})


class Gate:
    """
    An application that is opened and closed.

    Args:
        app: What is behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._state: Literal["starting", "open", "stopping"] = "starting"
        self._endless: set[_Stream] = set()

    def open(self) -> None:
        """Let requests in."""
        self._state = "open"

    def close(self) -> None:
        """Let nothing in any more and end streams."""
        self._state = "stopping"
        for stream in list(self._endless):
            stream.end()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or ask its client to come back."""
        if self._state != "open" and scope.get("path") not in _ALWAYS:
            await deny(self._come_back(), scope, receive, send)
        elif scope["type"] == "http" and _is_endless(scope):
            await self._stream(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _come_back(self) -> StatusError:
        return StatusError(
            503,
            f"the controller is {self._state}",
            details={"retryAfterSeconds": 1},
            # client-go tries again only when told after how many seconds, and on a new connection
            # it meets the next process.
            headers={"Retry-After": "1", "Connection": "close"},
        )

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = _Stream(send)
        self._endless.add(stream)
        try:
            await self._app(scope, receive, stream.send)
        except asyncio.CancelledError:
            if not stream.was_ended():
                raise
            if stream.started:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await deny(self._come_back(), scope, receive, send)
        finally:
            self._endless.discard(stream)


class _Stream:
    """One endless answer, and the task that gives it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._task = asyncio.current_task()
        self._ended = False
        self.started = False

    async def send(self, message: Message) -> None:
        await self._send(message)
        self.started = True

    def end(self) -> None:
        """Have the task stop; what it did not finish is finished by the gate."""
        self._ended = True
        if self._task is not None:
            self._task.cancel()

    def was_ended(self) -> bool:
        """Tell whether the task was cancelled by `end` alone; then it may go on."""
        return self._ended and self._task is not None and self._task.uncancel() == 0


def _is_endless(scope: Scope) -> bool:
    text = scope.get("query_string", b"").decode("latin-1")
    query = parse_qs(text, keep_blank_values=True)
    # As the application reads them: `?watch` alone is a watch (`sandboxer.api.listoptions`).
    return any(
        query.get(name, ["0"])[-1].lower() not in ("0", "false") for name in ("watch", "follow")
    )
