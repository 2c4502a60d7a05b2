"""Sessions to the VM for tests that work without a controller."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sandboxer.kinds.host import Host, HostFacts
from sandboxer.session import Session
from sandboxer.telemetry.probe import read_facts
from sandboxer.testing.faults import OpenSession
from sandboxer.transport.connections import Connections
from sandboxer.transport.session import HostSession
from tests.rig.vm import VM


def vm_sessions(vm: VM, **spec: Any) -> OpenSession:
    """
    Return how to reach the VM, over a connection of its own each time.

    *spec* goes over the fields of the Host. It is probed by the first session only, for that takes longer there than most calls.
    """
    host = Host.parse(vm.manifest(**spec))
    known: list[HostFacts] = []

    @asynccontextmanager
    async def open_session() -> AsyncIterator[Session]:
        connections = Connections()
        try:
            if not known:
                known.append(await read_facts(await connections.link(host), host, None))
            yield HostSession(connections, host=host, facts=known[0], engine=None)
        finally:
            await connections.close()

    return open_session
