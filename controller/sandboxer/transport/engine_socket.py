"""
Connect to a host's engine socket, and start podman's API service where nobody else does.

Docker's daemon always listens. Podman listens only under systemd's `podman.socket`; elsewhere we
run `podman system service` ourselves, detached, with a socket inside the work root (mode 0700). It
ends by itself after ten idle minutes, and is started again by the next request.
"""

from __future__ import annotations

import asyncio

from sandboxer.errors import TransientError, UnreachableError
from sandboxer.kinds.host import Host, HostFacts
from sandboxer.transport.connections import Connections
from sandboxer.transport.link import ByteReader, ByteWriter, Link

OWN_SOCKET_NAME = ".engine.sock"
"""Name of our own service's socket in the work root; also in `telemetry/facts.sh`."""

# Seconds the start script may take; it waits up to 5 s for the service to answer.
_START_TIMEOUT_S = 20.0

# $1 socket. `flock -o`: without it the containers' monitors inherit the lock and hold it for ever.
# The lock is held as long as the service runs, so a second start finds it taken and only waits.
START_SERVICE = """
umask 077
setsid flock -o -n "$1.lock" sh -c 'rm -f -- "$1"
  exec podman system service --time 600 "unix://$1"' sh "$1" </dev/null >/dev/null 2>&1 &
tries=0
until podman --remote --url "unix://$1" version >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ "$tries" -ge 50 ] && exit 1
  sleep 0.1
done
"""


class EngineSocket:
    """
    The way to the engine's API on one host.

    Args:
        connections: Where the link comes from.
        host: Which machine.
        facts: What the probe found there; `engine_socket` is set.
    """

    def __init__(self, connections: Connections, host: Host, facts: HostFacts) -> None:
        self._connections = connections
        self._host = host
        self._facts = facts
        self._starting = asyncio.Lock()

    async def open(self) -> tuple[ByteReader, ByteWriter]:
        """
        Return a stream to the engine's API, starting our own service when it is gone.

        Raises:
            UnreachableError: The host or the socket does not answer.
            TransientError: The SSH server forbids connections to sockets.
        """
        link = await self._connections.link(self._host)
        path = self._facts.engine_socket
        try:
            return await link.open_socket(path)
        except UnreachableError:
            if not link.alive or path != own_socket(self._facts):
                raise
        # One caller starts the service, the others find it there.
        async with self._starting:
            try:
                return await link.open_socket(path)
            except UnreachableError:
                await _start_service(link, path)
            try:
                return await link.open_socket(path)
            except UnreachableError as err:
                # It answers on the machine, so the SSH server is in between; sshd's refusal looks
                # like that of a dead socket.
                raise _forbidden(link.host, path) if link.alive else err from err


def _forbidden(host: str, path: str) -> TransientError:
    return TransientError(
        f"The SSH server of host {host} does not connect us to {path}, where podman answers.",
        reason="ForwardingForbidden",
        remedy="Set AllowStreamLocalForwarding yes in its sshd_config.",
    )


def own_socket(facts: HostFacts) -> str:
    """Return where our own podman service listens on a host with these facts."""
    return f"{facts.work_root}/{OWN_SOCKET_NAME}"


async def _start_service(link: Link, path: str) -> None:
    done = await link.run(
        ["sh", "-c", START_SERVICE, "sh", path],
        stdin=b"",
        timeout_s=_START_TIMEOUT_S,
        max_output_bytes=2**20,
    )
    if done.exit_status:
        raise UnreachableError(
            f"The API service of podman on host {link.host} does not answer: "
            f"{done.error_text(200)}",
            reason="EngineUnreachable",
            remedy="Run `podman system service --time 0` there by hand to see why.",
        )
