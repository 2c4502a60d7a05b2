"""This machine as a Host and a Session, for trying an extension without a controller."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sandboxer.kinds.host import LOCAL_HOST, Host, HostFacts, HostSpec, HostStatus
from sandboxer.kinds.meta import ObjectMeta
from sandboxer.session import Session
from sandboxer.transport.connections import Connections
from sandboxer.transport.session import HostSession

# Programs the probe looks for, see `HostFacts.tools`.
OPTIONAL_TOOLS = ("bwrap", "unshare", "flock", "packer", "rsync", "setsid")


def local_host(work_root: Path) -> Host:
    """
    Return the Host for this machine as it is after a probe.

    Args:
        work_root: Existing directory that nobody else can write to, for the workspaces.
    """
    found = {tool: shutil.which(tool) for tool in OPTIONAL_TOOLS}
    facts = HostFacts(
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip(),
        hostname=platform.node(),
        architecture=platform.machine(),
        uid=os.getuid(),
        home=str(Path.home()),
        work_root=str(work_root),
        tools={tool: path for tool, path in found.items() if path},
    )
    return Host(
        metadata=ObjectMeta(name=LOCAL_HOST),
        spec=HostSpec(transport="local"),
        status=HostStatus(facts=facts),
    )


@asynccontextmanager
async def open_local_session(work_root: Path) -> AsyncIterator[Session]:
    """Open a session to this machine, the same the controller uses, without a container engine."""
    host = local_host(work_root)
    connections = Connections()
    try:
        yield HostSession(connections, host=host, facts=host.status.facts, engine=None)
    finally:
        await connections.close()
