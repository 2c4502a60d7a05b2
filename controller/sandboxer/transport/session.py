"""
A machine as an extension sees it: `sandboxer.session.Session` over the kept link to one host.

A session may be kept: it asks for the host's link with every call, so it goes on working after a
reconnect.
"""

from __future__ import annotations

from collections.abc import Sequence

from sandboxer.kinds.host import Host, HostFacts
from sandboxer.session import EVERYTHING, Completed, Connection, Copying, Engine, Streams
from sandboxer.transport.connections import Connections
from sandboxer.transport.login import target_of

# Bytes of each output stream of a script.
SCRIPT_OUTPUT_BYTES = 16 * 2**20


class HostSession:
    """
    Implements `sandboxer.session.Session`.

    Args:
        connections: Where the link comes from.
        host: Which machine, and how to reach it.
        facts: What the probe found there.
        engine: The engine's REST API, or None when it has to be asked by command.
    """

    def __init__(
        self, connections: Connections, *, host: Host, facts: HostFacts, engine: Engine | None
    ) -> None:
        self._connections = connections
        self._host = host
        self._facts = facts
        self._engine = engine

    def fits(self, host: Host, facts: HostFacts) -> bool:
        """Tell whether a session made now for *host* and *facts* would be this one."""
        return self._facts == facts and self.same_engine(host, facts)

    def same_engine(self, host: Host, facts: HostFacts) -> bool:
        """Tell whether *host* and *facts* lead to the same engine in the same way."""
        return (
            self._facts.engine_socket == facts.engine_socket
            and self._host.spec == host.spec
            and self._host.status.host_key == host.status.host_key
        )

    @property
    def host(self) -> str:
        """Name of the Host object."""
        return self._host.metadata.name

    @property
    def target(self) -> str:
        """`user@address:port`, empty for the local machine."""
        return "" if self._host.spec.transport == "local" else target_of(self._host)

    @property
    def facts(self) -> HostFacts:
        """What the probe found."""
        return self._facts

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout_s: float = 60.0,
        max_output_bytes: int = 16 * 2**20,
    ) -> Completed:
        """Run one command and return when it has ended."""
        link = await self._connections.link(self._host)
        return await link.run(
            argv, stdin=stdin, timeout_s=timeout_s, max_output_bytes=max_output_bytes
        )

    async def script(
        self, text: str, *arguments: str, stdin: bytes = b"", timeout_s: float = 60.0
    ) -> Completed:
        """Run POSIX `sh` *text* with `$1`… set to *arguments*; one round trip."""
        argv = ["sh", "-c", text, "sh", *arguments]
        return await self.run(
            argv, stdin=stdin, timeout_s=timeout_s, max_output_bytes=SCRIPT_OUTPUT_BYTES
        )

    async def stream(self, argv: Sequence[str], streams: Streams) -> int:
        """Run one command with its streams connected; return its exit status."""
        link = await self._connections.link(self._host)
        return await link.stream(argv, streams)

    async def connect(self, address: str, port: int, *, timeout_s: float = 10.0) -> Connection:
        """Connect to a TCP port as a program on the machine would."""
        link = await self._connections.link(self._host)
        return await link.connect(address, port, timeout_s=timeout_s)

    async def upload(
        self,
        source: str,
        destination: str,
        *,
        copying: Copying = EVERYTHING,
        timeout_s: float = 600.0,
    ) -> None:
        """Make directory *destination* on the machine a copy of local directory *source*."""
        link = await self._connections.link(self._host)
        await link.upload(source, destination, copying=copying, timeout_s=timeout_s)

    def engine(self) -> Engine | None:
        """Return the container engine's REST API, or None when it has to be asked by command."""
        return self._engine
