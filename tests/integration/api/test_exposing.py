"""A controller that is reached over the network, as processes: the command line and kubectl."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import Installation
from tests.rig.kubectl import kubectl_program


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path)
    yield made
    made.kill()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody has."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def started(here: Installation, listen: str = "127.0.0.1:0") -> None:
    said = len(here.log.read_text()) if here.log.exists() else 0
    here.start("--listen", listen)
    here.wait_until(
        "the controller runs",
        lambda: "The controller runs" in here.log.read_text()[said:],
        timeout_s=30,
    )


def kubectl(
    here: Installation, kubeconfig: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            kubectl_program(), f"--kubeconfig={kubeconfig}",
            f"--cache-dir={here.directory / 'cache'}", *arguments,
        ],
        env={"HOME": str(here.directory), "PATH": os.environ["PATH"]},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_kubectl_works_with_what_the_controller_wrote(here: Installation) -> None:
    """The log names a kubeconfig that works, and it works again after a restart elsewhere."""
    started(here)
    found = re.search(r"kubeconfig=(\S+)", here.log.read_text())
    assert found
    kubeconfig = Path(found[1])
    first = kubectl(here, kubeconfig, "get", "hosts", "-o", "name")
    token = kubeconfig.read_text().partition("token: ")[2]

    assert here.stop() == 0
    started(here)

    assert first.stdout == "host.sandboxer.dev/local\n", first.stderr
    assert kubectl(here, kubeconfig, "get", "hosts", "-o", "name").stdout == first.stdout
    assert kubeconfig.read_text().partition("token: ")[2] == token


def test_somebody_else_gets_a_kubeconfig_of_their_own(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token made while the controller runs opens it, as far as its role goes, until deleted."""
    started(here)
    made = here.run("token", "create", "bob", "--role", "viewer", "--ttl", "30d")
    monkeypatch.setitem(here._environment, "SANDBOXER_TOKEN", made.stdout.strip())
    theirs = here.directory / "bob.kubeconfig"
    written = here.run("kubeconfig", "--user", "bob", "--output", str(theirs))

    assert written.returncode == 0, written.stderr
    assert theirs.stat().st_mode & 0o777 == 0o600
    assert kubectl(here, theirs, "get", "hosts").returncode == 0
    refused = kubectl(here, theirs, "delete", "host", "local")
    assert 'User "bob" cannot delete resource "hosts"' in refused.stderr
    assert here.ok("token", "list").splitlines()[2].split()[:2] == ["bob", "viewer"]
    here.ok("token", "delete", "bob")
    assert "You must be logged in" in kubectl(here, theirs, "get", "hosts").stderr


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(here: Installation, taken: int) -> None:
    """The controller does not start, and says who to look for and what else to choose."""
    done = here.run("controller", "run", "--listen", f"127.0.0.1:{taken}")

    assert done.returncode == 5
    assert f"cannot listen on 127.0.0.1:{taken}: the port is taken." in done.stderr
    assert "--listen none" in done.stderr


def test_listening_everywhere_is_said(here: Installation) -> None:
    """A wider address is served and the log warns of it."""
    started(here, ":0")

    here.wait_until(
        "the log warns",
        lambda: "can be reached from other machines" in here.log.read_text(),
        timeout_s=10,
    )


def test_without_a_network_nothing_is_made_for_it(here: Installation) -> None:
    """`--listen none` needs no certificate and no token; the command says where one comes from."""
    started(here, "none")

    data = here.directory / "data"
    assert not (data / "pki").exists()
    assert not (data / "tokens.json").exists()
    done = here.run("kubeconfig")
    assert done.returncode == 4
    assert "sandboxer controller run" in done.stderr
