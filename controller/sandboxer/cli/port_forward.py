"""`port-forward`: ports of this machine that lead into a sandbox."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple

import click

from sandboxer.cli.access import with_api
from sandboxer.cli.exits import Exit
from sandboxer.cli.names import get_sandbox
from sandboxer.cli.options import current_namespace, namespace_option
from sandboxer.cli.printing import note, write
from sandboxer.errors import ConflictError, InvalidSpecError, SandboxerError

if TYPE_CHECKING:
    from sandboxer.cli.access import Access
    from sandboxer.client.streams import ForwardedConnection

# Bytes read from a connection at once.
CHUNK_BYTES = 32 * 1024

MAX_PORT = 65535


class Pair(NamedTuple):
    """One port here and the one it leads to."""

    local: int
    """0 takes any that is free."""
    remote: int


class _PortPair(click.ParamType[Pair]):
    name = "[LOCAL:]REMOTE"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Pair:
        """Read `8080`, `8000:8080` or `:8080`."""
        found = re.fullmatch(r"(?:(\d{0,5}):)?(\d{1,5})", str(value), re.ASCII)
        remote = int(found[2]) if found else 0
        # `:8080` leaves the local port to the system, as kubectl does.
        local = remote if found and found[1] is None else int(found[1] or 0) if found else 0
        if not 0 < remote <= MAX_PORT or local > MAX_PORT:
            self.fail(
                f"{value!r} is not [LOCAL:]REMOTE, two ports from 1 to {MAX_PORT}", param, ctx
            )
        return Pair(local, remote)


@click.command()
@click.argument("name", metavar="ID")
@click.argument("pairs", metavar="[LOCAL:]REMOTE…", nargs=-1, required=True, type=_PortPair())
@click.option("-c", "--container", default="", metavar="SERVICE", help="Compose service; the first when left out.")  # fmt: skip
@click.option("--address", default="127.0.0.1", show_default=True, metavar="IP", help="Where to listen here.")  # fmt: skip
@namespace_option
def port_forward(
    name: str, pairs: Sequence[Pair], container: str, address: str, *, namespace: str | None
) -> int:
    """
    Let ports of this machine lead to ports inside a sandbox, until Ctrl-C.

    The ports need not be in spec.ports. Each connection is made when somebody connects here.
    """

    async def work(access: Access) -> int:
        sandbox = await get_sandbox(access.client, name, current_namespace(namespace))
        metadata = sandbox.metadata
        forwarding = _Forwarding(access, metadata.name, metadata.namespace or "", container)
        await forwarding.serve(address, pairs)
        return Exit.OK

    return with_api(work)


class _Forwarding:
    """All connections into one sandbox."""

    def __init__(self, access: Access, name: str, namespace: str, container: str) -> None:
        from sandboxer.client.paths import path_of
        from sandboxer.kinds.sandbox import Sandbox

        self._access = access
        self._path = path_of(Sandbox, namespace, name)
        self._container = container

    async def serve(self, address: str, pairs: Sequence[Pair]) -> None:
        """Listen on every local port until this is cancelled."""
        with ExitStack() as listening:
            for pair in pairs:
                server = await self._listen(address, pair)
                listening.callback(server.close)
            await asyncio.Event().wait()

    async def _listen(self, address: str, pair: Pair) -> asyncio.Server:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await self._connect(reader, writer, pair.remote)
            except SandboxerError as error:
                note(f"error: port {pair.remote}: {error}")
            finally:
                writer.close()

        try:
            server = await asyncio.start_server(accept, address, pair.local)
        except OSError as error:
            raise _cannot_listen(address, pair.local, error) from error
        for each in server.sockets:
            host, port = each.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            write(f"Forwarding from {shown}:{port} -> {pair.remote}\n")
        return server

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int
    ) -> None:
        from sandboxer.client.streams import forwarded

        server = self._access.client.server
        async with forwarded(server, self._path, port, container=self._container) as inside:
            sending = asyncio.create_task(_send(reader, inside))
            try:
                while data := await inside.read(CHUNK_BYTES):
                    writer.write(data)
                    await writer.drain()
                with suppress(OSError):
                    writer.write_eof()
                await sending
            except ConnectionError:
                # Whoever connected here has gone; nobody is left to be told.
                return
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)


async def _send(reader: asyncio.StreamReader, inside: ForwardedConnection) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(CHUNK_BYTES):
            await inside.write(data)
    inside.write_eof()


def _cannot_listen(address: str, port: int, error: OSError) -> SandboxerError:
    import errno

    if error.errno == errno.EADDRINUSE:
        return ConflictError(
            f"Port {port} of {address} is in use on this machine.",
            reason="PortTaken",
            remedy="Name another one, LOCAL:REMOTE, or leave it to the system with :REMOTE.",
        )
    return InvalidSpecError(
        f"Cannot listen on port {port} of {address}: {error.strerror or error}.",
        remedy="Name an address of this machine with --address.",
    )
