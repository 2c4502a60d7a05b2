"""
The REST API of a host's container engine, over the link to that host.

HTTP is httpcore's; this module gives it byte streams that are Unix sockets on the machine. They
are streamlocal channels of the kept SSH connection, which cost one round trip and do not count
against the server's session limit.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlencode

import httpcore

from sandboxer.errors import TransientError
from sandboxer.transport.link import ByteReader, ByteWriter, unreachable

# Bytes of one answer; a list of 2,000 containers is about 4 MB.
MAX_ANSWER_BYTES = 64 * 2**20

# Bytes of one object of the event stream; real ones are about 1 kB.
MAX_EVENT_BYTES = 2**20

# Seconds; a list of 200 containers takes podman 0.15 s (measured), a loaded engine far longer.
_TIMEOUTS = {"connect": 10.0, "read": 60.0, "write": 10.0, "pool": 60.0}
_NO_READ_TIMEOUT = {**_TIMEOUTS, "read": None}

# Requests at once; above about two per processor only latency grows (measured).
_MAX_REQUESTS = 4

OpenSocket = Callable[[], Awaitable[tuple[ByteReader, ByteWriter]]]


class RestEngine:
    """
    The engine behind one Unix socket; implements `sandboxer.session.Engine`.

    Args:
        host: Name of the Host, for messages.
        open_socket: Connects to the socket on the machine; raises UnreachableError.
    """

    def __init__(self, host: str, open_socket: OpenSocket) -> None:
        self._host = host
        backend = _SocketBackend(open_socket)
        self._requests = httpcore.AsyncConnectionPool(
            max_connections=_MAX_REQUESTS,
            keepalive_expiry=300,
            network_backend=backend,
        )
        # Streams stay open for hours and must not take the places of requests.
        self._streams = httpcore.AsyncConnectionPool(network_backend=backend)

    async def get(self, path: str, *, query: Mapping[str, str] | None = None) -> Any:
        """Return the decoded JSON answer of `GET path`; see `sandboxer.session.Engine.get`."""
        async with self._answer(self._requests, path, query, _TIMEOUTS) as answer:
            body = await _read(answer, MAX_ANSWER_BYTES)
        if body is None:
            raise self._error(path, f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as err:
            raise self._error(path, "the answer is not JSON") from err

    async def events(self, *, query: Mapping[str, str] | None = None) -> AsyncIterator[Any]:
        """Yield decoded objects of `/events` until it breaks; then UnreachableError."""
        async with self._answer(self._streams, "/events", query, _NO_READ_TIMEOUT) as answer:
            rest = ""
            async for chunk in answer.aiter_stream():
                objects, rest = decode_objects(rest + chunk.decode("utf-8", "replace"))
                if len(rest) > MAX_EVENT_BYTES:
                    raise self._error("/events", "an event is too large")
                for decoded in objects:
                    yield decoded
        raise unreachable(self._host, "following the engine's events", "the stream ended")

    async def close(self) -> None:
        """Close the kept sockets."""
        await self._requests.aclose()
        await self._streams.aclose()

    @asynccontextmanager
    async def _answer(
        self,
        pool: httpcore.AsyncConnectionPool,
        path: str,
        query: Mapping[str, str] | None,
        timeouts: Mapping[str, float | None],
    ) -> AsyncIterator[httpcore.Response]:
        target = quote(path) + (f"?{urlencode(query)}" if query else "")
        try:
            async with pool.stream(
                "GET",
                f"http://engine{target}",
                headers={"Host": "engine"},
                extensions={"timeout": timeouts},
            ) as answer:
                if answer.status != 200:  # noqa: PLR2004 - the only success of a GET here
                    raise self._error(path, await _said(answer))
                yield answer
        except _BROKEN as err:
            raise unreachable(self._host, f"asking the engine for {path}", repr(err)) from err

    def _error(self, path: str, why: str) -> TransientError:
        return TransientError(
            f"The container engine of host {self._host} cannot answer {path}: {why}.",
            reason="EngineError",
        )


_BROKEN = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.ConnectionNotAvailable,
)


async def _read(answer: httpcore.Response, limit_bytes: int) -> bytes | None:
    """Return the body, or None when it is larger than the limit."""
    body = bytearray()
    async for chunk in answer.aiter_stream():
        body += chunk
        if len(body) > limit_bytes:
            return None
    return bytes(body)


async def _said(answer: httpcore.Response) -> str:
    """Return the engine's own message of an error, bounded and printable."""
    body = await _read(answer, MAX_EVENT_BYTES) or b""
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, TypeError, KeyError, RecursionError):
        message = body.decode("utf-8", "replace")
    printable = "".join(c if c.isprintable() else " " for c in message[:300])
    return f"status {answer.status} {printable}".strip()


def decode_objects(text: str) -> tuple[list[Any], str]:
    """
    Split a stream of JSON objects, one after another with or without newlines between them.

    Returns:
        The complete objects, and the text of the one that is still incomplete.
    """
    decoder = json.JSONDecoder()
    objects: list[Any] = []
    position, end = 0, len(text)
    while True:
        while position < end and text[position].isspace():
            position += 1
        try:
            decoded, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            return objects, text[position:]
        objects.append(decoded)


class _SocketBackend(httpcore.AsyncNetworkBackend):
    """Gives httpcore a socket on the machine, whatever address it asks for."""

    def __init__(self, open_socket: OpenSocket) -> None:
        self._open_socket = open_socket

    async def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - httpcore's signature
        port: int,  # noqa: ARG002 - httpcore's signature
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,  # noqa: ARG002 - httpcore's signature
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 - httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        """Open the engine's socket."""
        try:
            async with asyncio.timeout(timeout):
                return _SocketStream(*await self._open_socket())
        except TimeoutError as err:
            raise httpcore.ConnectTimeout(str(err)) from err

    async def sleep(self, seconds: float) -> None:
        """Wait between connection attempts of httpcore; it is configured to make one only."""
        await asyncio.sleep(seconds)


class _SocketStream(httpcore.AsyncNetworkStream):
    """A Unix socket in httpcore's terms."""

    def __init__(self, reader: ByteReader, writer: ByteWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's signature
        """Return up to *max_bytes*; empty at the end."""
        try:
            async with asyncio.timeout(timeout):
                return await self._reader.read(max_bytes)
        except TimeoutError as err:
            raise httpcore.ReadTimeout(f"no answer in {timeout or math.inf:g} s") from err
        except OSError as err:
            raise httpcore.ReadError(str(err)) from err

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's signature
        """Send everything."""
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(buffer)
                await self._writer.drain()
        except TimeoutError as err:
            raise httpcore.WriteTimeout(f"not sent in {timeout or math.inf:g} s") from err
        except OSError as err:
            raise httpcore.WriteError(str(err)) from err

    async def aclose(self) -> None:
        """Close the socket."""
        self._writer.close()

    def get_extra_info(self, info: str) -> Any:
        """Tell httpcore whether an idle socket was closed by the engine."""
        return self._reader.at_eof() if info == "is_readable" else None
