"""Connections to programs inside sandboxes: by client libraries, by us, near and far."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import kubernetes
import pytest
from kubernetes.stream import portforward

from sandboxer.client.paths import path_of
from sandboxer.client.server import Server
from sandboxer.client.streams import execute, forwarded
from sandboxer.errors import NotFoundError, TransientError
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.session import Streams
from tests.integration.api.streams_lab import PATIENCE_S, Lab
from tests.integration.api.streams_places import lab

__all__ = ["lab"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLACES = pytest.mark.parametrize("name", ["near", "far"])


def path(name: str) -> str:
    """Return the path of a sandbox."""
    return path_of(Sandbox, "default", name)


def free_port() -> int:
    """Return a port nobody listens on; near shares this machine's ports."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def drop(data: bytes) -> None:
    """Take bytes and forget them."""
    del data


async def run(lab: Lab, name: str, *argv: str) -> int:
    """Run a command inside a sandbox and return its exit status."""
    streams = Streams(stdout=drop, stderr=drop)
    container = "app" if name == "far" else ""
    return await execute(Server(url=lab.url), path(name), argv, streams, container=container)


@asynccontextmanager
async def program(lab: Lab, name: str, port: int, command: str) -> AsyncIterator[None]:
    """Answer connections to *port* inside a sandbox with *command*, one after the other."""
    # busybox's nc takes one connection and ends.
    script = f'while :; do busybox nc -l -p {port} -e sh -c "$1"; done'
    running = asyncio.create_task(run(lab, name, "sh", "-c", script, "sh", command))
    try:
        await listening(lab, name, port)
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def listening(lab: Lab, name: str, port: int) -> None:
    """Return once somebody listens on *port* inside."""
    # State 0A is LISTEN, proc_net_tcp(5).
    look = f"grep -qE '^ *[0-9]+: [0-9A-F]+:{port:04X} [0-9A-F:]+ 0A' /proc/net/tcp /proc/net/tcp6"
    async with asyncio.timeout(PATIENCE_S):
        while await run(lab, name, "sh", "-c", look):  # noqa: ASYNC110 - it is in another machine
            await asyncio.sleep(0.05)


def opened(lab: Lab, name: str, port: int) -> Any:
    """Connect with our own client."""
    container = "app" if name == "far" else ""
    return forwarded(Server(url=lab.url), path(name), port, container=container)


@PLACES
async def test_directions_end_one_after_the_other(lab: Lab, name: str) -> None:
    """What answers only after the end of its input is heard."""
    port = free_port()
    data = os.urandom(3_000_000)

    async with program(lab, name, port, "wc -c"), opened(lab, name, port) as connection:
        await connection.write(data)
        connection.write_eof()
        answer = b"".join([chunk async for chunk in chunks(connection)])

    assert answer.strip() == b"3000000"


@PLACES
async def test_bytes_arrive_both_ways(lab: Lab, name: str) -> None:
    """Megabytes go there and back at the same time, unchanged."""
    port = free_port()
    data = os.urandom(3_000_000)

    async with program(lab, name, port, "cat"), opened(lab, name, port) as connection:

        async def send() -> None:
            await connection.write(data)
            connection.write_eof()

        sending = asyncio.create_task(send())
        answer = b"".join([chunk async for chunk in chunks(connection)])
        await sending

    assert answer == data


@PLACES
async def test_kubernetes_client_forwards(lab: Lab, name: str) -> None:
    """The Python client's portforward talks to a program by the Pod's name."""
    port = free_port()
    pod = "far-app" if name == "far" else name

    def talk() -> bytes:
        forwarding = portforward(
            python_client(lab).connect_get_namespaced_pod_portforward,
            pod, "default", ports=str(port),
        )  # fmt: skip
        connected = forwarding.socket(port)
        connected.settimeout(PATIENCE_S)
        connected.sendall(b"hello\n")
        received = b"".join(iter(lambda: connected.recv(4096), b""))
        assert forwarding.error(port) is None
        close(forwarding, connected)
        return received

    async with program(lab, name, port, "read line; echo got $line"):
        assert await asyncio.to_thread(talk) == b"got hello\n"


async def test_kubernetes_client_hears_why_not(lab: Lab) -> None:
    """A port on which nothing listens is an error of that port, in words."""
    port = free_port()

    def talk() -> str:
        forwarding = portforward(
            python_client(lab).connect_get_namespaced_pod_portforward,
            "far-app", "default", ports=str(port),
        )  # fmt: skip
        connected = forwarding.socket(port)
        connected.settimeout(PATIENCE_S)
        assert connected.recv(1) == b""
        close(forwarding, connected)
        return str(forwarding.error(port))

    said = await asyncio.to_thread(talk)

    assert f"Port {port} of service app of default/far takes no connection" in said
    assert "must listen on 0.0.0.0" in said


async def test_what_is_missing_is_named(lab: Lab) -> None:
    """A service that is not there is not found."""
    with pytest.raises(TransientError, match="Service web of default/far has no running"):
        async with forwarded(Server(url=lab.url), path("far"), 80, container="web") as connection:
            await connection.read()
    with pytest.raises(NotFoundError, match="nobody"):
        async with forwarded(Server(url=lab.url), path("nobody"), 80):
            pass


async def test_command_serves_many_connections(lab: Lab) -> None:
    """`sandboxer port-forward` takes one connection after the other until Ctrl-C."""
    port = free_port()
    answer = "printf 'HTTP/1.0 200 OK\\r\\n\\r\\nhello\\n'"
    command = [sys.executable, "-m", "sandboxer", "port-forward", "far", f":{port}", "-c", "app"]
    environment = {**lab.environment, "SANDBOXER_SERVER": lab.url}
    async with program(lab, "far", port, f"read request; {answer}"):
        process = await asyncio.create_subprocess_exec(
            *command, env=environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            said = (await process.stdout.readline()).decode()
        url = f"http://{said.split()[2]}/" if said else "nothing was said"

        got = []
        for _ in range(3):
            await listening(lab, "far", port)
            got.append(await asyncio.to_thread(fetch, url))

        process.send_signal(signal.SIGINT)
        _, stderr = await process.communicate()

    assert got == [b"hello\n"] * 3
    assert process.returncode == 130
    assert stderr.decode().strip() == "error: interrupted; nothing was undone"


async def test_command_says_that_its_port_is_taken(lab: Lab) -> None:
    """A local port in use ends the command with its reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        local = taken.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sandboxer", "port-forward", "near", f"{local}:80",
            env={**lab.environment, "SANDBOXER_SERVER": lab.url},
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, stderr = await process.communicate()

    assert process.returncode == 5
    assert f"Port {local} of 127.0.0.1 is in use" in stderr.decode()


def close(forwarding: Any, connected: Any) -> None:
    """Close what the Python client leaves to the garbage collector."""
    connected.close()
    forwarding.websocket.shutdown()


def fetch(url: str) -> bytes:
    """Return the body of a page."""
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        return bytes(answer.read())


async def chunks(connection: Any) -> AsyncIterator[bytes]:
    """Yield what comes until its end."""
    while data := await connection.read():
        yield data


def python_client(lab: Lab) -> Any:
    """Return the Python client of Kubernetes."""
    configuration = kubernetes.client.Configuration(host=lab.url)
    return kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(configuration))
