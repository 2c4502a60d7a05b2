"""
Connections to ports inside a sandbox over a websocket, as the kubelet speaks it.

Each port asked for has two channels: its bytes on the even one, what went wrong with it on the odd
one; both begin with the port's number. `v4.channel.k8s.io` cannot say that one direction has
ended, so the connection ends with the first; our own client takes `v5.channel.k8s.io`, which can.

Source:
    `pkg/kubelet/cri/streaming/portforward/websocket.go` of Kubernetes v1.32.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from starlette.websockets import WebSocket

from sandboxer.api.answers import StatusError
from sandboxer.api.channels import V4, V5, Channels, ClientGoneError, Pending
from sandboxer.api.entering import Entered, enter
from sandboxer.errors import SandboxerError
from sandboxer.session import Connection

logger = logging.getLogger(__name__)

NOT_FOR_KUBECTL = (
    "port-forward of kubectl speaks SPDY, which is not served here: use `sandboxer port-forward "
    "NAME [LOCAL:]REMOTE`, or a client library that speaks v4.channel.k8s.io"
)

# Ports of one websocket; a client takes one websocket for each connection.
MAX_PORTS = 16
MAX_PORT = 65535


async def forward_ports(websocket: WebSocket) -> None:
    """Serve one `…/portforward`; raises a `StatusError` until the websocket is accepted."""
    offered = websocket.scope["subprotocols"]
    # NOTE: a client that offers both may not expect the message that ends a channel.
    protocol = next((known for known in (V4, V5) if known in offered), None)
    if protocol is None:
        raise StatusError(400, NOT_FOR_KUBECTL)
    ports = _ports(websocket)
    entered = await enter(websocket, needs="forward")
    await websocket.accept(protocol)
    numbers = range(0, 2 * len(ports), 2)
    channels = Channels(websocket, protocol, numbers, quiet=0)
    await _serve(channels, entered, dict(zip(numbers, ports, strict=True)), half=protocol == V5)


def _ports(websocket: WebSocket) -> list[int]:
    query = websocket.query_params
    texts = [
        text
        for name in ("ports", "port")
        for each in query.getlist(name)
        for text in each.split(",")
    ]
    ports = [int(text) if _is_port(text) else 0 for text in texts]
    if not ports:
        raise StatusError(400, "query parameter 'ports' is required")
    if not all(ports) or len(ports) > MAX_PORTS:
        raise StatusError(400, f"'ports' must be up to {MAX_PORTS} numbers from 1 to {MAX_PORT}")
    return ports


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= MAX_PORT  # noqa: PLR2004 - digits of 65535


async def _serve(
    channels: Channels, entered: Entered, ports: dict[int, int], *, half: bool
) -> None:
    """Forward until all connections have ended or the client has gone."""
    receiving = asyncio.create_task(channels.receive())
    forwarding = asyncio.create_task(_forward_all(channels, entered, ports, half=half))
    try:
        await asyncio.wait({receiving, forwarding}, return_when=asyncio.FIRST_COMPLETED)
        if forwarding.done():
            with contextlib.suppress(ClientGoneError):
                forwarding.result()
            await channels.close()
    finally:
        for task in (forwarding, receiving):
            task.cancel()
        await asyncio.gather(forwarding, receiving, return_exceptions=True)


async def _forward_all(
    channels: Channels, entered: Entered, ports: dict[int, int], *, half: bool
) -> None:
    for number, port in ports.items():
        for channel in (number, number + 1):
            await channels.send(channel, port.to_bytes(2, "little"))
    await asyncio.gather(
        *(_forward(channels, entered, number, port, half=half) for number, port in ports.items())
    )


async def _forward(
    channels: Channels, entered: Entered, number: int, port: int, *, half: bool
) -> None:
    """Forward one port; what goes wrong is said on its second channel."""
    extension, session, instance = entered.inside
    try:
        connection = await extension.forward(session, instance, port, container=entered.container)
        try:
            await _copy(channels, number, connection, half=half)
        finally:
            connection.close()
    except SandboxerError as error:
        await channels.send(number + 1, str(error).encode())


async def _copy(channels: Channels, number: int, connection: Connection, *, half: bool) -> None:
    """Copy both ways until both have ended, or without *half* until the program inside has."""
    sending = asyncio.create_task(_send(channels.incoming[number], connection))
    try:
        while data := await connection.read():
            await channels.send(number, data)
        await channels.end(number)
        if half:
            await sending
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _send(pending: Pending, connection: Connection) -> None:
    async for data in pending.chunks():
        await connection.write(data)
    connection.write_eof()
