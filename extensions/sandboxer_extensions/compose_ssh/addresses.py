"""
The way to a port inside a container: its address on the host's bridge, else a published port.

The bridge of a rootless podman lies in a network namespace of its own, out of reach of the SSH
server; there only ports in `spec.ports` can be reached.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from sandboxer.errors import TerminalError, TransientError
from sandboxer.extension import Instance
from sandboxer.session import Connection, Session
from sandboxer_extensions.compose_ssh.inventory import Container
from sandboxer_extensions.compose_ssh.stack import LABEL_SERVICE

# Seconds for a connection on the host itself, where the answer takes microseconds.
_CONNECT_S = 5.0


async def connect(
    session: Session, instance: Instance, container: Container, port: int
) -> Connection:
    """
    Connect to *port* of a running container; see `Extension.forward`.

    Raises:
        TransientError: Nothing listens there now.
        TerminalError: There is no way to it.
    """
    published = _published(instance, container, port)
    try:
        for address in await _addresses(session, container):
            return await session.connect(address, port, timeout_s=_CONNECT_S)
    except TransientError as error:
        if published is None or error.reason != "ConnectionRefused":
            raise _with_hint(error, instance, container, port) from error
    if published is None:
        raise TerminalError(
            f"Port {port} of service {_service(container)} of {instance.namespace}/{instance.name} "
            f"cannot be reached from host {session.host}: the container has no address there.",
            reason="NoAddress",
            remedy="Name the port in spec.ports, which publishes it on the host.",
        )
    return await session.connect("127.0.0.1", published, timeout_s=_CONNECT_S)


def _with_hint(
    error: TransientError, instance: Instance, container: Container, port: int
) -> TransientError:
    if error.reason != "ConnectionRefused":
        return error
    return TransientError(
        f"Port {port} of service {_service(container)} of {instance.namespace}/{instance.name} "
        f"takes no connection. {error.message}",
        reason=error.reason,
        remedy="The program must listen on 0.0.0.0; its own 127.0.0.1 is inside the container only.",
    )


def _service(container: Container) -> str:
    return container.labels.get(LABEL_SERVICE, container.name)


def _published(instance: Instance, container: Container, port: int) -> int | None:
    """Return the host's port that leads to *port* of this container, if one does."""
    for lease in instance.ports:
        if lease.container_port == port and lease.service in ("", _service(container)):
            return lease.host_port
    return None


async def _addresses(session: Session, container: Container) -> list[str]:
    """Return the container's addresses that the host can reach, in the engine's order."""
    facts = session.facts
    if facts.engine == "podman" and facts.uid != 0:
        return []
    engine = session.engine()
    try:
        if engine is not None:
            inspected = await engine.get(f"/containers/{container.id}/json")
        else:
            done = await session.run([facts.engine, "inspect", container.id])
            inspected = json.loads(done.stdout or b"[{}]")[0]
        return list(_read_addresses(inspected))
    except (ValidationError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise TransientError(
            f"The engine of host {session.host} gave an answer that cannot be read.",
            reason="BadAnswer",
        ) from error


def _read_addresses(inspected: Any) -> Iterator[str]:
    settings = inspected["NetworkSettings"]
    networks = [network for network in (settings.get("Networks") or {}).values() if network]
    for network in (*networks, settings):
        address = network.get("IPAddress")
        # An address and nothing else may go to the machine's resolver.
        if isinstance(address, str) and address:
            yield str(ipaddress.ip_address(address))
