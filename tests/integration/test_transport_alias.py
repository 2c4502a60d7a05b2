"""Hosts that are an alias of the operator's SSH configuration, on real OpenSSH servers."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxer.errors import TerminalError
from sandboxer.kinds.host import Host
from sandboxer.transport.connections import Connections
from sandboxer.transport.session import HostSession
from tests.integration.loopback_sshd import LoopbackSSHD


class Operator:
    """A home directory with an SSH configuration, and a server to reach."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ssh = home / ".ssh"
        self.ssh.mkdir(mode=0o700)

    def serve(self, name: str, *, more: str = "") -> LoopbackSSHD:
        """Start a server whose key the operator knows under *name*, and keep its login key."""
        (self.home / name).mkdir()
        server = LoopbackSSHD(self.home / name, more=more)
        server.start()
        shutil.copy(server.identity, self.ssh / f"{name}_key")
        (self.ssh / f"{name}_key").chmod(0o600)
        with (self.ssh / "known_hosts").open("a") as known:
            known.write(f"{name} {server.host_key}\n")
        return server

    def configure(self, text: str) -> None:
        """Write ~/.ssh/config; USER stands for the login name of these tests."""
        (self.ssh / "config").write_text(text.replace("USER", getpass.getuser()))


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    """Somebody without an agent."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return Operator(tmp_path)


@pytest.fixture
def server(operator: Operator) -> Iterator[LoopbackSSHD]:
    """A server the operator knows as `vm`."""
    started = operator.serve("vm")
    operator.configure(entry(started))
    yield started
    started.stop()


def entry(server: LoopbackSSHD, name: str = "vm", more: str = "") -> str:
    """Return a `Host` entry for a server."""
    return (
        f"Host {name}\n  HostName 127.0.0.1\n  Port {server.port}\n  User USER\n"
        f"  IdentityFile ~/.ssh/{name}_key\n  IdentitiesOnly yes\n  HostKeyAlias {name}\n{more}"
    )


def host(**spec: object) -> Host:
    """Return a Host that is the alias `vm`."""
    return Host.parse(
        {
            "apiVersion": "sandboxer.dev/v1alpha1",
            "kind": "Host",
            "metadata": {"name": "vm"},
            "spec": {"sshAlias": "vm", **spec},
        }
    )


async def said(wished: Host, *argv: str) -> str:
    """Return what a command prints on that Host."""
    connections = Connections()
    try:
        link = await connections.link(wished)
        done = await link.run(argv, stdin=b"", timeout_s=10, max_output_bytes=10_000)
    finally:
        await connections.close()
    return done.stdout.decode()


async def test_address_user_key_and_known_host_come_from_the_alias(
    operator: Operator, server: LoopbackSSHD
) -> None:
    """The Host says the alias only, and its target is told as user, address and port."""
    connections = Connections()
    session = HostSession(connections, host=host(), facts=host().status.facts, engine=None)
    try:
        link = await connections.link(host())
        assert (await session.run(["echo", "hello"])).stdout == b"hello\n"
    finally:
        await connections.close()

    assert link.target == session.target == f"{getpass.getuser()}@127.0.0.1:{server.port}"
    assert link.host_key == server.host_key


async def test_alias_that_asks_for_a_terminal(operator: Operator, server: LoopbackSSHD) -> None:
    """What scripts print arrives as it is: only who asks for a terminal gets one."""
    operator.configure(entry(server, more="  RequestTTY force\n"))

    assert await said(host(), "sh", "-c", "printf 'a\\nb\\n'; tty") == "a\nb\nnot a tty\n"


@pytest.mark.parametrize("known", ["", "vm ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHyGz5Zs9v3oXnQ3bqv0yXW9d0vFqG3qQ7S0Z5n3m6pS\n"])  # fmt: skip
async def test_key_that_is_not_known_is_refused(
    operator: Operator, server: LoopbackSSHD, known: str
) -> None:
    """Neither an unknown key nor another one is accepted, whatever StrictHostKeyChecking says."""
    operator.configure(entry(server, more="  StrictHostKeyChecking no\n"))
    (operator.ssh / "known_hosts").write_text(known)

    with pytest.raises(TerminalError) as refused:
        await said(host(), "true")

    assert refused.value.reason in ("HostKeyUnknown", "NoCommonAlgorithm")


async def test_pinned_key_goes_over_known_hosts(operator: Operator, server: LoopbackSSHD) -> None:
    """A Host that pins a key needs no known_hosts."""
    (operator.ssh / "known_hosts").write_text("")

    assert await said(host(hostKey=server.host_key), "echo", "hello") == "hello\n"


async def test_jump_host(operator: Operator, server: LoopbackSSHD) -> None:
    """ProxyJump is followed, with the jump host's own key, login and known_hosts entry."""
    jump = operator.serve("jump")
    operator.configure(entry(server, more="  ProxyJump jump\n") + entry(jump, "jump"))
    try:
        assert await said(host(), "echo", "hello") == "hello\n"
        jump.stop()
        with pytest.raises(Exception, match="did not answer"):
            await said(host(), "echo", "hello")
    finally:
        jump.stop()


async def test_login_by_certificate(operator: Operator) -> None:
    """CertificateFile is presented: the account trusts an authority and no key."""
    authority = operator.home / "authority"
    _make_key(authority)
    server = operator.serve("vm", more=f"TrustedUserCAKeys {authority}.pub")
    (server.directory / "authorized_keys").write_text("")
    certificate = operator.ssh / "short-lived-cert.pub"
    operator.configure(entry(server, more=f"  CertificateFile {certificate}\n"))
    try:
        _make_public(operator.ssh / "vm_key")
        _run("ssh-keygen", "-q", "-s", authority, "-I", "me", "-n", getpass.getuser(),
             "-V", "+10m", operator.ssh / "vm_key.pub")  # fmt: skip
        (operator.ssh / "vm_key-cert.pub").rename(certificate)

        assert await said(host(), "echo", "hello") == "hello\n"
    finally:
        server.stop()


async def test_tunnel_port_goes_over_the_address(operator: Operator, server: LoopbackSSHD) -> None:
    """With tunnelPort the alias's address and jump hosts are not used, its key and login are."""
    nowhere = (
        entry(server).replace("127.0.0.1", "192.0.2.1").replace("Port", "ProxyJump no\n  Port")
    )
    operator.configure(nowhere)

    assert await said(host(tunnelPort=server.port), "echo", "hello") == "hello\n"


async def test_configuration_that_cannot_be_read(operator: Operator, server: LoopbackSSHD) -> None:
    """A broken or missing configuration is named, with what to do."""
    for text in ("Host vm\n  Port many\n", None):
        if text is None:
            (operator.ssh / "config").unlink()
        else:
            operator.configure(text)

        with pytest.raises(TerminalError) as refused:
            await said(host(), "true")

        assert refused.value.reason == "SSHConfigUnusable"
        assert str(operator.ssh / "config") in refused.value.message


def _make_key(path: Path) -> None:
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)


def _make_public(path: Path) -> None:
    path.with_suffix(".pub").write_bytes(_run("ssh-keygen", "-y", "-f", path))


def _run(*argv: str | Path) -> bytes:
    return subprocess.run(argv, check=True, capture_output=True, stdin=subprocess.DEVNULL).stdout
