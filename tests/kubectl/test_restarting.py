"""What lies between kubectl and a controller: a restart, and a connection without TLS."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import Installation
from tests.integration.cli_lab import local_host, started
from tests.kubectl.session import Kubectl, manifest, sandbox
from tests.rig.kubectl import kubectl_program


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Installation, Kubectl]]:
    """A controller of this test's own, which it may stop, with its kubectl."""
    running = Installation(tmp_path)
    running.ok("apply", "-f", "-", stdin=local_host(tmp_path / "work"))
    started(running)
    home = tmp_path / "home"
    home.mkdir()
    yield running, Kubectl(kubectl_program(), home, tmp_path / "data/kubeconfig", "default")
    running.ok("delete", "sandboxes", "--all")
    running.kill()


@pytest.mark.timeout(240)
def test_an_apply_outlives_a_restart(own: tuple[Installation, Kubectl]) -> None:
    """
    Trap 17: an apply that meets a controller in the middle of its start comes through.

    The port and the kubeconfig stay the same, and a 503 that says when to come back is obeyed.
    """
    installation, kubectl = own
    server = kubectl.ok("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
    kubectl.apply(sandbox("one"))
    assert installation.stop() == 0
    assert "refused" in kubectl.fails("get", "sbx")

    installation.start("--listen", server.removeprefix("https://"))
    text = manifest(sandbox("one", env={"A": "1"}))
    done = kubectl.run("apply", "-f", "-", stdin=text)
    while "refused" in done.stderr:  # the process has not opened its port yet
        done = kubectl.run("apply", "-f", "-", stdin=text)

    assert (done.status, done.stdout) == (0, "sandbox.sandboxer.dev/one configured\n"), done
    assert kubectl.document("sbx", "one")["spec"]["env"] == {"A": "1"}


async def test_no_token_is_sent_over_plain_http(tmp_path: Path, installation: Installation) -> None:
    """Trap 18: kubectl keeps its token to itself, so the network is served over TLS only."""
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        body = json.dumps({"kind": "Status", "apiVersion": "v1", "code": 401}).encode()
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\n")
        writer.write(b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    kubeconfig = installation.directory / "data/kubeconfig"
    home = tmp_path / "home"
    home.mkdir()
    kubectl = Kubectl(kubectl_program(), home, kubeconfig, "default")

    done = await asyncio.to_thread(
        kubectl.run, f"--server={url}", "--certificate-authority=", "get", "--raw", "/version"
    )
    listening.close()

    assert done.status == 1
    assert heads
    assert not any(b"authorization" in head.lower() for head in heads)
