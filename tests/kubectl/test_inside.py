"""
`logs`, `exec`, `cp` and `port-forward` through a Pod, over TLS and with a token.

`near` is a sandbox of this machine, `far` a container on another one, reached over SSH.
"""

from __future__ import annotations

import hashlib
import random
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.installation import Installation
from tests.kubectl.session import PATIENCE_S, Kubectl, manifest, sandbox, until
from tests.kubectl.terminal import in_terminal
from tests.rig import Rig

HOST = "h1"
COMPOSE = """
services:
  db:
    image: localhost/sbx-base:1
    command: [sleep, "2147483647"]
  app:
    image: localhost/sbx-base:1
    command: [sh, -c, "echo first; exec sleep 2147483647"]
"""
PODS = pytest.mark.parametrize("pod", ["near", "far-app"])


@pytest.fixture(scope="module", autouse=True)
def _places(kubectl: Kubectl, rig: Rig) -> Iterator[None]:
    rig.ssh(HOST, "podman rm -fa -t 0")
    rig.clean(HOST)
    far = sandbox(
        "far",
        profile="profile.compose-e2e",
        inputs={"compose": COMPOSE},
        placement={"host": HOST},
    )
    host = manifest(rig.hosts[HOST].manifest())
    kubectl.ok("apply", "-f", "-", stdin=host)
    kubectl.apply(sandbox("near"), far)
    kubectl.ok("wait", "--for=condition=Ready", "sbx", "--all", "--timeout=60s")
    yield
    kubectl.ok("delete", "sbx", "--all")
    kubectl.ok("delete", "host", HOST)
    rig.clean(HOST)


def test_each_container_is_a_pod(kubectl: Kubectl) -> None:
    """A compose service is a Pod on the node that is its host."""
    said = kubectl.ok("get", "pods", "-o", "wide").splitlines()

    assert [line.split()[0] for line in said[1:]] == ["far-app", "far-db", "near"]
    assert said[1].split()[-1] == HOST


@PODS
def test_logs(kubectl: Kubectl, pod: str) -> None:
    """What a program has printed, now and as it goes on."""
    until(lambda: kubectl.ok("logs", pod, "--tail=1") == "first\n")
    with kubectl.start("logs", "-f", pod) as following:
        assert following.until("first\n") == "first\n"
        assert following.process.poll() is None


@PODS
def test_exec_passes_input_output_and_status(kubectl: Kubectl, pod: str) -> None:
    """A command is as near as on this machine."""
    data = random.Random(1).randbytes(200_000).hex()

    assert kubectl.run("exec", pod, "--", "sh", "-c", "exit 7").status == 7
    said = kubectl.ok("exec", "-i", pod, "--", "sha256sum", stdin=data)
    assert said.split()[0] == hashlib.sha256(data.encode()).hexdigest()


@PODS
def test_a_terminal_follows_its_window(kubectl: Kubectl, pod: str) -> None:
    """`exec -it` gives a terminal whose size is that of the window, also when that changes."""
    script = "stty size; while read line; do stty size; done"
    argv: list[str | Path] = [kubectl.program, "exec", "-it", pod, "--", "sh", "-c", script]
    with in_terminal(argv, kubectl.environment, rows=33, columns=101) as window:
        until(lambda: "33 101" in window.shown, lambda: window.shown)

        window.resize(rows=44, columns=120)

        until(lambda: "44 120" in window.after_typing("\n"), lambda: window.shown)
        window.type("\x04")
        assert window.process.wait(PATIENCE_S) == 0


@PODS
def test_cp_brings_files_there_and_back(kubectl: Kubectl, pod: str) -> None:
    """A directory arrives on the other side and comes back as it was."""
    content = random.Random(2).randbytes(300_000)
    there = kubectl.home / f"{pod}-there"
    (there / "deep").mkdir(parents=True)
    (there / "deep/file name").write_bytes(content)
    place = kubectl.ok("exec", pod, "--", "sh", "-c", "cd; pwd").strip() + "/copied"

    kubectl.ok("cp", str(there), f"{pod}:{place}")
    kubectl.ok("cp", f"{pod}:{place}", str(kubectl.home / f"{pod}-back"))

    assert (kubectl.home / f"{pod}-back/deep/file name").read_bytes() == content


def test_what_goes_wrong_is_said(kubectl: Kubectl) -> None:
    """A missing Pod, a missing program, and what the API does not do."""
    assert 'pods "nobody" not found' in kubectl.fails("logs", "nobody")
    assert "no-such-program" in kubectl.run("exec", "near", "--", "no-such-program").stderr
    assert "attach is not supported" in kubectl.fails("attach", "near")


def test_port_forward_is_refused_with_the_way_to_go(kubectl: Kubectl) -> None:
    """It would tunnel SPDY, which is not served; the command that works is named."""
    assert "use `sandboxer port-forward" in kubectl.fails("port-forward", "near", ":80")


@pytest.mark.parametrize(("pod", "name"), [("near", "near"), ("far-app", "far")])
def test_sandboxer_port_forward(
    kubectl: Kubectl, installation: Installation, pod: str, name: str
) -> None:
    """A web server inside is reached through a port of this machine."""
    port = _free_port()
    web = "mkdir -p /tmp/web; echo inside >/tmp/web/page; exec busybox httpd -f -h /tmp/web -p"
    with (
        kubectl.start("exec", pod, "--", "sh", "-c", f"{web} {port}"),
        _forwarded(installation, kubectl.namespace, name, port) as local,
    ):
        until(lambda: _page(local) == b"inside\n")


@contextmanager
def _forwarded(installation: Installation, namespace: str, name: str, port: int) -> Iterator[int]:
    """Forward a free port into a sandbox; yields the port here."""
    container = ["-c", "app"] if name == "far" else []
    local = _free_port()
    process = subprocess.Popen(
        [
            Path(sys.prefix) / "bin/sandboxer", "port-forward", "-n", namespace, name,
            f"{local}:{port}", *container,
        ],
        env=installation.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield local
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _page(port: int) -> bytes:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/page", timeout=30) as answer:
            content: bytes = answer.read()
            return content
    except OSError:
        return b""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
