"""
Commands and ports inside a sandbox, over websockets of an API server.

    status = await execute(server, path, argv, streams, container="web")
    async with forwarded(server, path, 8080) as connection: …

*path* is that of a Sandbox or a Pod (`sandboxer.client.paths.path_of`), *streams* and the
connection are those of `sandboxer.session`. What the server refuses comes as the errors of
`sandboxer.errors`; a websocket that is lost in the middle is an `UnreachableError`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from sandboxer import __version__
from sandboxer.client.connection import KEEPALIVE, Answer, tls_context, unanswered
from sandboxer.client.refusals import refusal, refusal_of_status
from sandboxer.client.server import Server
from sandboxer.errors import SandboxerError, TransientError, UnreachableError
from sandboxer.session import Streams, TerminalSize
from sandboxer.settings import socket_address

# v5 is v4 with a message that ends one channel.
_PROTOCOL: Final = Subprotocol("v5.channel.k8s.io")
_STDIN, _STDOUT, _STDERR, _ERROR, _RESIZE = range(5)
_END: Final = 255

# Bytes of one message; the server takes 4 MiB, and small ones keep a terminal lively.
CHUNK_BYTES = 32 * 1024

# Messages kept until they are written where they belong; then the server has to wait.
MAX_QUEUE = 16

# Bytes of one message of the server, which reads 64 KiB at once.
MAX_MESSAGE_BYTES = 2**20

# Seconds until a server must accept, and until it must agree to the end.
OPEN_S = 45.0
CLOSE_S = 1.0


async def execute(
    server: Server, path: str, argv: Sequence[str], streams: Streams, *, container: str = ""
) -> int:
    """
    Run a command inside a sandbox and return its exit status, 0 to 255.

    Args:
        server: Which API.
        path: Of the Sandbox or Pod.
        argv: Program and arguments.
        streams: Input, output, terminal.
        container: Compose service; empty means the first one.

    Raises:
        SandboxerError: It could not be run, or how it ended was lost.
        Exception: What reading its input raised; the command is ended then.
    """
    query = [("command", word) for word in argv]
    query += [("stdout", "true"), ("stderr", "true")]
    query += [("stdin", "true")] if streams.stdin is not None else []
    query += [("tty", "true")] if streams.terminal else []
    query += [("container", container)] if container else []
    async with _opened(server, f"{path}/exec", query) as websocket:
        with _lost_means_unreachable(server):
            output = asyncio.create_task(_take_output(websocket, streams, server))
            inputs = [
                asyncio.create_task(_feed(websocket, streams)),
                asyncio.create_task(_follow_size(websocket, streams)),
            ]
            try:
                return await _end_of(output, inputs)
            finally:
                for task in (output, *inputs):
                    task.cancel()
                await asyncio.gather(output, *inputs, return_exceptions=True)


async def _end_of(output: asyncio.Task[int], inputs: Sequence[asyncio.Task[None]]) -> int:
    """Return what *output* does, unless an input fails before: the command would wait for it."""
    waiting: set[asyncio.Task[Any]] = {output, *inputs}
    while True:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if output in done:
            return output.result()
        for task in done:
            # How a connection ended is said by what came last on it.
            with suppress(ConnectionClosed):
                task.result()


@asynccontextmanager
async def forwarded(
    server: Server, path: str, port: int, *, container: str = ""
) -> AsyncIterator[ForwardedConnection]:
    """
    Connect to a port inside a sandbox; yields a `sandboxer.session.Connection`.

    Raises:
        SandboxerError: The server refuses. A port that takes no connection shows when it is read.
    """
    query = [("ports", str(port))] + ([("container", container)] if container else [])
    async with _opened(server, f"{path}/portforward", query) as websocket:
        yield ForwardedConnection(websocket, server)


class ForwardedConnection:
    """
    Implements `sandboxer.session.Connection` over one websocket.

    Args:
        websocket: To one port: its bytes on channel 0, what went wrong on channel 1.
        server: For messages.
    """

    def __init__(self, websocket: ClientConnection, server: Server) -> None:
        self._websocket = websocket
        self._server = server
        # Both channels begin with the number of the port.
        self._to_skip = {0: 2, 1: 2}
        self._ended = False
        self._rest = b""
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(self, limit: int = CHUNK_BYTES) -> bytes:
        """
        Return the next bytes; empty means that the other side has ended.

        Raises:
            TransientError: The port takes no connection.
            UnreachableError: The server has gone.
        """
        while not self._rest and not self._ended:
            self._rest = await self._next()
        data, self._rest = self._rest[:limit], self._rest[limit:]
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while they are not taken, ignored once the other side has gone."""
        with suppress(ConnectionClosed):
            for chunk in _chunks(data):
                await self._websocket.send(b"\x00" + chunk)

    def write_eof(self) -> None:
        """End what we send."""
        task = asyncio.create_task(self._send_end())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """End both directions."""
        task = asyncio.create_task(self._websocket.close())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_end(self) -> None:
        with suppress(ConnectionClosed):
            await self._websocket.send(bytes((_END, 0)))

    async def _next(self) -> bytes:
        try:
            message = _bytes(await self._websocket.recv())
        except ConnectionClosed as error:
            self._ended = True
            if error.rcvd is None:
                raise _lost(self._server) from error
            return b""
        channel, data = message[:1], message[1:]
        if channel == bytes((_END,)):
            self._ended = True
            return b""
        number = channel[0] if channel else _END
        skipped = min(self._to_skip.get(number, 0), len(data))
        if skipped:
            self._to_skip[number] -= skipped
            data = data[skipped:]
        if number == 1 and data:
            raise TransientError(_printable(data), reason="ForwardFailed")
        return data if number == 0 else b""


@asynccontextmanager
async def _opened(
    server: Server, path: str, query: Sequence[tuple[str, str]]
) -> AsyncIterator[ClientConnection]:
    """
    Open a websocket.

    Raises:
        SandboxerError: The server refuses it, or does not answer.
    """
    scheme, rest = ("wss", server.url[8:]) if server.url[:6] == "https:" else ("ws", server.url[7:])
    options: dict[str, Any] = {
        "subprotocols": [_PROTOCOL],
        "user_agent_header": f"sandboxer/{__version__}",
        "compression": None,
        "open_timeout": OPEN_S,
        "close_timeout": CLOSE_S,
        # NOTE: a server does not read us while the program inside takes no input, so it does not
        # answer a ping either.
        "ping_timeout": None,
        "max_size": MAX_MESSAGE_BYTES,
        "max_queue": MAX_QUEUE,
    }
    if server.token:
        options["additional_headers"] = {"Authorization": f"Bearer {server.token}"}
    uri = f"{scheme}://{rest}{path}?{urlencode(query)}"
    opening = (
        unix_connect(socket_address(server.socket), uri, **options)
        if server.socket
        else connect(uri, ssl=tls_context(server), proxy=None, **options)
    )
    try:
        websocket = await opening
    except InvalidStatus as error:
        response = error.response
        headers = tuple((name.lower(), value) for name, value in response.headers.raw_items())
        raise refusal(
            Answer(response.status_code, headers, bytes(response.body or b"")), server
        ) from error
    except (OSError, TimeoutError, InvalidHandshake, EOFError, ConnectionClosed) as error:
        raise unanswered(server, error) from error
    try:
        _keep_alive(websocket, server)
        yield websocket
    finally:
        await websocket.close()


def _keep_alive(websocket: ClientConnection, server: Server) -> None:
    """Have TCP notice that the server's machine is gone, which a command in silence would not."""
    if not server.socket:
        for option in KEEPALIVE:
            websocket.transport.get_extra_info("socket").setsockopt(*option)


async def _take_output(websocket: ClientConnection, streams: Streams, server: Server) -> int:
    """Pass on what the command prints until the server says how it ended."""
    async for message in websocket:
        data = _bytes(message)
        if data[:1] == bytes((_STDOUT,)) and data[1:]:
            await streams.stdout(data[1:])
        elif data[:1] == bytes((_STDERR,)) and data[1:]:
            await streams.stderr(data[1:])
        elif data[:1] == bytes((_ERROR,)) and data[1:]:
            return _ending(data[1:], server)
    raise _lost(server)


def _ending(text: bytes, server: Server) -> int:
    """Return the exit status that a `Status` states; what it is otherwise is raised."""
    try:
        status = json.loads(text)
        if status["status"] == "Success":
            return 0
        if status.get("reason") == "NonZeroExitCode":
            causes = {cause["reason"]: cause["message"] for cause in status["details"]["causes"]}
            return int(causes["ExitCode"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise SandboxerError(f"{server.where} did not say how the command ended.") from error
    raise refusal_of_status(status, server)


async def _feed(websocket: ClientConnection, streams: Streams) -> None:
    if streams.stdin is not None:
        async for data in streams.stdin:
            for chunk in _chunks(data):
                await websocket.send(bytes((_STDIN,)) + chunk)
        await websocket.send(bytes((_END, _STDIN)))


async def _follow_size(websocket: ClientConnection, streams: Streams) -> None:
    if streams.terminal is not None:
        await websocket.send(_size(streams.terminal))
    if streams.resizes is not None:
        async for size in streams.resizes:
            await websocket.send(_size(size))


def _size(size: TerminalSize) -> bytes:
    return bytes((_RESIZE,)) + json.dumps({"Width": size.columns, "Height": size.rows}).encode()


def _chunks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def _bytes(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message


def _printable(data: bytes) -> str:
    text = data.decode("utf-8", "replace")[:1000]
    return "".join(c if c.isprintable() else " " for c in text)


@contextmanager
def _lost_means_unreachable(server: Server) -> Iterator[None]:
    try:
        yield
    except ConnectionClosed as error:
        raise _lost(server) from error


def _lost(server: Server) -> UnreachableError:
    return UnreachableError(
        f"The connection to {server.where} was lost; how it ended is not known.",
        reason="ConnectionLost",
    )
