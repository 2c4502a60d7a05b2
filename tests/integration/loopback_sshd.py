"""A real OpenSSH server on a free port of 127.0.0.1, with keys of its own, as any user."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import asyncssh

from sandboxer.kinds.host import Host

# Seconds until sshd must accept connections; it takes 0.05 s here.
_START_S = 60.0

_CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
LogLevel ERROR
{more}
SetEnv SHLVL=2
"""
# sshd takes the first of two lines, so `more` goes over the rest. SHLVL: bash reads the developer's ~/.bashrc in a first-level shell under sshd, which costs up to
# 0.1 s per command and may print anything.


async def until(holds: Callable[[], bool]) -> None:
    """Return when *holds*; fail after a minute."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - the condition lies outside of this process
            await asyncio.sleep(0.01)


class LoopbackSSHD:
    """One server; `more` is added to its sshd_config."""

    def __init__(self, directory: Path, *, more: str = "") -> None:
        self.directory = directory
        self.identity = directory / "identity"
        self.port = _free_port()
        host_key = _write_key(directory / "host_key")
        self.host_key = " ".join(host_key.export_public_key().decode().split()[:2])
        client_key = _write_key(self.identity)
        (directory / "authorized_keys").write_bytes(client_key.export_public_key())
        config = _CONFIG.format(port=self.port, directory=directory, more=more)
        (directory / "sshd_config").write_text(config)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert program, "sshd is not installed: these tests need the package openssh-server"
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        log = (self.directory / "log").open("wb")
        self._process = subprocess.Popen(
            [program, "-D", "-e", "-f", self.directory / "sshd_config"], stderr=log
        )
        log.close()
        deadline = time.monotonic() + _START_S
        while not self._accepts():
            assert time.monotonic() < deadline, (self.directory / "log").read_text()
            assert self._process.poll() is None, (self.directory / "log").read_text()
            time.sleep(0.01)

    def stop(self) -> None:
        """End the server and every session."""
        if self._process is not None:
            self.kill_sessions()
            self._process.kill()
            self._process.wait()
            self._process = None

    def kill_sessions(self) -> int:
        """Kill the processes that serve connections, as a crash does; return how many."""
        assert self._process is not None
        children = _children(self._process.pid)
        for pid in children:
            # NOTE: the server before its command, or it may still report how the command ended.
            for each in (pid, *_children(pid)):
                _kill(each)
        return len(children)

    def host(self, name: str = "h1", **spec: object) -> Host:
        """Return the Host that leads here; *spec* in camelCase goes over the usual fields."""
        fields = {
            "address": "127.0.0.1",
            "port": self.port,
            "user": getpass.getuser(),
            "identityFile": str(self.identity),
            "hostKey": self.host_key,
            "workRoot": str(self.directory / "work"),
            **spec,
        }
        return Host.parse(
            {
                "apiVersion": "sandboxer.dev/v1alpha1",
                "kind": "Host",
                "metadata": {"name": name},
                "spec": {key: value for key, value in fields.items() if value is not None},
            }
        )

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def _write_key(path: Path) -> asyncssh.SSHKey:
    key = asyncssh.generate_private_key("ssh-ed25519")
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key())
    return key


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(child) for child in text.split()]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
