"""Channels of one websocket: order, ends, and how much is kept for whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.types import Message
from starlette.websockets import WebSocket

from sandboxer.api import channels as module
from sandboxer.api.channels import PENDING_BYTES, V4, V5, Channels, ClientGoneError
from sandboxer.api.execution import USUAL_SIZE, _first_size, _size, ended
from sandboxer.session import TerminalSize

FRAME_BYTES = 64 * 1024


class Client:
    """The other end of a websocket: a script of what it sends, and what it got."""

    def __init__(self, messages: AsyncIterator[bytes]) -> None:
        self._messages = messages
        self.taken = 0
        self.got: list[bytes] = []
        self.gone = False

    async def receive(self) -> Message:
        """Give the next message to the server."""
        async for message in self._messages:
            self.taken += 1
            return {"type": "websocket.receive", "bytes": message}
        return {"type": "websocket.disconnect", "code": 1000}

    async def send(self, message: Message) -> None:
        """Take a message of the server."""
        if self.gone:
            raise OSError
        if message["type"] == "websocket.send":
            self.got.append(message["bytes"])


async def accepted(client: Client, protocol: str = V5) -> Channels:
    """Return the channels of an accepted websocket."""

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "headers": [], "path": "/", "subprotocols": [protocol]}
    websocket = WebSocket(scope, receive, client.send)
    await websocket.accept(protocol)
    websocket._receive = client.receive
    return Channels(websocket, protocol, (0, 4), quiet=1)


async def endless() -> AsyncIterator[bytes]:
    """Send on channel 0 for ever."""
    while True:
        yield b"\x00" + b"x" * FRAME_BYTES


async def these(*messages: bytes) -> AsyncIterator[bytes]:
    """Send these."""
    for message in messages:
        yield message


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(200):
        await asyncio.sleep(0)


async def test_what_nobody_takes_is_not_read() -> None:
    """A client that sends for ever fills its channel and then waits; what is taken makes room."""
    client = Client(endless())
    channels = await accepted(client)
    receiving = asyncio.create_task(channels.receive())
    await settled()

    filled = client.taken
    await channels.incoming[0].take()
    await channels.incoming[0].take()
    await settled()

    assert filled * FRAME_BYTES <= PENDING_BYTES + 2 * FRAME_BYTES
    assert client.taken == filled + 2
    receiving.cancel()


async def test_gone_client_is_noticed_while_it_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A signs of life that cannot be sent ends the receiving."""
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    client = Client(endless())
    channels = await accepted(client)
    receiving = asyncio.create_task(channels.receive())
    await settled()
    assert not receiving.done()

    client.gone = True

    async with asyncio.timeout(60):
        await receiving
    assert set(client.got) <= {b"\x01"}


async def test_end_of_one_channel() -> None:
    """In v5 message 255 ends a channel, the others go on; what comes after is dropped."""
    client = Client(these(b"\x00in", b"\xff\x00", b"\x00late", b"\x04size", b"\xff\x09", b"\xff"))
    channels = await accepted(client)

    await channels.receive()

    assert [await channels.incoming[0].take() for _ in range(2)] == [b"in", b""]
    assert await channels.incoming[4].take() == b"size"


async def test_v4_has_no_end_of_a_channel() -> None:
    """There 255 is a channel nobody knows, and we do not send it."""
    client = Client(these(b"\xff\x00", b"\x00in", b"\x09what", b""))
    channels = await accepted(client, V4)

    await channels.receive()
    await channels.end(1)

    assert await channels.incoming[0].take() == b"in"
    assert client.got == []


async def test_sending_to_nobody_is_an_error_of_its_own() -> None:
    """Whoever sends learns that the client has gone."""
    client = Client(these())
    channels = await accepted(client)
    client.gone = True

    with pytest.raises(ClientGoneError):
        await channels.send(1, b"x")


@pytest.mark.parametrize(
    "message",
    [b"", b"{", b"[]", b"7", b'{"Width":80}', b'{"Width":"80","Height":24}', b"[" * 300,
     b'{"Width":0,"Height":24}', b'{"Width":70000,"Height":24}', b'{"Width":true,"Height":24}'],
)  # fmt: skip
def test_no_size_is_made_of_nonsense(message: bytes) -> None:
    """What states no size that a terminal can have is left out."""
    assert _size(message) is None


async def test_first_size() -> None:
    """The first size that makes sense is taken; a client that says none gets the usual one."""
    client = Client(these(b"\x04nonsense", b'\x04{"Width":101,"Height":33}'))
    channels = await accepted(client)
    receiving = asyncio.create_task(channels.receive())

    assert await _first_size(channels.incoming[4]) == TerminalSize(columns=101, rows=33)
    assert await _first_size(channels.incoming[4]) == USUAL_SIZE
    await receiving


@pytest.mark.parametrize(("status", "code"), [(7, "7"), (255, "255"), (-9, "137")])
def test_status_of_an_ended_command(status: int, code: str) -> None:
    """The exit code is a cause, a signal is a shell's number for it."""
    document = ended(status)

    assert document["reason"] == "NonZeroExitCode"
    assert document["details"]["causes"] == [{"reason": "ExitCode", "message": code}]
    assert ended(0)["status"] == "Success"
