"""Serving the API on the controller's Unix socket."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from sandboxer.api.app import create_app
from sandboxer.store import Store

logger = logging.getLogger(__name__)

# Bytes of a Unix socket's path, unix(7): sun_path has 108 with the final zero.
MAX_SOCKET_PATH = 107

# Seconds that open watches get to end when the controller stops; they would last for an hour.
GRACE_S = 1


class _Server(uvicorn.Server):
    """A server that leaves signals to the manager."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install nothing."""
        yield


def _listen(path: Path) -> socket.socket:
    """Return a listening socket that only this user can connect to."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # NOTE: the umask of the process decides the mode of the socket between bind and chmod.
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
    finally:
        os.umask(before)
    listening.listen(128)
    return listening


@contextlib.contextmanager
def _bound(path: Path) -> Iterator[socket.socket]:
    listening = _listen(path)
    try:
        yield listening
    finally:
        listening.close()
        path.unlink(missing_ok=True)


class SocketServer:
    """
    The API on one Unix socket, mode 0600.

    Args:
        store: Open store.
        path: Of the socket; an old one is replaced (the caller holds the controller's lock).
    """

    def __init__(self, store: Store, path: Path) -> None:
        self._path = path
        self._server = _Server(
            uvicorn.Config(
                create_app(store),
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=GRACE_S,
            )
        )

    async def serve(self) -> None:
        """Serve until `stop`; a path that is too long is logged, and nothing is served."""
        if len(os.fsencode(self._path)) > MAX_SOCKET_PATH:
            logger.warning(
                "The API is not served: the path of its socket is too long",
                extra={"path": str(self._path), "limit_bytes": MAX_SOCKET_PATH},
            )
            return
        with _bound(self._path) as listening:
            await self._server.serve(sockets=[listening])

    def stop(self) -> None:
        """Ask `serve` to return."""
        self._server.should_exit = True
