"""`ext.compose-ssh` against the public conformance suite, on a real host over SSH."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from sandboxer.extension import Instance
from sandboxer.kinds.host import Host
from sandboxer.session import Session
from sandboxer.telemetry.probe import read_facts
from sandboxer.testing.conformance import ExtensionConformance, Subject
from sandboxer.transport.connections import Connections
from sandboxer.transport.rest import RestEngine
from sandboxer.transport.session import HostSession
from sandboxer_extensions.compose_ssh import ComposeSSHExtension
from sandboxer_extensions.compose_ssh.inputs import ComposeInputs
from tests.rig import Rig

ENVIRONMENT = "conformance"


@asynccontextmanager
async def open_session(document: dict[str, Any]) -> AsyncIterator[Session]:
    """Open a session to a rig host, over a connection of its own."""
    host = Host.parse(document)
    connections = Connections()
    try:
        facts = await read_facts(await connections.link(host), host, None)

        async def open_socket() -> Any:
            return await (await connections.link(host)).open_socket(facts.engine_socket)

        engine = RestEngine(host.metadata.name, open_socket)
        yield HostSession(connections, host=host, facts=facts, engine=engine)
        await engine.close()
    finally:
        await connections.close()


def damage(command: str) -> Callable[[Session, Instance], Awaitable[object]]:
    """Return a way to do harm with a shell line; `$1` is the uid, `$2` the short id."""

    async def do(session: Session, instance: Instance) -> object:
        return await session.script(command, instance.uid, instance.short_id)

    return do


OF_IT = "$(podman ps -aq --filter label=sandboxer.dev/uid=$1)"


# One up takes about two seconds on two shared cores, and the suite makes it at every session call.
@pytest.mark.timeout(600)
class TestComposeSSH(ExtensionConformance):
    @pytest.fixture
    def subject(self, rig: Rig) -> Subject:
        name = "h1"

        def make_instance() -> Instance:
            return Instance(
                uid=str(uuid.uuid4()), namespace="default", name="hello", environment=ENVIRONMENT,
                extension="ext.compose-ssh", spec_hash="0123456789abcdef",
                inputs=ComposeInputs(image=rig.image, command="sleep 2147483647"),
            )  # fmt: skip

        def leftovers(instance: Instance) -> list[str]:
            listing = rig.ssh(
                name,
                "podman ps -a --format '{{.Names}}'; podman volume ls -q; podman network ls -q; "
                "find /build -mindepth 1 -maxdepth 2",
            )
            return [line for line in listing.stdout.split() if instance.short_id in line]

        return Subject(
            extension=ComposeSSHExtension(),
            open_session=partial(open_session, rig.hosts[name].manifest()),
            make_instance=make_instance,
            environment=ENVIRONMENT,
            leftovers=leftovers,
            damages={
                "killed": damage(f"podman kill {OF_IT}"),
                "paused": damage(f"podman pause {OF_IT}"),
                "removed": damage(f"podman rm -f -t 0 {OF_IT}"),
                "another limit": damage(f"podman update --cpus 0.5 {OF_IT}"),
                "workspace removed": damage('rm -rf "/build/$2"'),
            },
            ready_deadline_s=60.0,
        )
