"""
What a sandbox printed, as plain text that goes on for as long as somebody reads it.

Parameters of Kubernetes and what becomes of them: `follow`, `tailLines`, `limitBytes` and
`container` are honoured. `timestamps` is answered without them and with a warning, because the
lines themselves are right. Whatever would give other lines than were asked for is refused:
`previous`, `sinceSeconds`, `sinceTime`, and a `stream` that is not `All`. The rest concerns
connections between parts of Kubernetes and means nothing here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from sandboxer.api.answers import StatusError, warning_lines
from sandboxer.api.channels import Pending
from sandboxer.api.entering import Entered, enter, flag, number
from sandboxer.errors import SandboxerError
from sandboxer.session import Streams

logger = logging.getLogger(__name__)

# Seconds in which a log that cannot be read is still answered with a Status; after that the answer
# begins, so that a reader of a silent log knows that it is there.
FIRST_BYTES_S = 1.0

_REFUSED = {
    "sinceTime": "sinceTime is not supported: when a line was printed is not known here; use tailLines",
    "sinceSeconds": "sinceSeconds is not supported: when a line was printed is not known here; "
    "use tailLines",
}

TIMESTAMPS_UNKNOWN = "timestamps are not supported: when a line was printed is not known here"


async def read_log(request: Request) -> LogAnswer:
    """Answer `GET …/log`."""
    _refuse_unsupported(request)
    follow, tail = flag(request, "follow"), number(request, "tailLines", least=0)
    limit = number(request, "limitBytes", least=1)
    warnings = [TIMESTAMPS_UNKNOWN] if flag(request, "timestamps") else []
    entered = await enter(request, needs="logs")
    answer = LogAnswer(_Reading(entered, follow=follow, tail=tail), limit, warnings)
    await answer.begin()
    return answer


def _refuse_unsupported(request: Request) -> None:
    query = request.query_params
    if flag(request, "previous"):
        raise StatusError(
            400, "previous is not supported: the log of a container that was replaced is gone"
        )
    for name, message in _REFUSED.items():
        if query.get(name):
            raise StatusError(400, message)
    if query.get("stream", "All") not in ("All", ""):
        raise StatusError(400, "stream must be All: the log keeps no record of which was which")


class _Reading:
    """A log that is being read from its host, a bounded part of it ahead of the client."""

    def __init__(self, entered: Entered, *, follow: bool, tail: int | None) -> None:
        self.output = Pending()
        self.error: SandboxerError | None = None
        """Why it ended too early, once it has."""
        self._entered = entered
        self._follow = follow
        self._tail = tail
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        extension, session, instance = self._entered.inside
        try:
            await extension.logs(
                session,
                instance,
                Streams(stdout=self.output.put, stderr=self.output.put),
                container=self._entered.container,
                follow=self._follow,
                tail=self._tail,
            )
        except SandboxerError as error:
            self.error = error
        except Exception:
            logger.exception("A log could not be read because of an error in sandboxer")
            self.error = SandboxerError("An error in the controller; its log has the details.")
        finally:
            await self.output.end()

    def refusal(self, error: SandboxerError) -> StatusError:
        """Return the answer when it cannot even begin."""
        return self._entered.refusal(error)

    async def stop(self) -> None:
        """End the reading, the process on the host included."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class LogAnswer:
    """
    The answer, an ASGI application like every response.

    Args:
        reading: Where the text comes from.
        limit: Bytes after which it ends; None means all of them.
        warnings: For the client's person.
    """

    def __init__(self, reading: _Reading, limit: int | None, warnings: list[str]) -> None:
        self._reading = reading
        self._left = limit
        self._warnings = warnings

    async def begin(self) -> None:
        """
        Wait a moment for the log to begin.

        Raises:
            StatusError: It cannot be read.
        """
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_BYTES_S):
                    await self._reading.output.stirred()
        except asyncio.CancelledError:
            await self._reading.stop()
            raise
        error = self._reading.error
        if error is not None:
            raise self._reading.refusal(error) from error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the text until it ends or its reader has gone."""
        del scope
        gone = asyncio.create_task(_disconnected(receive))
        sending = asyncio.create_task(self._send(send))
        try:
            await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (gone, sending):
                task.cancel()
            await self._reading.stop()
            await asyncio.gather(gone, sending, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        headers = [(b"content-type", b"text/plain"), (b"cache-control", b"no-cache, private")]
        headers += [(b"warning", line) for line in warning_lines(self._warnings)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while chunk := await self._reading.output.take():
            part = chunk[: self._left]
            await send({"type": "http.response.body", "body": part, "more_body": True})
            if self._left is not None:
                self._left -= len(part)
                if self._left <= 0:
                    break
        await send({"type": "http.response.body", "body": self._last_line(), "more_body": False})

    def _last_line(self) -> bytes:
        """Return why the log ends too early, where it does: the status 200 is long gone."""
        if self._left is not None and self._left <= 0:
            return b""
        error = self._reading.error
        return f"sandboxer: the log ends here: {error}\n".encode() if error else b""


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
