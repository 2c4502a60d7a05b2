"""Where an API is and who asks: a Unix socket, or a URL with a token."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from sandboxer.errors import InvalidSpecError
from sandboxer.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One API server, as a client reaches it."""

    url: str = "http://sandboxer"
    """Scheme, host and port; behind a socket only the host's name in requests."""
    socket: Path | None = None
    """Unix socket; None means the URL's host and port."""
    token: str = field(default="", repr=False)
    """Bearer token; a socket needs none, its file's mode is the key."""
    ca_file: Path | None = None
    """PEM file of the authority that signed the server's certificate; None means the system's."""

    @property
    def where(self) -> str:
        """How messages call it."""
        return str(self.socket) if self.socket else self.url


def server_from_settings(settings: Settings) -> Server | None:
    """
    Return the server that SANDBOXER_SERVER names; None when it is not set.

    Raises:
        InvalidSpecError: It is not a URL that can be used, or a token would travel in clear.
    """
    if not settings.server:
        return None
    parts = urlsplit(settings.server)
    if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
        return Server(socket=Path(parts.path))
    if parts.scheme not in ("http", "https") or not _has_host(settings.server):
        raise InvalidSpecError(
            f"SANDBOXER_SERVER is {settings.server!r}, which is no URL of a server.",
            remedy="Write https://HOST:PORT, or unix:///path/of/socket.",
        )
    if parts.scheme == "http" and settings.token and not _is_loopback(parts.hostname or ""):
        raise InvalidSpecError(
            f"SANDBOXER_SERVER is {settings.server!r}: the token would travel in clear.",
            remedy="Use https://, or unset SANDBOXER_TOKEN.",
        )
    url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    return Server(url=url, token=settings.token, ca_file=settings.ca_file)


def _has_host(url: str) -> bool:
    """Tell whether a URL has a host, a port that is one, and nothing that could hide another."""
    parts = urlsplit(url)
    try:
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and " " not in url and "@" not in parts.netloc
    return bool(parts.hostname) and port_is_fine and plain and not (parts.query or parts.fragment)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
