"""
Running a command inside a sandbox over a websocket, as kubectl and client libraries speak it.

Channels: 0 stdin, 1 stdout, 2 stderr, 3 how it ended (a `Status`), 4 the terminal's size. When the
client goes away, the call of the extension is cancelled, and with it the command ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

from sandboxer.api.answers import StatusError
from sandboxer.api.channels import V4, V5, Channels, ClientGoneError, Pending
from sandboxer.api.entering import Entered, enter, flag
from sandboxer.errors import SandboxerError
from sandboxer.session import Streams, TerminalSize

logger = logging.getLogger(__name__)

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)

WEBSOCKETS_ONLY = (
    "exec works over websockets only (v5.channel.k8s.io or v4.channel.k8s.io): use kubectl 1.31 or "
    "newer, or set KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true for kubectl 1.29 and 1.30"
)

# Seconds that a terminal's client gets to say its size, which kubectl does at once; a program that
# looks at the size when it starts would see the wrong one otherwise.
FIRST_SIZE_S = 0.3
USUAL_SIZE = TerminalSize(columns=80, rows=24)

# Longest side of a terminal, and bytes of a message that states one.
MAX_SIDE = 65535
MAX_SIZE_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a client asks for."""

    argv: tuple[str, ...]
    stdin: bool
    stdout: bool
    stderr: bool
    terminal: bool

    @classmethod
    def of(cls, connection: HTTPConnection) -> Wish:
        """
        Read it from the query.

        Raises:
            StatusError: Something is missing.
        """
        wish = cls(
            argv=tuple(connection.query_params.getlist("command")),
            stdin=flag(connection, "stdin"),
            stdout=flag(connection, "stdout"),
            stderr=flag(connection, "stderr"),
            terminal=flag(connection, "tty"),
        )
        if not wish.argv or not wish.argv[0]:
            raise StatusError(400, "you must specify at least 1 command for the container")
        if not (wish.stdin or wish.stdout or wish.stderr):
            raise StatusError(400, "you must specify at least one of stdin, stdout, stderr")
        return wish


async def wished_command(connection: HTTPConnection) -> tuple[Wish, Entered]:
    """
    Return what is to run, and where.

    Raises:
        StatusError: The request is not complete, or what it names cannot be entered.
    """
    return Wish.of(connection), await enter(connection, needs="exec")


async def run_command(websocket: WebSocket) -> None:
    """Serve one `…/exec`; raises a `StatusError` as long as the websocket is not accepted."""
    offered = websocket.scope["subprotocols"]
    protocol = next((known for known in (V5, V4) if known in offered), None)
    if protocol is None:
        raise StatusError(400, WEBSOCKETS_ONLY)
    wish, entered = await wished_command(websocket)
    await websocket.accept(protocol)
    channels = Channels(websocket, protocol, (STDIN, RESIZE), quiet=STDOUT)
    await _serve(channels, entered, wish)


async def _serve(channels: Channels, entered: Entered, wish: Wish) -> None:
    """Run it until it ends or the client has gone, whichever comes first."""
    receiving = asyncio.create_task(channels.receive())
    running = asyncio.create_task(_run(channels, entered, wish))
    try:
        await asyncio.wait({receiving, running}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            with contextlib.suppress(ClientGoneError):
                running.result()
            await channels.close()
    finally:
        for task in (running, receiving):
            task.cancel()
        await asyncio.gather(running, receiving, return_exceptions=True)


async def _run(channels: Channels, entered: Entered, wish: Wish) -> None:
    """Run the command and say how it ended."""
    # Tells a client that waits for a first message that the connection stands.
    await channels.send(STDOUT)
    extension, session, instance = entered.inside
    try:
        streams = await _streams(channels, wish)
        exit_status = await extension.exec(
            session, instance, wish.argv, streams, container=entered.container
        )
    except SandboxerError as error:
        ending = entered.refusal(error).document()
    except (ClientGoneError, asyncio.CancelledError):
        raise
    except Exception:
        logger.exception("A command inside a sandbox failed by an error in sandboxer")
        ending = StatusError(500, "an error in the controller; its log has the details").document()
    else:
        ending = ended(exit_status)
    await channels.send(ERROR, json.dumps(ending, separators=(",", ":")).encode())


async def _streams(channels: Channels, wish: Wish) -> Streams:
    async def to_stdout(data: bytes) -> None:
        await channels.send(STDOUT, data)

    async def to_stderr(data: bytes) -> None:
        await channels.send(STDERR, data)

    async def to_nobody(data: bytes) -> None:
        del data

    sizes = _sizes(channels.incoming[RESIZE])
    return Streams(
        stdout=to_stdout if wish.stdout else to_nobody,
        stderr=to_stderr if wish.stderr else to_nobody,
        stdin=channels.incoming[STDIN].chunks() if wish.stdin else None,
        terminal=await _first_size(channels.incoming[RESIZE]) if wish.terminal else None,
        resizes=sizes if wish.terminal else None,
    )


async def _first_size(messages: Pending) -> TerminalSize:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FIRST_SIZE_S):
            while message := await messages.take():
                if size := _size(message):
                    return size
    return USUAL_SIZE


async def _sizes(messages: Pending) -> AsyncIterator[TerminalSize]:
    """Yield the sizes a client states; what states none is left out."""
    async for message in messages.chunks():
        if size := _size(message):
            yield size


def _size(message: bytes) -> TerminalSize | None:
    try:
        document = json.loads(message[:MAX_SIZE_BYTES])
        columns, rows = document["Width"], document["Height"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    sides = (columns, rows)
    if not all(type(side) is int and 0 < side <= MAX_SIDE for side in sides):
        return None
    return TerminalSize(columns=columns, rows=rows)


def ended(exit_status: int) -> dict[str, Any]:
    """
    Return the `Status` of a command that ran to its end.

    Source:
        `pkg/util/exec` of k8s.io/client-go reads the cause `ExitCode` as an unsigned byte.
    """
    if exit_status == 0:
        return {"metadata": {}, "status": "Success"}
    # A signal number arrives negative; a shell reports 128 + signal.
    code = exit_status if exit_status > 0 else 128 - exit_status
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
