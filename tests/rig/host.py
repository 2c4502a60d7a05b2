"""
One host of the rig: how it is made, switched on and off, and spoken to.

Its PID 1 is catatonit over sshd, so killing PID 1 is a power loss: containers, their monitors and
all sessions die in the same instant, and the disk stays. `boot` brings it back with that disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.rig import files
from tests.rig.commands import RigError, as_root, run_as_root
from tests.rig.slot import Slot

Init = Literal["catatonit", "systemd"]

SSH_PORT = 22
WORK_ROOT = "/build"
ENGINE_SOCKET = "/run/podman/podman.sock"

# A tmpfs takes only what is used; containers of a busybox image take a few kilobytes each.
DISK_SIZE = "1g"
# Booting takes 0.2 s on an idle machine.
BOOT_TIMEOUT_S = 30.0
# Directories of the machine that a host does not see.
_HIDDEN = ("/root", "/tmp", "/run", "/dev/shm", "/build")


@dataclass(slots=True)
class RigHost:
    """A host; made by `Rig`, used by tests for its address, its manifest and `ssh`."""

    name: str
    index: int
    slot: Slot
    engine_socket: bool = True
    """Whether podman's REST socket is served; otherwise the engine is asked by command."""
    port: int = SSH_PORT
    init: Init = "catatonit"
    """What its PID 1 is; systemd keeps no containers here."""

    @property
    def address(self) -> str:
        """IP address on the rig's bridge, reached from this machine."""
        return self.slot.address(self.index)

    @property
    def directory(self) -> Path:
        """The host's files as this machine sees them."""
        return self.slot.directory / self.name

    @property
    def namespace(self) -> str:
        """Name of its network namespace."""
        return self.slot.namespace(self.name)

    @property
    def cgroup(self) -> str:
        """Name of the control group that a systemd as PID 1 has for its root."""
        return f"sandboxer-rig-{self.namespace}"

    @property
    def identity_file(self) -> Path:
        """Private key that may log in as root."""
        return self.slot.directory / "client" / "id"

    @property
    def host_key(self) -> str:
        """Public host key, `ssh-ed25519 AAAA…`, without comment."""
        return " ".join((self.directory / "hostkey.pub").read_text().split()[:2])

    def manifest(self, **spec: Any) -> dict[str, Any]:
        """Return a Host document for this host; *spec* goes over its fields, in camelCase."""
        known = {
            "transport": "ssh",
            "address": self.address,
            "port": self.port,
            "user": "root",
            "identityFile": str(self.identity_file),
            "hostKey": self.host_key,
            "workRoot": WORK_ROOT,
            "composeCommand": [compose_program()],
        }
        return {
            "apiVersion": "sandboxer.dev/v1alpha1",
            "kind": "Host",
            "metadata": {"name": self.name, "labels": {"rig": "true"}},
            "spec": known | spec,
        }

    def create(self) -> None:
        """Make disk, keys, configuration and network; the host is off afterwards."""
        self._make_disk()
        self._write_configuration()
        self._make_network()

    def boot(self) -> None:
        """
        Switch it on, if it is off, and wait until its SSH server answers.

        Raises:
            RigError: It does not come up; the message has the end of its log.
        """
        if self.pid1() is not None:
            return
        environment = {
            "HOST_NAME": self.name,
            "HOST_DIR": str(self.directory),
            "INIT": self.init,
            "CGROUP": self.cgroup,
            "KEPT_PATHS": " ".join(_hidden_programs()),
            "ENGINE_SOCKET": ENGINE_SOCKET if self.engine_socket else "",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }
        # `setsid --fork` returns at once and leaves the host to the machine's init, so it outlives us.
        command = [
            "setsid", "--fork", "env", "-i", *(f"{key}={value}" for key, value in environment.items()),
            "nsenter", f"--net=/run/netns/{self.namespace}",
            "unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child",
            "--mount-proc", "/bin/bash", str(self.directory / "init"),
        ]  # fmt: skip
        with (self.directory / "log").open("ab") as log:
            subprocess.run(
                as_root(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True
            )
        self._wait_for_ssh()

    def kill(self) -> None:
        """Take its power away; its disk and its address stay."""
        pids = run_as_root("ip", "netns", "pids", self.namespace, check=False).split()
        if pids:
            run_as_root("kill", "-9", *pids, check=False)
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while run_as_root("ip", "netns", "pids", self.namespace, check=False).split():
            if time.monotonic() > deadline:
                raise RigError(f"Processes of {self.name} do not die.")
            time.sleep(0.01)

    def remove(self) -> None:
        """Take the host away with everything on it; succeeds when there is nothing."""
        self.kill()
        run_as_root("ip", "link", "del", self.slot.interface(self.name), check=False)
        run_as_root("ip", "netns", "del", self.namespace, check=False)
        run_as_root("umount", "-l", str(self.directory / "disk"), check=False)
        if self.init == "systemd":
            self._remove_cgroups()

    def _remove_cgroups(self) -> None:
        """Remove what a systemd has made; the kernel needs a moment to see that they are empty."""
        found = (
            "find",
            "/sys/fs/cgroup",
            "-depth",
            "-type",
            "d",
            "-path",
            f"/sys/fs/cgroup/*{self.cgroup}*",
        )
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while run_as_root(*found, check=False):
            if time.monotonic() > deadline:
                raise RigError(f"The control groups of {self.name} cannot be removed.")
            run_as_root(*found, "-exec", "rmdir", "{}", ";", check=False)

    def pid1(self) -> int | None:
        """Return the process of the host's init as this machine numbers it; None when off."""
        for pid in run_as_root("ip", "netns", "pids", self.namespace, check=False).split():
            if run_as_root("ps", "-o", "comm=", "-p", pid, check=False).strip() == "unshare":
                children = run_as_root("ps", "-o", "pid=", "--ppid", pid, check=False).split()
                return int(children[0]) if children else None
        return None

    def ssh_command(self) -> list[str]:
        """Return the ssh command line up to the host's name, with keys pinned and no user config."""
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(self.slot.directory / "client" / "known_hosts"),
            "ConnectTimeout": "3",
            "LogLevel": "ERROR",
        }
        pairs = (part for key, value in options.items() for part in ("-o", f"{key}={value}"))
        identity = str(self.identity_file)
        return ["ssh", "-F", "/dev/null", "-i", identity, *pairs, f"root@{self.address}"]

    def ssh(
        self, command: str, *, stdin: bytes = b"", timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell line on the host; the result has returncode, stdout and stderr as text."""
        done = subprocess.run(
            [*self.ssh_command(), command],
            input=stdin, capture_output=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        return subprocess.CompletedProcess(
            command, done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace")
        )

    def _make_disk(self) -> None:
        disk = self.directory / "disk"
        disk.mkdir(parents=True)
        run_as_root("mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE},mode=755", "tmpfs", str(disk))
        run_as_root("mkdir", *(str(disk / part) for part in ("containers", "root", "build")))
        run_as_root("mkdir", "-p", WORK_ROOT, "/var/lib/containers")

    def _write_configuration(self) -> None:
        make_key(self.directory / "hostkey", comment=self.name)
        authorized = self.directory / "authorized_keys"
        shutil.copy(self.identity_file.with_suffix(".pub"), authorized)
        containers = self.directory / "etc-containers"
        containers.mkdir()
        texts = {
            self.directory / "init": files.INIT,
            self.directory / "init-systemd": files.INIT_SYSTEMD,
            self.directory / "sshd_config": files.SSHD_CONFIG.format(
                address=self.address, authorized_keys=authorized
            ),
            containers / "policy.json": files.POLICY_JSON,
            containers / "registries.conf": files.REGISTRIES_CONF,
            containers / "storage.conf": files.STORAGE_CONF,
            containers / "containers.conf": files.CONTAINERS_CONF,
        }
        for path, text in texts.items():
            path.write_text(text)

    def _make_network(self) -> None:
        cable, namespace = self.slot.interface(self.name), self.namespace
        run_as_root("ip", "netns", "add", namespace)
        run_as_root(
            "ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", namespace
        )
        run_as_root("ip", "link", "set", cable, "master", self.slot.bridge, "up")
        for command in (
            ["addr", "add", f"{self.address}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
            ["link", "set", "lo", "up"],
            ["route", "add", "default", "via", self.slot.gateway],
        ):
            run_as_root("ip", "-n", namespace, *command)

    def _wait_for_ssh(self) -> None:
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        wanted = f"test -S {ENGINE_SOCKET}" if self.engine_socket else "true"
        while self.ssh(wanted).returncode:
            if time.monotonic() > deadline:
                said = (self.directory / "log").read_text(errors="replace")
                raise RigError(f"{self.name} does not answer over SSH: {said[-500:]}")
            time.sleep(0.05)


def make_key(path: Path, *, comment: str) -> None:
    """Make an ed25519 key pair at *path* and *path*.pub, readable by its owner only."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def compose_program() -> str:
    """Return the path of podman-compose in the environment the tests run in."""
    return str(Path(sys.prefix) / "bin" / "podman-compose")


def _hidden_programs() -> list[str]:
    """Return the directories of this Python that a host would not see, outermost first."""
    wanted = dict.fromkeys(os.path.realpath(path) for path in (sys.base_prefix, sys.prefix))
    return [path for path in wanted if path.startswith(tuple(f"{top}/" for top in _HIDDEN))]
