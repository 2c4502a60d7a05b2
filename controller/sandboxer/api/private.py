"""
The API inside one command: on a private socket, over the store that the command has opened.

So a command without a controller asks the same application in the same way as one with it. The
socket is in a directory of its own that only this user can enter, and goes with the command; a
daemon's slow goodbye to its clients is not needed, as there is one client.
"""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from sandboxer.settings import MAX_SOCKET_PATH

# Bytes of one websocket message, as the controller takes them.
MAX_MESSAGE_BYTES = 4 * 2**20

_NAME = "api.sock"


@asynccontextmanager
async def served_privately(app: ASGIApp, directory: Path) -> AsyncIterator[Path]:
    """
    Serve *app* inside the block; yields the socket.

    Args:
        app: The application, over an open store.
        directory: Where the socket's own directory is made; elsewhere when its path is too long.
    """
    with _place(directory) as place:
        path = place / _NAME
        server = _Server(app)
        await server.listen(path)
        try:
            yield path
        finally:
            await server.close()


@contextmanager
def _place(directory: Path) -> Iterator[Path]:
    """Make a directory of mode 0700 that is short enough, and take it away afterwards."""
    # tempfile's names have eight random characters.
    length = len(os.fsencode(directory / "api-12345678" / _NAME))
    where = directory if length <= MAX_SOCKET_PATH else None
    with tempfile.TemporaryDirectory(prefix="api-", dir=where) as made:
        yield Path(made)


class _Server(uvicorn.Server):
    """uvicorn without its loop, which looks for signals and ends a tenth of a second late."""

    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(
            app,
            http="h11",
            ws=_websocket_protocol,  # type: ignore[arg-type]  # a class or what makes its instances
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            # The one client is this process; see `sandboxer.api.server` for what pings would break.
            ws_ping_timeout=None,
            lifespan="off",
            log_config=None,
            access_log=False,
        )
        config.load()
        super().__init__(config)
        self.lifespan = config.lifespan_class(config)

    async def listen(self, path: Path) -> None:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(path))
        await self.startup(sockets=[listening])

    async def close(self) -> None:
        """Accept nothing more, and end what is still open at once."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in self.server_state.tasks:
            task.cancel()
        await asyncio.gather(*self.server_state.tasks, return_exceptions=True)


def _websocket_protocol(**arguments: Any) -> asyncio.Protocol:
    """Return the protocol of one websocket, loaded when the first one is opened."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(**arguments)
