"""A receiver of events that is a real HTTP server, as well or as badly behaved as a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic
from typing import Any

from sandboxer.clock import Clock
from sandboxer.sinks.configuration import SinkSpec
from sandboxer.sinks.sinks import Sinks
from sandboxer.store import Store

# Seconds of real time until a test gives up waiting: far above what any takes on a busy machine.
DEADLINE_S = 60.0

RESET = -1
"""A behaviour: the connection is reset instead of answered."""


@dataclass(frozen=True)
class Received:
    """One request."""

    headers: Mapping[str, str]
    body: bytes
    event: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the sandbox."""
        return str(self.event["data"]["name"])

    @property
    def word(self) -> str:
        """Last word of the type."""
        return str(self.event["type"].rpartition(".")[2])


Behaviour = Callable[[Received], int]
"""Returns the status to answer with, or `RESET`; may take its time, and may be called at once."""


class HubServer:
    """
    Listens on a free port of the loopback address.

    Attributes:
        requests: Everything that was received, in the order in which it was complete.
        answers: Headers and body of every answer.
    """

    def __init__(self, *, certificate: Path | None = None) -> None:
        self.requests: list[Received] = []
        self.behave: Behaviour = lambda _: 204
        self.headers: dict[str, str] = {}
        self.answer = b""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.scheme = "https"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where to post."""
        return f"{self.scheme}://127.0.0.1:{self._server.server_address[1]}/hooks/s3cret"

    def of(self, name: str) -> list[Received]:
        """Return what was received about one sandbox."""
        return [each for each in self.requests if each.name == name]

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            received = Received(headers, body, json.loads(body))
            hub.requests.append(received)
            status = hub.behave(received)
            if status == RESET:
                # Zero seconds of lingering make closing a reset.
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                self.connection.close()
                return
            with contextlib.suppress(OSError):
                self._answer(status)

        def do_GET(self) -> None:
            raise AssertionError("a redirect was followed")

        def _answer(self, status: int) -> None:
            self.send_response(status)
            for name, value in hub.headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("content-length", str(len(hub.answer)))
            self.end_headers()
            if status != 204:
                self.wfile.write(hub.answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
            del format, args

        def finish(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().finish()

    return Handler


@contextlib.contextmanager
def hub_server(*, certificate: Path | None = None) -> Iterator[HubServer]:
    """Run a receiver inside the block."""
    hub = HubServer(certificate=certificate)
    try:
        yield hub
    finally:
        hub.close()


def sink(hub: HubServer, name: str = "hub", **fields: Any) -> SinkSpec:
    """Return the settings of a sink that is this receiver."""
    return SinkSpec.model_validate({"name": name, "url": hub.url, **fields})


@contextlib.asynccontextmanager
async def serving(store: Store, *specs: SinkSpec, clock: Clock) -> AsyncIterator[Sinks]:
    """Serve sinks inside the block; what is under way at its end is cut short, as by a crash."""
    sinks = Sinks(store, specs, clock=clock)
    await sinks.register()
    running = asyncio.create_task(sinks.run())
    try:
        yield sinks
    finally:
        running.cancel()
        await asyncio.wait([running])


async def until(holds: Callable[[], bool], sinks: Sinks | None = None) -> None:
    """Return when something holds; *sinks* look again meanwhile, for clocks that a test moves."""
    deadline = monotonic() + DEADLINE_S
    while not holds():
        assert monotonic() < deadline, "it did not come to hold"
        if sinks is not None:
            sinks.wake()
        await asyncio.sleep(0.02)
