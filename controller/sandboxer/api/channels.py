"""
Several byte streams over one websocket: every message begins with the number of its channel.

Design notes:

* Back-pressure both ways. What we send waits for the client (the server pauses us). What the
  client sends is kept up to `PENDING_BYTES` per channel; then the socket is not read any more.
* While the socket is not read, nobody notices that the client has gone. So an empty message is
  sent now and then: clients skip it, and writing to a closed connection fails.

Source:
    KEP-4006 and `pkg/util/remotecommand` of k8s.io/apimachinery for `v5.channel.k8s.io`, which adds
    the end of one channel (255) to `v4.channel.k8s.io`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Collection
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

V4: Final = "v4.channel.k8s.io"
V5: Final = "v5.channel.k8s.io"

END_OF_CHANNEL: Final = 255
"""Channel of v5 whose only byte is the number of a channel that has ended."""

# Bytes a channel keeps until somebody takes them: enough for a terminal and a small file, so that
# most clients never wait, and little enough for hundreds of streams.
PENDING_BYTES: Final = 2**20

# Seconds between two signs of life while the client is not read.
HEARTBEAT_S: Final = 10.0


class ClientGoneError(Exception):
    """Whoever held the other end of the websocket has gone; nobody is left to be told."""


class Pending:
    """Bytes that have come on one channel and were not taken yet."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._changed = asyncio.Condition()

    async def put(self, data: bytes) -> None:
        """Add bytes; waits while there are too many. What comes after the end is dropped."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._size < PENDING_BYTES or self._ended)
            if data and not self._ended:
                self._chunks.append(data)
                self._size += len(data)
                self._changed.notify_all()

    async def end(self) -> None:
        """Add the end."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def take(self) -> bytes:
        """Return the next bytes; empty means the end."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._chunks or self._ended)
            if not self._chunks:
                return b""
            chunk = self._chunks.popleft()
            self._size -= len(chunk)
            self._changed.notify_all()
            return chunk

    async def stirred(self) -> None:
        """Return when there is something to take, or the end."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._chunks or self._ended)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield what comes until its end."""
        while data := await self.take():
            yield data


class Channels:
    """
    One accepted websocket.

    Args:
        websocket: Accepted, with subprotocol *protocol*.
        protocol: `V4` or `V5`.
        incoming: Channels the client may send on; messages on others are dropped.
        quiet: Channel on which an empty message means nothing to a client.
    """

    def __init__(
        self, websocket: WebSocket, protocol: str, incoming: Collection[int], *, quiet: int
    ) -> None:
        self._websocket = websocket
        self._protocol = protocol
        self._quiet = quiet
        self.incoming = {number: Pending() for number in incoming}

    async def send(self, channel: int, data: bytes = b"") -> None:
        """
        Send on a channel; waits while the client does not take it.

        Raises:
            ClientGoneError: Nobody takes it.
        """
        try:
            await self._websocket.send_bytes(bytes((channel,)) + data)
        except (WebSocketDisconnect, RuntimeError) as error:
            # RuntimeError is how the server and starlette refuse to send after the end.
            raise ClientGoneError from error

    async def end(self, channel: int) -> None:
        """Say that nothing more comes on a channel, where the protocol has a word for it."""
        if self._protocol == V5:
            await self.send(END_OF_CHANNEL, bytes((channel,)))

    async def close(self) -> None:
        """End the websocket in order; nothing happens when the client was first."""
        if self._websocket.client_state is WebSocketState.CONNECTED:
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                await self._websocket.close()

    async def receive(self) -> None:
        """
        Distribute what the client sends, until it has gone.

        Returns when the client closed the websocket or was lost.
        """
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            data = message.get("bytes") or (message.get("text") or "").encode()
            if data and not await self._distribute(data[0], data[1:]):
                return

    async def _distribute(self, channel: int, data: bytes) -> bool:
        """Put a message where it belongs; False when the client went away meanwhile."""
        if channel == END_OF_CHANNEL and self._protocol == V5:
            if pending := self.incoming.get(data[0] if data else END_OF_CHANNEL):
                await pending.end()
            return True
        pending = self.incoming.get(channel)
        return pending is None or await self._put(pending, data)

    async def _put(self, pending: Pending, data: bytes) -> bool:
        put = asyncio.ensure_future(pending.put(data))
        try:
            while not put.done():
                await asyncio.wait({put}, timeout=HEARTBEAT_S)
                if not put.done():
                    await self.send(self._quiet)
        except ClientGoneError:
            return False
        finally:
            put.cancel()
        return True
