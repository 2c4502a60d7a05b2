"""
Open an SSH connection: whose key the host must show, with which key we log in, what went wrong.

Nothing of the operator's own SSH configuration is read (`config=None`) unless the Host names an
alias of it (`spec.sshAlias`, see `sandboxer.transport.alias`). Nothing is forwarded, and an unknown
host key is never accepted silently.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import asyncssh

from sandboxer.errors import SandboxerError, TerminalError
from sandboxer.kinds.host import Host
from sandboxer.transport import alias
from sandboxer.transport.link import unreachable
from sandboxer.transport.ssh import SSHLink

# Seconds for TCP and key exchange, and for logging in; a hung sshd accepts and never answers.
CONNECT_TIMEOUT_S = 10.0
LOGIN_TIMEOUT_S = 15.0

# Seconds for all of it together: the steps on the way over a jump host have no limit of their own.
CONNECT_LIMIT_S = 60.0

# Seconds between keepalives and how many may stay unanswered: a cut link is noticed within 20 s.
# 300 idle connections cost 1.4 % of a core at 10 s (measured).
KEEPALIVE_INTERVAL_S = 5.0
KEEPALIVE_COUNT = 3

# Permission bits other accounts must not have on a private key, as ssh(1) demands.
_OTHERS_MODE = 0o077


# What holds for every connection, however it is found.
_LIMITS: dict[str, Any] = {
    "preferred_auth": "publickey",
    "gss_host": None,
    "x509_trusted_certs": None,
    "agent_forwarding": False,
    "compression_algs": None,
    # An alias with `RequestTTY force` would change every line of what scripts print.
    "request_pty": False,
    "connect_timeout": CONNECT_TIMEOUT_S,
    "login_timeout": LOGIN_TIMEOUT_S,
    "keepalive_interval": KEEPALIVE_INTERVAL_S,
    "keepalive_count_max": KEEPALIVE_COUNT,
}


@dataclass(frozen=True, slots=True)
class _KeyFile:
    """A private key as it was read; read again when the file changes."""

    modified_ns: int
    key: asyncssh.SSHKey


class KeyRing:
    """
    Private keys, each parsed once.

    asyncssh given a path parses the file on each connect: 120 ms of CPU for an RSA key (measured).
    """

    def __init__(self) -> None:
        self._keys: dict[Path, _KeyFile] = {}

    async def read(self, host: str, identity_file: str) -> asyncssh.SSHKey:
        """
        Return the private key in *identity_file*.

        Raises:
            TerminalError: It cannot be read, is readable by others, or needs a passphrase.
        """
        path = Path(identity_file).expanduser()  # noqa: ASYNC240 - a local file, once per connect
        try:
            status = path.stat()
            known = self._keys.get(path)
            if known is not None and known.modified_ns == status.st_mtime_ns:
                return known.key
            if status.st_mode & _OTHERS_MODE:
                raise _bad_key(host, path, "other accounts can read it", f"Run chmod 600 {path}.")
            key = await asyncio.to_thread(asyncssh.read_private_key, path)
        except asyncssh.KeyEncryptionError as err:
            remedy = "Add it to an SSH agent and leave spec.identityFile out."
            raise _bad_key(host, path, "it needs a passphrase", remedy) from err
        except (OSError, asyncssh.KeyImportError) as err:
            remedy = "Set spec.identityFile to a private key of this machine."
            raise _bad_key(host, path, str(err), remedy) from err
        self._keys[path] = _KeyFile(status.st_mtime_ns, key)
        return key


class _Client(asyncssh.SSHClient):
    """Decides about a host key that is not the pinned one, and remembers what was shown."""

    def __init__(self, *, accept: bool) -> None:
        self._accept = accept
        self.shown: asyncssh.SSHKey | None = None

    def validate_host_public_key(
        self,
        host: str,  # noqa: ARG002 - asyncssh's signature
        addr: str,  # noqa: ARG002 - asyncssh's signature
        port: int,  # noqa: ARG002 - asyncssh's signature
        key: asyncssh.SSHKey,
    ) -> bool:
        """Accept an unknown key only on an explicit first use."""
        self.shown = key
        return self._accept


async def open_ssh(host: Host, *, pinned: str, keys: KeyRing) -> SSHLink:
    """
    Connect, check the host's key, log in, and open the first channel.

    Args:
        host: Whom to reach; `spec.address` is set.
        pinned: Public key the host must show, or empty when none is known yet.
        keys: Where private keys are read from.

    Raises:
        UnreachableError: It did not answer in time, or the connection broke.
        TerminalError: Host key or login were refused; the remedy says what to do.
    """
    client = _Client(accept=host.spec.trust_on_first_use and not pinned)
    target = target_of(host)
    try:
        options = await _options(host, pinned, keys)
        async with asyncio.timeout(CONNECT_LIMIT_S), _tunnel(host) as tunnel:
            connection = await asyncssh.connect(client_factory=lambda: client, **options, **tunnel)
    except (OSError, asyncssh.Error, ValueError) as err:
        raise _explain(host, pinned, client, err) from err
    link = SSHLink(
        connection,
        host=host.metadata.name,
        target=target,
        host_key=_public_text(cast("asyncssh.SSHKey", connection.get_server_host_key())),
    )
    try:
        await _try_shell(link)
    except BaseException:
        await link.close()
        raise
    return link


def target_of(host: Host) -> str:
    """
    Return `user@address:port` of a Host that is reached over SSH.

    Raises:
        TerminalError: It is an alias, and the SSH configuration cannot be read.
    """
    spec = host.spec
    if spec.ssh_alias is not None:
        return alias.look_up(host.metadata.name, spec).target
    return f"{spec.user}@{spec.address}:{spec.port}"


@contextlib.asynccontextmanager
async def _tunnel(host: Host) -> AsyncIterator[dict[str, Any]]:
    """Yield the options that lead through the Host's reverse tunnel; none when it has none."""
    port = host.spec.tunnel_port
    if port is None:
        yield {}
        return
    local_end = socket.socket()
    local_end.setblocking(False)  # noqa: FBT003 - the socket's own signature
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await asyncio.get_running_loop().sock_connect(local_end, (alias.LOOPBACK, port))
        # Address, jump hosts and proxy of the alias would lead around the tunnel.
        yield {"sock": local_end, "tunnel": None, "proxy_command": None}
    except BaseException:
        local_end.close()
        raise


def _alias_options(host: Host, pinned: str) -> dict[str, Any]:
    way = alias.look_up(host.metadata.name, host.spec)
    known = (
        ([_pinned_key(host, pinned)], [], [])
        if pinned
        else alias.trusted_keys(host.metadata.name, way)
    )
    # User, keys, certificates, jump hosts and the address come from the file.
    return {
        **_LIMITS,
        "host": way.alias,
        "config": [str(alias.config_path())],
        "known_hosts": known,
    }


def _pinned_key(host: Host, pinned: str) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_public_key(pinned)
    except asyncssh.KeyImportError as err:
        raise TerminalError(
            f"The pinned key of host {host.metadata.name} is no public key.",
            reason="HostKeyInvalid",
            remedy="Copy the line of /etc/ssh/ssh_host_ed25519_key.pub there into spec.hostKey.",
        ) from err


async def _options(host: Host, pinned: str, keys: KeyRing) -> dict[str, Any]:
    spec = host.spec
    if spec.ssh_alias is not None:
        return await asyncio.to_thread(_alias_options, host, pinned)
    options: dict[str, Any] = {
        **_LIMITS,
        "host": spec.address,
        "port": spec.port,
        "username": spec.user,
        "config": None,
        "known_hosts": ([_pinned_key(host, pinned)] if pinned else [], [], []),
    }
    if spec.identity_file is not None:
        options["client_keys"] = [await keys.read(host.metadata.name, spec.identity_file)]
        options["agent_path"] = None
    return options


async def _try_shell(link: SSHLink) -> None:
    """Run nothing: it proves the account has a shell, and takes the first channel's 40 ms stall."""
    done = await link.run(["true"], stdin=b"", timeout_s=LOGIN_TIMEOUT_S, max_output_bytes=2**20)
    if done.exit_status:
        raise TerminalError(
            f"The account {link.target} of host {link.host} cannot run commands: "
            f"{done.error_text(200) or f'exit status {done.exit_status}'}",
            reason="LoginShellRefused",
            remedy="Give it a POSIX login shell without a forced command.",
        )


def _explain(
    host: Host, pinned: str, client: _Client, err: OSError | asyncssh.Error | ValueError
) -> SandboxerError:
    name, target = host.metadata.name, target_of(host)
    if isinstance(err, asyncssh.HostKeyNotVerifiable) and client.shown is not None:
        return _wrong_key(name, pinned, client.shown)
    if isinstance(err, asyncssh.PermissionDenied):
        return TerminalError(
            f"Host {name} refused the login of {target} with a public key.",
            reason="LoginRefused",
            remedy="Add the public key to the account's authorized_keys, or set spec.user and "
            "spec.identityFile.",
        )
    if isinstance(err, asyncssh.KeyExchangeFailed):
        return TerminalError(
            f"Host {name} offers no usable SSH algorithm: {err.reason}.",
            reason="NoCommonAlgorithm",
            remedy="If spec.hostKey is set, pin a key of a type this host has.",
        )
    if isinstance(err, ValueError) and host.spec.ssh_alias is not None:
        return TerminalError(
            f"Host {name} cannot be reached by its alias {host.spec.ssh_alias}: {err}.",
            reason="SSHConfigUnusable",
            remedy=f"Mend that entry of {alias.config_path()}.",
        )
    if isinstance(err, TimeoutError):
        return unreachable(name, f"connecting to {target}", "it took too long")
    return unreachable(name, f"connecting to {target}", err)


def _wrong_key(name: str, pinned: str, shown: asyncssh.SSHKey) -> TerminalError:
    text = f"{shown.get_fingerprint()} ({_public_text(shown)})"
    if pinned:
        expected = asyncssh.import_public_key(pinned).get_fingerprint()
        return TerminalError(
            f"Host {name} shows the key {text}, and {expected} is pinned: it was installed anew, "
            "or somebody answers in its place.",
            reason="HostKeyMismatch",
            remedy="Check the key on the machine itself, then set it as spec.hostKey.",
        )
    return TerminalError(
        f"The key of host {name} is not known. It shows {text}.",
        reason="HostKeyUnknown",
        remedy="Compare it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the machine "
        "and set it as spec.hostKey, or set spec.trustOnFirstUse on a network you trust.",
    )


def _public_text(key: asyncssh.SSHKey) -> str:
    algorithm, data, *_comment = key.export_public_key().decode().split()
    return f"{algorithm} {data}"


def _bad_key(host: str, path: Path, why: str, remedy: str) -> TerminalError:
    return TerminalError(
        f"Cannot use the private key {path} for host {host}: {why}.",
        reason="IdentityUnusable",
        remedy=remedy,
    )
