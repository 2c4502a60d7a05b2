"""Where the API listens: an address written `HOST:PORT`, and its socket."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sandboxer.errors import ConflictError, InvalidSpecError, TerminalError
from sandboxer.settings import socket_address

logger = logging.getLogger(__name__)

# Connections the kernel keeps for us until we accept them; listen(2).
BACKLOG = 128

MAX_PORT = 65535

# Seconds, seconds and times after which a silent peer is asked and given up, tcp(7): a watch is
# silent for an hour, and HTTP/1.1 has no ping of its own.
_KEEPALIVE = (
    (socket.TCP_KEEPIDLE, 30),
    (socket.TCP_KEEPINTVL, 10),
    (socket.TCP_KEEPCNT, 3),
)


class Address(NamedTuple):
    """A host name or an IP address, empty for all of this machine, and a port; 0 is any."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return `HOST:PORT`, with brackets around IPv6."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every address of this machine."""
        return self.host in ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def url(self) -> str:
        """What a client on this machine uses."""
        return f"https://{Address('127.0.0.1', self.port) if self.is_wildcard else self}"


# Not 6443: a k3s or a kubeadm on the same machine has it.
DEFAULT_ADDRESS = Address("127.0.0.1", 7443)


def parse_address(text: str) -> Address:
    """
    Read `HOST:PORT`, `[IPV6]:PORT` or `:PORT`.

    Raises:
        InvalidSpecError: It is written otherwise.
    """
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= len("65535") else -1
    if not colon or not 0 <= number <= MAX_PORT or (":" in bare and bare == host):
        raise InvalidSpecError(
            f"{text[:64]!r} is not an address to listen on.",
            remedy="Write HOST:PORT, such as 127.0.0.1:7443 or [::1]:7443.",
        )
    return Address(bare, number)


def listen_tcp(address: Address) -> socket.socket:
    """
    Return a listening socket whose connections notice a dead peer.

    Raises:
        ConflictError: The port is taken.
        TerminalError: The address cannot be listened on; the message says why.
    """
    try:
        family, sockaddr = _resolved(address)
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            # Accepted connections inherit these.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                listening.setsockopt(socket.IPPROTO_TCP, option, value)
            # NOTE: asyncio sets this only on sockets made with IPPROTO_TCP. Without it the body of an
            # answer waits 40 ms for the client's delayed acknowledgement of the head.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listening.bind(sockaddr)
            listening.listen(BACKLOG)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        raise _not_listening(address, error) from error
    return listening


def _resolved(address: Address) -> tuple[int, tuple[object, ...]]:
    # All addresses at once are those of IPv6, which take IPv4 too, where the machine can do that.
    everywhere = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    family, _, _, _, sockaddr = socket.getaddrinfo(
        address.host or None,
        address.port,
        family=socket.AF_UNSPEC if address.host else everywhere,
        type=socket.SOCK_STREAM,
        flags=socket.AI_PASSIVE,
    )[0]
    return family, sockaddr


def _not_listening(address: Address, error: OSError) -> ConflictError | TerminalError:
    if error.errno == errno.EADDRINUSE:
        return ConflictError(
            f"cannot listen on {address}: the port is taken.",
            reason="PortTaken",
            remedy=f"See who has it with `ss -ltnp 'sport = :{address.port}'`, choose another with "
            "--listen HOST:PORT, or serve the Unix socket only with --listen none.",
        )
    return TerminalError(
        f"cannot listen on {address}: {error.strerror}.",
        reason="CannotListen",
        remedy="Choose an address of this machine and a port above 1023 with --listen HOST:PORT.",
    )


@contextmanager
def listening_unix(path: Path) -> Iterator[socket.socket]:
    """Listen on a Unix socket that only this user can connect to; it is removed afterwards."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        # NOTE: the umask of the process decides the mode of the socket between bind and chmod.
        before = os.umask(0o177)
        try:
            listening.bind(socket_address(path))
        finally:
            os.umask(before)
        listening.listen(BACKLOG)
        try:
            yield listening
        finally:
            path.unlink(missing_ok=True)
