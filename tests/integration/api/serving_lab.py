"""The API as a controller serves it, over a real store, and the real kubectl that talks to it."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from sandboxer.api.app import create_app
from sandboxer.api.kubeconfig import Access, read_access, write_access
from sandboxer.api.listening import Address
from sandboxer.api.server import APIServer, Endpoint, Exposure, open_endpoint
from sandboxer.api.tokens import Role, TokenFile
from sandboxer.settings import Settings, settings_from_environment
from sandboxer.store import Store
from sandboxer.testing.clock import ManualClock
from tests.rig.kubectl import kubectl_program

SANDBOXES = "/apis/sandboxer.dev/v1alpha1/namespaces/default/sandboxes"

_KUBECTL_TIMEOUT_S = 60.0


class Done(NamedTuple):
    """How kubectl ended."""

    status: int
    stdout: str
    stderr: str


class Lab:
    """One served store with its settings, tokens and clients."""

    def __init__(
        self, settings: Settings, store: Store, server: APIServer, endpoint: Endpoint,
        tokens: TokenFile,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.store = store
        self.server = server
        self.endpoint = endpoint
        self.tokens = tokens

    @property
    def admin(self) -> Access:
        """What the data directory's kubeconfig says."""
        access = read_access(self.settings.kubeconfig_path)
        assert access is not None
        return access

    def access(self, name: str, role: Role, *, ttl_s: float | None = None) -> Access:
        """Make a token and return the access of its user."""
        token = self.tokens.create(name, role, ttl_s=ttl_s)
        return self.admin._replace(user=name, token=token)

    def context(self) -> ssl.SSLContext:
        """Return the TLS context of a client that believes this server."""
        return ssl.create_default_context(cadata=self.admin.ca_pem.decode())

    @asynccontextmanager
    async def client(self, token: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """Connect over TLS, with a token or without."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        async with httpx.AsyncClient(
            base_url=self.endpoint.address.url, verify=self.context(), headers=headers
        ) as client:
            yield client

    @asynccontextmanager
    async def local_client(self) -> AsyncIterator[httpx.AsyncClient]:
        """Connect to the Unix socket."""
        transport = httpx.AsyncHTTPTransport(uds=str(self.settings.socket_path))
        async with httpx.AsyncClient(base_url="http://local", transport=transport) as client:
            yield client

    async def start_kubectl(
        self, *arguments: str, access: Access | None = None
    ) -> asyncio.subprocess.Process:
        """Start the real kubectl, by itself and without a memory of earlier runs."""
        home = self.settings.data_dir / "home"
        home.mkdir(exist_ok=True)
        kubeconfig = home / "kubeconfig"
        write_access(kubeconfig, access or self.admin)
        return await asyncio.create_subprocess_exec(
            kubectl_program(), f"--kubeconfig={kubeconfig}", f"--cache-dir={home / 'cache'}",
            *arguments,
            env={"HOME": str(home), "PATH": os.environ["PATH"]},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def kubectl(self, *arguments: str, access: Access | None = None) -> Done:
        """Run the real kubectl to its end, without standard input."""
        process = await self.start_kubectl(*arguments, access=access)
        async with asyncio.timeout(_KUBECTL_TIMEOUT_S):
            stdout, stderr = await process.communicate()
        assert process.returncode is not None
        return Done(process.returncode, stdout.decode(), stderr.decode())


@asynccontextmanager
async def served(
    directory: Path, clock: ManualClock, *, host: str = "127.0.0.1", is_open: bool = True
) -> AsyncIterator[Lab]:
    """Serve a data directory on its socket and on a free port."""
    settings = settings_from_environment({"SANDBOXER_DATA_DIR": str(directory)})
    store = await Store.open(settings.database_path, clock=clock)
    try:
        tokens = TokenFile(settings.tokens_path, clock)
        endpoint = open_endpoint(settings, Exposure(Address(host, 0)), tokens, clock=clock)
        server = APIServer(create_app(store), settings.socket_path, (endpoint, tokens))
        async with server.serving():
            if is_open:
                server.open()
            yield Lab(settings, store, server, endpoint, tokens)
    finally:
        await store.close()


def status_of(answer: httpx.Response) -> tuple[int, str, str]:
    """Return code, reason and message of an answer that is a `Status`."""
    document: dict[str, Any] = json.loads(answer.content)
    assert (document["kind"], document["status"]) == ("Status", "Failure")
    assert document["code"] == answer.status_code
    return document["code"], document["reason"], document["message"]
