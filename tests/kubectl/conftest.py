"""
One real controller for all files of a worker, and for each file a kubectl in its own namespace.

The controller is the process `sandboxer controller run` with its TLS port; kubectl has what that
wrote into its kubeconfig and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import Installation
from tests.integration.cli_lab import local_host, started
from tests.kubectl.session import Kubectl
from tests.rig.kubectl import kubectl_program


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running controller with this machine as its host."""
    directory = tmp_path_factory.mktemp("kubectl")
    running = Installation(directory)
    running.ok("apply", "-f", "-", stdin=local_host(directory / "work"))
    started(running)
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def kubectl(
    installation: Installation,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Kubectl]:
    """The kubectl of one file; everything in its namespace is taken away at the end."""
    namespace = Path(request.path).stem.removeprefix("test_").replace("_", "-")
    kubeconfig = installation.directory / "data/kubeconfig"
    session = Kubectl(kubectl_program(), tmp_path_factory.mktemp("home"), kubeconfig, namespace)
    yield session
    session.ok("delete", "sandboxpools,sandboxes", "--all")
    session.ok("wait", "--for=delete", "sandboxes", "--all", "--timeout=60s")
