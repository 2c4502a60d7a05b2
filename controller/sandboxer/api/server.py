"""
Serving the API: one application behind a gate, on the Unix socket and over TLS.

Who connects to the Unix socket is the owner of the data directory; who connects over TLS shows a
token. The sockets are bound before anything else starts and closed after everything else has
stopped; in between, the gate answers (`sandboxer.api.gate`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from socket import gethostname, socket
from typing import NamedTuple

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sandboxer.api.authentication import Authentication
from sandboxer.api.certificates import ensure_certificates
from sandboxer.api.gate import Gate
from sandboxer.api.kubeconfig import keep_admin_access
from sandboxer.api.listening import Address, listen_tcp, listening_unix
from sandboxer.api.tokens import TokenFile
from sandboxer.clock import Clock
from sandboxer.settings import Settings

logger = logging.getLogger(__name__)

# Seconds that open requests get to end when the controller has stopped.
GRACE_S = 1

# Seconds an idle connection is kept; kubectl and client libraries reuse theirs for a while.
IDLE_S = 75

# Bytes of a request line with its headers: a command of 128 KiB, the longest argument Linux takes
# (execve(2)), with every byte escaped, fits the address of an exec.
MAX_HEAD_BYTES = 512 * 1024

# Seconds from the connection, or from its first byte when one is reused, to the end of that line and
# its headers. A client sends them in one go; nobody has shown a token until then, and each
# connection that only waits costs the controller a file descriptor.
HEAD_S = 30

# Bytes of one websocket message; a stream sends far smaller ones.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024


class _HTTP(HttpToolsProtocol):
    """HTTP/1.1 with bounds on what precedes a body: nobody has shown a token until then."""

    _in_head = True
    _head_bytes = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_expecting()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin to count, and to wait for the end of the head."""
        self._in_head = True
        if self._deadline is None:
            self._expect_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop counting and waiting."""
        self._in_head, self._head_bytes = False, 0
        self._stop_expecting()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_S, self.transport.abort)

    def _stop_expecting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def data_received(self, data: bytes) -> None:
        """Take what came, unless it is a head that does not end."""
        self._head_bytes += len(data) if self._in_head else 0
        if self._head_bytes > MAX_HEAD_BYTES:
            # NOTE: a polite close would wait for the rest.
            self.transport.abort()
            return
        super().data_received(data)
        if self._deadline is None and self._is_answered():
            # An empty line, or the rest of a body that nobody wanted.
            self._expect_head()

    def _is_answered(self) -> bool:
        """Tell whether the next thing to come is a request."""
        # NOTE: a websocket has taken the connection over; it must not be cut off.
        is_ours = self.transport.get_protocol() is self
        return is_ours and self.cycle is not None and self.cycle.response_complete


def _is_news(record: logging.LogRecord) -> bool:
    """
    Leave out what uvicorn takes for a defect and is none.

    A websocket that was refused with an HTTP answer, and a request to speak SPDY.
    """
    return not record.getMessage().startswith(
        ("ASGI callable returned without completing handshake", "Unsupported upgrade request")
    )


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to the manager, and sleeps while nothing happens."""

    def __init__(self, app: ASGIApp, context: ssl.SSLContext | None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_HTTP,
                ws="websockets-sansio",
                ws_max_size=MAX_MESSAGE_BYTES,
                # A client whose input a program does not take is not read, so its answers to our
                # pings are not either; one that is gone is noticed by writing and by TCP.
                ws_ping_timeout=None,
                ws_per_message_deflate=False,
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=IDLE_S,
                timeout_graceful_shutdown=GRACE_S,
                ssl_context_factory=(lambda *_: context) if context else None,
            )
        )
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        self._stopped = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install nothing."""
        yield

    async def main_loop(self) -> None:
        """Renew the date of answers once a second until `stop`; uvicorn's own wakes ten times."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._stopped.wait()

    def stop(self) -> None:
        """Ask `serve` to return."""
        self.should_exit = True
        self._stopped.set()


class Exposure(NamedTuple):
    """What the network gets to see."""

    address: Address
    """Port 0 takes any that is free."""
    names: Sequence[str] = ()
    """More names and addresses for the certificate."""
    may_be_taken: bool = False
    """Whether the Unix socket alone will do when something else has the port."""


class Endpoint(NamedTuple):
    """The network address that is served."""

    address: Address
    listening: socket
    context: ssl.SSLContext
    kubeconfig: Path | None
    """None when it was moved away."""


def open_endpoint(
    settings: Settings, exposure: Exposure, tokens: TokenFile, *, clock: Clock
) -> Endpoint:
    """
    Listen on the network: certificate, first token and kubeconfig are there afterwards.

    Raises:
        ConflictError: The port is taken.
        InvalidSpecError: A name is neither a host name nor an address.
        TerminalError: The address, the certificate or a file cannot be used.
    """
    listening = listen_tcp(exposure.address)
    try:
        address = exposure.address._replace(port=listening.getsockname()[1])
        certificates = ensure_certificates(settings.pki_dir, _names(exposure), now=clock.now())
        context = certificates.context()
        kept = keep_admin_access(
            settings.kubeconfig_path, tokens, server=address.url, ca_pem=certificates.ca_pem
        )
    except BaseException:
        listening.close()
        raise
    return Endpoint(address, listening, context, settings.kubeconfig_path if kept else None)


def _names(exposure: Exposure) -> list[str]:
    own = [] if exposure.address.is_wildcard else [exposure.address.host]
    return ["localhost", "127.0.0.1", "::1", gethostname(), *own, *exposure.names]


class APIServer:
    """
    The API while the controller runs.

    Args:
        app: The application; who reaches it over the network shows a token first.
        socket_path: Of the Unix socket; an old one is replaced (the caller holds the lock).
        endpoint: For the network, and the tokens that let in; None serves the Unix socket only.
    """

    def __init__(
        self, app: ASGIApp, socket_path: Path, endpoint: tuple[Endpoint, TokenFile] | None = None
    ) -> None:
        self._gate = Gate(app)
        self._path = socket_path
        self._endpoint = endpoint
        self._servers: list[tuple[_Server, socket]] = []

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve inside the block, with 503 until `open`; the sockets go with the block."""
        async with contextlib.AsyncExitStack() as stack:
            self._add(self._gate, stack.enter_context(listening_unix(self._path)))
            if self._endpoint is not None:
                endpoint, tokens = self._endpoint
                guarded = Authentication(self._gate, tokens)
                self._add(guarded, endpoint.listening, endpoint.context)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            for server, listening in self._servers:
                tasks.create_task(server.serve(sockets=[listening]), name="api")
            try:
                yield
            finally:
                self.close()
                for server, _ in self._servers:
                    server.stop()

    def _add(self, app: ASGIApp, listening: socket, context: ssl.SSLContext | None = None) -> None:
        self._servers.append((_Server(app, context), listening))

    def open(self) -> None:
        """Let requests in."""
        self._gate.open()

    def close(self) -> None:
        """Ask everybody to come back later, and end open streams."""
        self._gate.close()
