"""
HTTP/1.1 to one API server: requests with whole answers, and answers as streams.

HTTP is httpcore's. What goes wrong on the way becomes an `UnreachableError` that names the server
and what to do; what the server answers is for `sandboxer.client.refusals`.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

import httpcore

from sandboxer import __version__
from sandboxer.client.server import Server
from sandboxer.errors import TerminalError, UnreachableError
from sandboxer.settings import socket_address

# Bytes of one answer. A page of 500 objects is about 2 MB; the largest object may have 3 MiB.
MAX_ANSWER_BYTES = 128 * 2**20

# Bytes of a `Status` that stands where a stream was asked for.
MAX_REFUSAL_BYTES = 2**20

# Seconds a server may be silent.
READ_S = 90.0

# Seconds while it works on a host for us: connecting takes up to 60, probing 105, a look 60 for each
# extension, and what is looked at may be hundreds, or have to be removed.
HOST_READ_S = 600.0

_TIMEOUTS = {"connect": 10.0, "write": 30.0, "pool": READ_S}

# Requests at once; the server has one thread for all of them.
MAX_REQUESTS = 16

# A machine that vanished says nothing: a stream over TCP asks after 60 s without a byte, every 20 s,
# and ends after three questions without an answer. Source: tcp(7).
KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 20),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)

CA_VARIABLE = "SANDBOXER_CA_FILE"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said, whole."""

    code: int
    headers: tuple[tuple[str, str], ...]
    """Names in lower case; a name may come several times."""
    body: bytes

    def header(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value for each, value in self.headers if each == name]


class Connection:
    """
    Kept connections to one server.

    Args:
        server: Where it is.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        context = tls_context(server)
        uds = socket_address(server.socket) if server.socket else None
        self._requests = httpcore.AsyncConnectionPool(
            ssl_context=context, uds=uds, max_connections=MAX_REQUESTS, keepalive_expiry=60.0
        )
        # Streams stay open for hours and must not take the places of requests.
        self._streams = httpcore.AsyncConnectionPool(
            ssl_context=context, uds=uds, max_connections=None, keepalive_expiry=0.0,
            socket_options=None if uds else KEEPALIVE,
        )  # fmt: skip

    async def close(self) -> None:
        """Close everything; open streams end."""
        await self._streams.aclose()
        await self._requests.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        content_type: str = "application/json",
        timeout_s: float = READ_S,
    ) -> Answer:
        """
        Ask once and return the whole answer, whatever its code.

        Args:
            method: Of HTTP.
            path: Of the API, quoted.
            query: Parameters, not quoted.
            body: What is sent.
            content_type: Of the body.
            timeout_s: Longest silence of the server, in seconds.

        Raises:
            UnreachableError: The server does not answer; what became of a write is unknown.
            TerminalError: Its certificate is not trusted, or what it answers is no HTTP.
        """
        headers: dict[bytes | str, bytes | str] = {}
        if body:
            headers["Content-Type"] = content_type
        with_query = f"{path}?{urlencode(query)}" if query else path
        async with self._opened(
            self._requests, method, with_query, headers, body, timeout_s
        ) as answer:
            whole = await _read(answer, MAX_ANSWER_BYTES)
            if whole is None:
                raise TerminalError(
                    f"The answer of {self.server.where} to {method} {path} is larger than "
                    f"{MAX_ANSWER_BYTES // 2**20} MiB.",
                    reason="AnswerTooLarge",
                )
            return Answer(answer.status, _headers(answer), whole)

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: Mapping[str, str], silence_s: float | None = None
    ) -> AsyncIterator[tuple[Answer, AsyncGenerator[bytes]]]:
        """
        Ask for a stream; yields its head (the body is whole when the code is not 200) and its bytes.

        Args:
            path: Of the API, quoted.
            query: Parameters, not quoted.
            silence_s: Seconds after which a silent server is gone. None is for what may be silent
                for hours; then TCP notices that the server's machine is.

        Raises:
            UnreachableError: The server does not answer, or went away in the middle.
            TerminalError: See `request`.
        """
        target = f"{path}?{urlencode(query)}"
        async with self._opened(self._streams, "GET", target, {}, b"", silence_s) as answer:
            refused = answer.status != 200  # noqa: PLR2004 - HTTP
            body = (await _read(answer, MAX_REFUSAL_BYTES) or b"") if refused else b""
            yield Answer(answer.status, _headers(answer), body), _chunks(answer)

    @asynccontextmanager
    async def _opened(
        self,
        pool: httpcore.AsyncConnectionPool,
        method: str,
        target: str,
        headers: Mapping[bytes | str, bytes | str],
        body: bytes,
        silence_s: float | None,
    ) -> AsyncIterator[httpcore.Response]:
        own: dict[bytes | str, bytes | str] = {
            "User-Agent": f"sandboxer/{__version__}",
            "Accept": "application/json",
            **headers,
        }
        if self.server.token:
            own["Authorization"] = f"Bearer {self.server.token}"
        extensions = {"timeout": {**_TIMEOUTS, "read": silence_s}}
        try:
            async with pool.stream(
                method,
                self.server.url + target,
                headers=own,
                content=body or None,
                extensions=extensions,
            ) as answer:
                yield answer
        except (
            httpcore.NetworkError,
            httpcore.TimeoutException,
            httpcore.ProtocolError,
            httpcore.ProxyError,
        ) as error:
            raise unanswered(self.server, error) from error


def tls_context(server: Server) -> ssl.SSLContext | None:
    """
    Return how to trust a server; None where there is no TLS.

    Raises:
        TerminalError: The file of the authority cannot be used.
    """
    if not server.url.startswith("https:") or server.socket:
        return None
    try:
        return ssl.create_default_context(cafile=server.ca_file)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TerminalError(
            f"{CA_VARIABLE} names {server.ca_file}, which cannot be read as certificates: {reason}.",
            reason="CAUnusable",
            remedy="Name a PEM file of the authority that signed the server's certificate.",
        ) from error


def unanswered(server: Server, error: Exception) -> TerminalError | UnreachableError:
    """Return what a person can do about a server that could not be talked to."""
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return TerminalError(
            f"The certificate of {server.url} is not trusted: {cause.verify_message}.",
            reason="CertificateNotTrusted",
            remedy=f"Set {CA_VARIABLE} to the file of the authority that signed it; `sandboxer "
            "kubeconfig` on the server's machine prints it.",
        )
    if isinstance(cause, ssl.SSLError):
        return TerminalError(
            f"{server.url} does not speak TLS as we do: {cause.reason or cause}.",
            reason="TLSFailed",
            remedy="Is it the port of the API, and https:// right?",
        )
    why = getattr(cause, "strerror", None) or str(cause) or type(error).__name__
    return UnreachableError(
        f"The API at {server.where} does not answer: {why.rstrip('.')}.",
        reason="ServerUnreachable",
        remedy="Does its controller run?"
        if server.socket
        else "Check SANDBOXER_SERVER, and that the controller there runs with --listen.",
    )


def _cause(error: BaseException) -> BaseException:
    """Return the innermost cause, which has the words of the operating system."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def _headers(answer: httpcore.Response) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name.decode("ascii", "replace").lower(), value.decode("latin-1"))
        for name, value in answer.headers
    )


async def _read(answer: httpcore.Response, limit: int) -> bytes | None:
    """Return the whole body; None when it is larger than *limit*."""
    chunks, size = [], 0
    async for chunk in answer.aiter_stream():
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


async def _chunks(answer: httpcore.Response) -> AsyncGenerator[bytes]:
    async for chunk in answer.aiter_stream():
        yield chunk
