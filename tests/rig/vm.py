"""
A real VM, booted in seconds: qemu without hardware help, a cloud kernel, busybox and dropbear.

    with VM.start(directory) as vm:
        vm.ssh("uname -a")

It is reached on a loopback port of this machine, and can dial out to it for a reverse tunnel.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.rig import vm_image
from tests.rig.commands import RigError
from tests.rig.host import make_key

# Program -> Debian package.
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "cpio": "cpio",
    "rsync": "rsync",
    "busybox": "busybox-static",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
}

# Seconds until SSH answers: 4 to 6 on an idle machine, above 30 at a load of 10 for each processor;
# a boot that hangs is tried again.
_BOOT_S = 60.0
_BOOT_ATTEMPTS = 3

# The three in the middle take the place of calibrations against a timer, which an emulated machine
# on a busy one never finishes: without them four boots in five hung at a load of 7 (measured).
KERNEL = (
    "console=ttyS0 quiet panic=-1 mitigations=off "
    "tsc_early_khz=2000000 lpj=4000000 no_timer_check tsc=unstable"
)

# Where the machine that runs qemu is, seen from the VM.
OUTSIDE = "10.0.2.2"


class VM:
    """One VM; its memory is its disk."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.identity_file = directory / "id"
        self.port = 0
        self.host_key = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._master: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, directory: Path) -> Self:
        """Build the image, boot it, and return once SSH answers."""
        vm = cls(directory)
        make_key(vm.identity_file, comment="vm")
        public_key = vm.identity_file.with_suffix(".pub").read_text().strip()
        vm.host_key = vm_image.build(directory, public_key)
        vm.boot()
        return vm

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def boot(self) -> None:
        """Switch it on and wait; a boot that hangs is begun anew."""
        for _ in range(_BOOT_ATTEMPTS):
            self._switch_on()
            deadline = time.monotonic() + _BOOT_S
            while time.monotonic() < deadline:
                if self._answers():
                    self._keep_connection()
                    return
            self.stop()
        raise RigError(f"The VM does not come up: {self._console()[-500:]}")

    def stop(self) -> None:
        """Switch it off, as a power cut would."""
        for process in (self._process, self._master):
            if process is not None:
                process.kill()
                process.wait()
        self._process = self._master = None

    def ssh(
        self, command: str, *, stdin: bytes = b"", timeout_s: float = 30.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell line as root; a non-zero status is returned, not raised."""
        done = subprocess.run(
            [*self._ssh_command(), "root@127.0.0.1", command],
            input=stdin, capture_output=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def manifest(self, name: str = "vm", **spec: Any) -> dict[str, Any]:
        """Return a Host document that names address and key; *spec* goes over its fields."""
        known = {
            "address": "127.0.0.1", "port": self.port, "user": "root",
            "identityFile": str(self.identity_file), "hostKey": self.host_key,
        }  # fmt: skip
        return {
            "apiVersion": "sandboxer.dev/v1alpha1",
            "kind": "Host",
            "metadata": {"name": name},
            "spec": known | spec,
        }

    @contextmanager
    def reverse_tunnel(
        self, server_port: int, user: str, host_key: str, local_port: int
    ) -> Iterator[None]:
        """
        Let the VM publish its SSH server on a loopback port of this machine, as `ssh -R` does.

        Args:
            server_port: Of an SSH server on 127.0.0.1 here that knows `tunnel_public_key`.
            user: Account to log in as.
            host_key: Public key of that server.
            local_port: Where the VM is then reached.
        """
        known = f"mkdir -p /root/.ssh; echo '{OUTSIDE} {host_key}' >/root/.ssh/known_hosts"
        dial = (
            f"dbclient -N -T -K 5 -i /root/.ssh/tunnel -R 127.0.0.1:{local_port}:127.0.0.1:22 "
            f"-p {server_port} {user}@{OUTSIDE}"
        )
        started = self.ssh(f"{known}; {dial} </dev/null >/tmp/tunnel.log 2>&1 & echo $!")
        pid = started.stdout.strip()
        try:
            deadline = time.monotonic() + _BOOT_S
            while not _greets(local_port):
                if time.monotonic() > deadline:
                    raise RigError(
                        f"The tunnel is not up: {self.ssh('cat /tmp/tunnel.log').stdout}"
                    )
                time.sleep(0.05)
            yield
        finally:
            self.ssh(f"kill {pid}")

    def tunnel_public_key(self) -> str:
        """Return the key by which the VM dials out, made on first use."""
        said = self.ssh(
            "cd /root/.ssh; [ -f tunnel ] || dropbearkey -t ed25519 -f tunnel >/dev/null 2>&1; "
            "dropbearkey -y -f tunnel"
        ).stdout
        return next(line for line in said.splitlines() if line.startswith("ssh-"))

    def _ssh_command(self) -> list[str]:
        return [
            "ssh", "-F", "none", "-i", str(self.identity_file), "-p", str(self.port),
            "-o", "BatchMode=yes", "-o", "ConnectTimeout=3", "-o", "StrictHostKeyChecking=yes",
            "-o", f"UserKnownHostsFile={self.directory / 'known_hosts'}",
            "-S", str(self.directory / f"ssh-{self.port}"),
        ]  # fmt: skip

    def _keep_connection(self) -> None:
        """Keep one connection for `ssh`: opening one costs the VM 0.2 s, a command over it 0.03 s."""
        self._master = subprocess.Popen(
            [*self._ssh_command(), "-M", "-N", "root@127.0.0.1"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def _switch_on(self) -> None:
        self.port = _free_port()
        (self.directory / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {self.host_key}\n")
        forward = f"user,id=n0,hostfwd=tcp:127.0.0.1:{self.port}-:22"
        self._process = subprocess.Popen(
            ["qemu-system-x86_64", "-M", "microvm,accel=tcg", "-cpu", "qemu64,+rdrand",
             "-smp", "1", "-m", "384", "-nodefaults", "-no-user-config", "-display", "none",
             "-serial", f"file:{self.directory / 'console'}", "-no-reboot",
             "-kernel", str(self.directory / "vmlinuz"),
             "-initrd", str(self.directory / "initrd.gz"),
             "-append", KERNEL,
             "-netdev", forward, "-device", "virtio-net-device,netdev=n0"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RigError(f"qemu ended with {self._process.returncode}: {self._console()[-500:]}")
        if not _greets(self.port):
            time.sleep(0.1)
            return False
        return self.ssh("true").returncode == 0

    def _console(self) -> str:
        path = self.directory / "console"
        return path.read_text("utf-8", "replace") if path.exists() else ""


def _greets(port: int) -> bool:
    """Tell whether an SSH server says its name there; qemu accepts before the VM listens."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2.0) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
