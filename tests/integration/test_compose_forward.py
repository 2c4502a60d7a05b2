"""`ext.compose-ssh` connects to ports of containers: by their address, else by a published port."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sandboxer.errors import TerminalError, TransientError
from sandboxer.extension import Instance, PortLease
from sandboxer.session import Session
from tests.integration.compose_lab import EXTENSION, instance, settle
from tests.rig import Rig

# Answers each connection on port 8000 with a line.
ANSWERING = "sh -c 'while :; do nc -l -p 8000 -e echo hello; done'"
LEASE = PortLease(name="web", container_port=8000, host_port=41999)


class Rootless:
    """A session to a host whose engine runs as an ordinary user: its bridge is out of reach."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.facts = session.facts.model_copy(update={"uid": 1000})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


async def up(rig: Rig, session: Session, **fields: Any) -> Instance:
    """Bring a sandbox up that listens, or does what the inputs say."""
    inputs = {"image": rig.image, "command": ANSWERING} | fields.pop("inputs", {})
    wanted = instance(rig, inputs=inputs, **fields)
    await EXTENSION.provision(session, wanted)
    await settle(lambda: EXTENSION.wait_ready(session, wanted))
    return wanted


async def said(session: Session, wanted: Instance) -> bytes:
    """Return what the program on port 8000 says, once it listens."""
    answer = bytearray()

    async def connect() -> None:
        connection = await EXTENSION.forward(session, wanted, 8000)
        while data := await connection.read():
            answer.extend(data)
        connection.close()

    async def until_said() -> None:
        await connect()
        if not answer:
            raise TransientError("A published port answers before anybody listens behind it.")

    await settle(until_said)
    return bytes(answer)


async def test_port_of_a_container(rig: Rig, place: tuple[str, Session]) -> None:
    """Its address is read from the engine, by socket and by command; nothing need be published."""
    _, session = place
    wanted = await up(rig, session)

    assert await said(session, wanted) == b"hello\n"


async def test_published_port_where_the_bridge_is_out_of_reach(rig: Rig, h1: Session) -> None:
    """A rootless engine's container is reached by the port that was leased for it."""
    wanted = await up(rig, h1, ports=(LEASE,))

    assert await said(Rootless(h1), wanted) == b"hello\n"


async def test_no_way_says_what_would_make_one(rig: Rig, h1: Session) -> None:
    """Without an address and a published port there is none, and the remedy says so."""
    wanted = await up(rig, h1)

    with pytest.raises(TerminalError) as caught:
        await EXTENSION.forward(Rootless(h1), wanted, 8000)

    assert "spec.ports" in caught.value.remedy


async def test_published_port_of_another_service_is_not_taken(rig: Rig, h1: Session) -> None:
    """Each service has its own ports, whatever their numbers."""
    wanted = await up(rig, h1)
    other = replace(wanted, ports=(replace(LEASE, service="other"),))

    with pytest.raises(TerminalError):
        await EXTENSION.forward(Rootless(h1), other, 8000)
