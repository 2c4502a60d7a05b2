"""
An alias of the operator's SSH configuration: where it leads, and which host keys it trusts.

The only module that reads ~/.ssh/config and known_hosts, and only for a Host with `sshAlias`.
asyncssh reads the same file once more when it connects, for keys, certificates and jump hosts.
"""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import asyncssh
from asyncssh.config import ConfigParseError, SSHClientConfig

from sandboxer.errors import TerminalError
from sandboxer.kinds.host import HostSpec

SSH_PORT = 22

# Where the local end of a reverse tunnel listens.
LOOPBACK = "127.0.0.1"

TrustedKeys = tuple[Sequence[asyncssh.SSHKey], Sequence[asyncssh.SSHKey], Sequence[asyncssh.SSHKey]]
"""Host keys, keys of certificate authorities, revoked keys; the form asyncssh takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Where an alias leads."""

    alias: str
    user: str
    address: str
    port: int
    recorded_as: tuple[tuple[str, int], ...]
    """Name and port under which ssh(1) records the machine's key."""
    known_hosts: tuple[str, ...]
    """Files, existing ones only."""

    @property
    def target(self) -> str:
        """`user@address:port`."""
        return f"{self.user}@{self.address}:{self.port}"


def config_path() -> Path:
    """Return the SSH configuration of this process's user."""
    return Path.home() / ".ssh" / "config"


def look_up(host: str, spec: HostSpec) -> Way:
    """
    Return where `spec.sshAlias` leads now.

    Raises:
        TerminalError: The SSH configuration cannot be read.
    """
    assert spec.ssh_alias is not None
    path = config_path()
    try:
        # A configuration that is included may change unseen; the way is only shown by this.
        return _look_up(spec.ssh_alias, spec.tunnel_port, path, path.stat().st_mtime_ns)
    except (OSError, ValueError) as err:
        raise _unreadable(host, err) from err


def trusted_keys(host: str, way: Way) -> TrustedKeys:
    """
    Return what known_hosts says of the machine.

    Raises:
        TerminalError: One of the files cannot be read.
    """
    if not way.known_hosts:
        return (), (), ()
    try:
        known = asyncssh.read_known_hosts(list(way.known_hosts))
        found = [_match(known, name, port) for name, port in way.recorded_as]
    except (OSError, ValueError) as err:
        raise TerminalError(
            f"The known_hosts files of {way.alias} (host {host}) cannot be read: {err}.",
            reason="KnownHostsUnreadable",
            remedy=f"Mend {', '.join(way.known_hosts)}, or set spec.hostKey of the Host.",
        ) from err
    keys, authorities, revoked = zip(*found, strict=True)
    return _flat(keys), _flat(authorities), _flat(revoked)


def _unreadable(host: str, err: OSError | ValueError) -> TerminalError:
    why = "it cannot be understood" if isinstance(err, ConfigParseError) else "it cannot be read"
    return TerminalError(
        f"Host {host} is reached by an alias of {config_path()}, and {why}: {err}.",
        reason="SSHConfigUnusable",
        remedy="Mend that file, or give the Host an address instead of sshAlias.",
    )


@lru_cache(maxsize=512)
def _look_up(alias: str, tunnel_port: int | None, path: Path, _modified_ns: int) -> Way:
    local_user = getpass.getuser()
    config = SSHClientConfig.load(
        None, [path], False, False, False, local_user, (), alias, ()  # noqa: FBT003 - asyncssh's own order
    )  # fmt: skip
    user = cast("str", config.get("User", local_user))
    hostname = cast("str", config.get("Hostname", alias))
    port = cast("int", config.get("Port", SSH_PORT))
    # ssh(1) records an alias of the key without a port.
    named = cast("str | None", config.get("HostKeyAlias"))
    recorded_as = [(named, SSH_PORT) if named else (hostname, port)]
    if tunnel_port:
        hostname, port = LOOPBACK, tunnel_port
        recorded_as.append((hostname, port))
    files = cast("list[str]", config.get("UserKnownHostsFile", ["~/.ssh/known_hosts"]))
    return Way(
        alias=alias,
        user=user,
        address=hostname,
        port=port,
        recorded_as=tuple(recorded_as),
        known_hosts=tuple(_existing(files)),
    )


def _existing(files: Iterable[str]) -> Iterator[str]:
    for name in files:
        path = Path(name).expanduser()
        if path.is_file():
            yield str(path)


def _match(known: asyncssh.SSHKnownHosts, name: str, port: int) -> tuple[Any, Any, Any]:
    keys, authorities, revoked, *_x509 = known.match(name, "", None if port == SSH_PORT else port)
    return keys, authorities, revoked


def _flat(several: Iterable[Iterable[asyncssh.SSHKey]]) -> list[asyncssh.SSHKey]:
    return list(dict.fromkeys(key for keys in several for key in keys))
