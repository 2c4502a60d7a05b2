"""
`ssh`: the machine a sandbox is on, in the sandbox's directory, by the `ssh` of this machine.

The way is the Host's, as the controller goes it: its address or its alias, its tunnel, its key
file, and the host key the controller has seen; no other key is accepted. What an alias forwards, runs
or shares besides is left out: nothing of this machine is opened to the other one.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from sandboxer.cli.access import with_api
from sandboxer.cli.exits import RefusedError
from sandboxer.cli.names import get_sandbox
from sandboxer.cli.options import current_namespace, namespace_option
from sandboxer.cli.reachability import known_way
from sandboxer.errors import InvalidSpecError, TerminalError
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import Sandbox

if TYPE_CHECKING:
    from sandboxer.cli.access import Access

# Where the local end of a tunnel listens.
LOOPBACK = "127.0.0.1"

LOGIN_SHELL = 'exec "${SHELL:-/bin/sh}" -l'

# What an entry of the user's SSH configuration may ask for and does not get: the agent, windows and
# ports for the other machine, commands of its own, and a connection that somebody else has opened,
# whose host key nobody checks here. Each is of OpenSSH 7.6 or older.
NOT_FROM_ALIAS = {
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "ClearAllForwardings": "yes",
    "Tunnel": "no",
    "RemoteCommand": "none",
    "PermitLocalCommand": "no",
    "ControlMaster": "no",
    "ControlPath": "none",
}


class Target(NamedTuple):
    """Where to go."""

    host: Host
    host_key: str
    """`algorithm base64`."""
    directory: str


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("name", metavar="ID")
@click.argument("argv", metavar="[-- COMMAND ARG…]", nargs=-1, type=click.UNPROCESSED)
@namespace_option
def ssh(name: str, argv: Sequence[str], *, namespace: str | None) -> int:
    """
    Log in to the machine a sandbox is on, in the sandbox's directory.

    That is outside of its containers; exec is the way inside. The exit code is that of ssh.
    """
    words = argv[1:] if argv[:1] == ("--",) else argv

    async def work(access: Access) -> Target:
        sandbox = await get_sandbox(access.client, name, current_namespace(namespace))
        host = (
            await access.client.get(Host, sandbox.status.host, "") if sandbox.status.host else None
        )
        return _target(sandbox, host)

    return _run(with_api(work), words)


def _target(sandbox: Sandbox, host: Host | None) -> Target:
    """
    Return where a sandbox is.

    Raises:
        RefusedError: SSH does not lead there, or the host's key was never seen.
    """
    way = known_way(sandbox)
    if host is None or host.spec.transport != "ssh":
        where = f"this machine, in {way.remote_dir}" if host is not None else "no Host"
        raise RefusedError(
            f"{sandbox.key} is on {where}, and SSH does not lead there.",
            reason="NoSSH",
            remedy=f"Use: sandboxer exec -i -t {sandbox.metadata.name} -- sh",
        )
    key = host.spec.host_key or host.status.host_key
    if not key:
        raise RefusedError(
            f"The key of host {host.metadata.name} was never seen, so it cannot be checked.",
            reason="HostKeyUnknown",
            remedy=f"See: sandboxer describe host {host.metadata.name}",
        )
    return Target(host, key, way.remote_dir)


def _run(target: Target, words: Sequence[str]) -> int:
    """Run ssh until it ends and return its exit status."""
    with tempfile.TemporaryDirectory(prefix="sandboxer-") as directory:
        known_hosts = Path(directory) / "known_hosts"
        known_hosts.write_text(f"{target.host.metadata.name} {target.host_key}\n")
        # What goes into a file or a pipe must arrive as it is; a terminal would make CRLF of LF.
        terminal = sys.stdin.isatty() and sys.stdout.isatty()
        command = ssh_command(target, known_hosts, words, terminal=terminal)
        # NOTE: Ctrl-C is ssh's, which gets it too; a handler, unlike SIG_IGN, is not inherited.
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            status = subprocess.run(command, check=False).returncode
        except FileNotFoundError as error:
            raise TerminalError(
                "There is no `ssh` on this machine.",
                reason="NoSSHClient",
                remedy="Install the OpenSSH client.",
            ) from error
        finally:
            signal.signal(signal.SIGINT, before)
    return status if status >= 0 else 128 - status


def ssh_command(
    target: Target, known_hosts: Path, words: Sequence[str], *, terminal: bool
) -> list[str]:
    """
    Return the command line of ssh(1).

    Args:
        target: Where to go.
        known_hosts: A file with the one key that is accepted.
        words: Command to run there; none means a login shell.
        terminal: Ask for a terminal there; otherwise there is none, whatever an alias says.

    Raises:
        InvalidSpecError: No program can be given one of the words.
    """
    if any("\0" in word for word in words):
        raise InvalidSpecError("An argument contains a NUL character.", reason="CommandInvalid")
    inside = f"exec {shlex.join(words)}" if words else LOGIN_SHELL
    options = {
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": target.host.metadata.name,
        "UpdateHostKeys": "no",
        **NOT_FROM_ALIAS,
    }
    return [
        "ssh", "-t" if terminal else "-T", *_options(options), *_way(target.host),
        f"cd {shlex.quote(target.directory)} && {inside}",
    ]  # fmt: skip


def _way(host: Host) -> list[str]:
    """Return the options and the destination that lead to a machine."""
    spec = host.spec
    if spec.ssh_alias is not None:
        # Address, jump hosts and proxy of the alias would lead around the tunnel.
        tunnel = {
            "HostName": LOOPBACK, "Port": str(spec.tunnel_port), "ProxyJump": "none",
            "ProxyCommand": "none",
        }  # fmt: skip
        through = _options(tunnel) if spec.tunnel_port else []
        # Named, as ssh(1) would look in the home of the account, whatever HOME says.
        return ["-F", str(Path.home() / ".ssh" / "config"), *through, "--", spec.ssh_alias]
    identity = ["-i", spec.identity_file] if spec.identity_file is not None else []
    only = _options({"IdentitiesOnly": "yes", "IdentityAgent": "none"}) if identity else []
    # `-F none`: a Host with an address owes nothing to the SSH configuration of the user.
    way = ["-F", "none", "-p", str(spec.port), "-l", spec.user, *identity, *only]
    return [*way, "--", spec.address or ""]


def _options(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
