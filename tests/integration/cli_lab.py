"""Installations of sandboxer for tests of the command line, and three ways it finds the API."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import yaml

from tests.e2e.installation import Installation

Way = Literal["alone", "socket", "remote"]
"""How the API is found: the command serves itself, a controller's socket, a URL with TLS."""

HELLO = """
apiVersion: sandboxer.dev/v1alpha1
kind: Sandbox
metadata:
  name: hello
  labels: {app: demo}
spec:
  profile: profile.local
  env: {GREETING: "hello there"}
"""

# A well-formed key that no host has.
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFJKoJ6grFa9vra/sZtUKD9OZG4q+D/dOB5EJAmz2+lS"


def local_host(work_root: Path) -> str:
    """Return a Host `local` of a user's own, so that tests leave nothing in /var/lib."""
    spec = {"transport": "local", "workRoot": str(work_root), "probeInterval": "1s"}
    metadata = {"name": "local"}
    document = {"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Host"}
    return yaml.safe_dump({**document, "metadata": metadata, "spec": spec})


@contextmanager
def installed(directory: Path, way: Way = "alone") -> Iterator[Installation]:
    """Have an installation whose sandboxes are taken away afterwards, whatever the test did."""
    installation = Installation(directory)
    installation.ok("apply", "-f", "-", stdin=local_host(directory / "work"))
    if way != "alone":
        started(installation)
    if way == "remote":
        installation.set_environment(**remote_environment(installation))
    try:
        yield installation
    finally:
        # NOTE: the controller does it quicker than a command that begins with nothing.
        installation.ok("delete", "sandboxes", "--all")
        installation.kill()


def started(installation: Installation, address: str = "127.0.0.1:0") -> Installation:
    """Start a controller, on a free port unless told, and return once it has said that it runs."""
    before = said(installation).count("The controller runs")
    installation.start("--listen", address)
    installation.wait_until(
        "the controller runs",
        lambda: said(installation).count("The controller runs") > before,
        timeout_s=30,
    )
    return installation


def said(installation: Installation) -> str:
    """Return what the controllers of an installation have logged."""
    return installation.log.read_text() if installation.log.exists() else ""


def remote_environment(installation: Installation) -> dict[str, str]:
    """Return variables that make a command talk TLS to a controller, from an empty directory."""
    kubeconfig = yaml.safe_load((installation.directory / "data/kubeconfig").read_text())
    cluster, user = kubeconfig["clusters"][0]["cluster"], kubeconfig["users"][0]["user"]
    authority = installation.directory / "ca.pem"
    authority.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    return {
        "SANDBOXER_SERVER": cluster["server"],
        "SANDBOXER_TOKEN": user["token"],
        "SANDBOXER_CA_FILE": str(authority),
        "SANDBOXER_DATA_DIR": str(installation.directory / "elsewhere"),
    }
