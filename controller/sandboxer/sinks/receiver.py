"""
One receiver over HTTP: an event is posted, and what comes back means taken or not.

A receiver is a stranger: redirects are not followed, its answer is read to a bound and its words
are cleaned, it has a bounded time in all, and its certificate is checked.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Final

import httpcore

from sandboxer import __version__
from sandboxer.clock import Clock
from sandboxer.errors import InvalidSpecError, SandboxerError
from sandboxer.kinds.lifecycle import CONTENT_TYPE
from sandboxer.sinks.configuration import SinkSpec
from sandboxer.sinks.signing import read_key, signature_headers

# Seconds for one attempt in all. A receiver is to store an event and answer, not to work on it.
ATTEMPT_S: Final = 15.0

# Bytes of an answer that are looked at; a longer one ends the connection.
MAX_ANSWER_BYTES: Final = 4096

# Characters of a receiver's words in a message.
_SHOWN: Final = 200

# Connections to one receiver, and so attempts at the same time.
CONCURRENCY: Final = 8

_GONE: Final = 410
_TAKEN: Final = range(200, 300)
_REDIRECTS: Final = range(300, 400)


class NotTakenError(SandboxerError):
    """A receiver did not take an event."""

    default_reason = "NotTaken"

    def __init__(
        self,
        message: str,
        *,
        is_answer: bool = False,
        is_final: bool = False,
        after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.is_answer = is_answer
        """Whether the receiver says so; else nothing was heard of it."""
        self.is_final = is_final
        """Whether the receiver says that it never will."""
        self.after_s = after_s
        """Seconds after which it wants to be asked again; None when it did not say."""


class Receiver:
    """
    Connections to one sink.

    Args:
        sink: Where it is and how it is talked to.
        clock: Gives the time of an attempt.

    Raises:
        InvalidSpecError: Its key or its authority's certificate cannot be used.
    """

    def __init__(self, sink: SinkSpec, clock: Clock) -> None:
        self._sink = sink
        self._clock = clock
        self._key_file = Path(sink.secret_file) if sink.secret_file else None
        if self._key_file is not None:
            read_key(self._key_file)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_tls(sink), max_connections=CONCURRENCY, keepalive_expiry=30.0
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

    async def send(self, event_id: str, body: bytes) -> None:
        """
        Post one event, once.

        Raises:
            NotTakenError: It is not known to be taken.
        """
        try:
            # NOTE: read each time, so that a key is changed without a restart.
            key = read_key(self._key_file) if self._key_file is not None else b""
            headers = self._headers(event_id, body, key)
            async with asyncio.timeout(ATTEMPT_S):
                await self._post(headers, body)
        except NotTakenError:
            raise
        except TimeoutError as error:
            raise NotTakenError(f"It did not answer within {ATTEMPT_S:g} s.") from error
        except InvalidSpecError as error:
            raise NotTakenError(error.message) from error
        except Exception as error:  # what a stranger makes of the HTTP library ends nothing here
            words = _clean(str(error)) or type(error).__name__
            raise NotTakenError(f"It cannot be reached: {words}.") from error

    async def _post(self, headers: dict[str, str], body: bytes) -> None:
        async with self._pool.stream(
            "POST", self._sink.url, headers=list(headers.items()), content=body
        ) as answer:
            said = await _beginning(answer)
            if answer.status in _TAKEN:
                return
            raise _refusal(answer, said)

    def _headers(self, event_id: str, body: bytes, key: bytes) -> dict[str, str]:
        headers = {
            "content-type": CONTENT_TYPE,
            "user-agent": f"sandboxer/{__version__}",
            "webhook-id": event_id,
        }
        if key:
            headers |= signature_headers(key, event_id, int(self._clock.now().timestamp()), body)
        return headers


def _tls(sink: SinkSpec) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=sink.ca_file)
    except OSError as error:
        raise InvalidSpecError(
            f"Sink {sink.name} names {sink.ca_file}, which cannot be used: {error}.",
            field="caFile",
        ) from error


async def _beginning(answer: httpcore.Response) -> bytes:
    said = b""
    async for chunk in answer.aiter_stream():
        said += chunk
        if len(said) > MAX_ANSWER_BYTES:
            break
    return said[:MAX_ANSWER_BYTES]


def _refusal(answer: httpcore.Response, said: bytes) -> NotTakenError:
    words = _clean(said.decode("utf-8", "replace"))
    message = f"It answered {answer.status}" + (f": {words}" if words else ".")
    if answer.status in _REDIRECTS:
        message = f"It answered {answer.status}; redirects are not followed."
    after_s = _retry_after_s(answer)
    is_final = answer.status == _GONE
    return NotTakenError(message, is_answer=True, is_final=is_final, after_s=after_s)


def _retry_after_s(answer: httpcore.Response) -> float | None:
    value = next((v for name, v in answer.headers if name.lower() == b"retry-after"), b"")
    # A date is allowed too, and not worth it.
    return float(value) if value.isdigit() and len(value) < 8 else None  # noqa: PLR2004 - 115 days


def _clean(words: str) -> str:
    """Return a stranger's words on one line, without what a terminal would obey."""
    line = " ".join(words[:MAX_ANSWER_BYTES].split())
    return "".join(char if char.isprintable() else "?" for char in line)[:_SHOWN]
