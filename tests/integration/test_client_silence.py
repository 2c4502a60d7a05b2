"""What a client makes of a server that vanishes without a word, or is of another version."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.typing import Subprotocol

from sandboxer.client import Client, Mirror, Server
from sandboxer.client.connection import Connection
from sandboxer.client.streams import forwarded
from sandboxer.client.watching import changes
from sandboxer.errors import TerminalError, UnreachableError
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.testing.builders import sandbox

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"

# `tr` of a socket on which TCP will ask whether the other side is there. Source: proc(5), tcp_diag.
KEEPALIVE_TIMER = "02"


@asynccontextmanager
async def answering(body: bytes) -> AsyncIterator[Server]:
    """Have a server over TCP that answers every request with these bytes and falls silent."""
    tasks = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + body)
        await reader.read()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1") as serving:
        port = serving.sockets[0].getsockname()[1]
        yield Server(url=f"http://127.0.0.1:{port}")
    await asyncio.gather(*filter(None, tasks))


async def until_kept_alive(server: Server) -> None:
    """Return once the kernel asks, on our side of a connection, whether the server is there."""
    port = f":{int(server.url.rpartition(':')[2]):04X}"

    def is_asked() -> bool:
        return any(r[2].endswith(port) and r[5].startswith(KEEPALIVE_TIMER) for r in connections())

    async with asyncio.timeout(10):
        while not is_asked():  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.05)


def connections() -> list[list[str]]:
    """Return the TCP connections of this machine, in columns."""
    return [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]


async def test_a_silent_watch_is_a_server_that_went_away() -> None:
    """A watch without even bookmarks ends, so that it is resumed where somebody answers."""
    async with answering(b"") as server:
        connection = Connection(server)
        watching = changes(connection, "/apis", {}, since="1", silence_s=0.2)
        with pytest.raises(UnreachableError):
            async with asyncio.timeout(10):
                await anext(watching)
        await connection.close()


async def test_tcp_asks_whether_a_silent_stream_has_a_server() -> None:
    """A log that prints nothing for hours ends when the server's machine is gone."""
    async with answering(b"") as server:
        connection = Connection(server)
        async with connection.stream("/log", query={}):
            await until_kept_alive(server)
        await connection.close()


async def test_tcp_asks_whether_a_silent_command_has_a_server() -> None:
    """So does a websocket to something inside a sandbox."""

    async def wait(websocket: websockets.ServerConnection) -> None:
        await websocket.wait_closed()

    protocols = [Subprotocol("v5.channel.k8s.io")]
    async with websockets.serve(wait, "127.0.0.1", 0, subprotocols=protocols) as serving:
        port = next(iter(serving.sockets)).getsockname()[1]
        server = Server(url=f"http://127.0.0.1:{port}")
        async with forwarded(server, "/pod", 80):
            await until_kept_alive(server)


async def test_an_object_of_another_version_is_said_to_be_one() -> None:
    """A mirror says that versions differ, in the words of every other read."""
    strange: dict[str, Any] = sandbox("box").to_document()
    strange["spec"]["fromTheFuture"] = True
    listed = json.dumps({"metadata": {"resourceVersion": "7"}, "items": [strange]}).encode()
    body = f"{len(listed):x}\r\n".encode() + listed + b"\r\n0\r\n\r\n"

    async with answering(body) as server:
        client = Client(server)
        mirror = Mirror(client, Sandbox, "default")
        following = asyncio.create_task(mirror.run())
        async with asyncio.timeout(10):
            await mirror.listed()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await client.close()

    with pytest.raises(TerminalError, match=r"fromTheFuture.*does not know"):
        mirror.get(sandbox("box").key)
