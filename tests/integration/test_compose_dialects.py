"""The other compose tool that Debian has, against podman's socket: same states, same end."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from sandboxer.extension import Instance
from sandboxer.session import Session
from sandboxer_extensions.compose_ssh import ComposeSSHExtension
from sandboxer_extensions.compose_ssh.inputs import ComposeInputs
from tests.integration.compose_lab import LISTING, TWO_SERVICES, empty, open_session, state
from tests.rig import Rig
from tests.rig.install import install_missing


@pytest.fixture
async def session(rig: Rig) -> AsyncIterator[Session]:
    """A clean host whose compose command is docker-compose."""
    assert install_missing({"docker-compose": "docker-compose"})
    program = shutil.which("docker-compose")
    empty(rig, "h1")
    async with open_session(rig, "h1", composeCommand=[program]) as opened:
        yield opened
    empty(rig, "h1")


@pytest.mark.timeout(600)  # apt may have to fetch it
async def test_docker_compose_on_podman_lives_and_leaves_nothing(
    rig: Rig, session: Session
) -> None:
    """Two services with a secret come up, are changed, heal, and go."""
    extension = ComposeSSHExtension()
    wanted = Instance(
        uid=str(uuid.uuid4()), namespace="default", name="hello", environment="env-1",
        extension=extension.name, spec_hash="0123456789abcdef",
        inputs=ComposeInputs(compose=TWO_SERVICES), secrets={"TOKEN": SecretStr("a$b\n'c'")},
    )  # fmt: skip

    await extension.provision(session, wanted)
    first = await state(session, wanted)
    inside = rig.ssh("h1", "podman exec $(podman ps -q --filter label=sandboxer.dev/service=app) "
                           "sh -c 'echo \"$TOKEN\"'").stdout  # fmt: skip
    rig.ssh("h1", "podman kill $(podman ps -q --filter label=sandboxer.dev/service=app)")
    harmed = await state(session, wanted)
    await extension.provision(session, wanted)
    healed = await state(session, wanted)
    await extension.teardown(session, wanted)

    assert (first, harmed, healed) == ("Running", "Stopped", "Running")
    assert inside == "a$b\n'c'\n"
    assert await state(session, wanted) == "Absent"
    assert rig.ssh("h1", LISTING).stdout == ""
