"""
The API by itself: served as a controller serves it, over TLS, but without an engine.

`python -m tests.kubectl.standalone DIRECTORY` serves a data directory until it is ended and writes
the kubeconfig there.
"""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from sandboxer.api.app import create_app
from sandboxer.api.listening import Address
from sandboxer.api.server import APIServer, Exposure, open_endpoint
from sandboxer.api.tokens import TokenFile
from sandboxer.clock import SystemClock
from sandboxer.registry import load_registry
from sandboxer.settings import settings_from_environment
from sandboxer.store import Store
from tests.kubectl.session import PATIENCE_S, until

CHECKOUT = Path(__file__).parents[2]


class Standalone:
    """
    A server process and who may do everything there.

    Attributes:
        directory: Its data directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "standalone.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.kubectl.standalone", directory],
                cwd=CHECKOUT, stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def kubeconfig(self) -> Path:
        """What it has written for its clients."""
        return self.directory / "kubeconfig"

    @property
    def url(self) -> str:
        """Where it listens."""
        return str(self._document()["clusters"][0]["cluster"]["server"])

    @property
    def token(self) -> str:
        """The token of an admin."""
        return str(self._document()["users"][0]["user"]["token"])

    @property
    def authority(self) -> Path:
        """A file with the certificate that vouches for the server."""
        encoded = self._document()["clusters"][0]["cluster"]["certificate-authority-data"]
        file = self.directory / "authority.pem"
        file.write_bytes(base64.b64decode(encoded))
        return file

    @property
    def tls(self) -> ssl.SSLContext:
        """What a client believes."""
        return ssl.create_default_context(cafile=str(self.authority))

    def is_running(self) -> bool:
        """Tell whether the process has not ended."""
        return self._process.poll() is None

    def is_ready(self) -> bool:
        """Tell whether it serves requests."""
        assert self.is_running(), self.log.read_text()
        return "serving" in self.log.read_text()

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(PATIENCE_S)

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = yaml.safe_load(self.kubeconfig.read_text())
        return document


@contextmanager
def standalone(directory: Path) -> Iterator[Standalone]:
    """Serve a data directory inside the block."""
    server = Standalone(directory)
    try:
        until(server.is_ready)
        yield server
    finally:
        server.stop()


async def _serve(directory: Path) -> None:
    clock = SystemClock()
    settings = settings_from_environment({"SANDBOXER_DATA_DIR": str(directory)})
    store = await Store.open(settings.database_path, clock=clock)
    tokens = TokenFile(settings.tokens_path, clock)
    endpoint = open_endpoint(settings, Exposure(Address("127.0.0.1", 0)), tokens, clock=clock)
    app = create_app(store, registry=load_registry())
    server = APIServer(app, settings.socket_path, (endpoint, tokens))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with server.serving():
        server.open()
        sys.stdout.write("serving\n")
        sys.stdout.flush()
        await ended.wait()
        server.close()
    await store.close()


if __name__ == "__main__":
    os.umask(0o077)
    asyncio.run(_serve(Path(sys.argv[1])))
