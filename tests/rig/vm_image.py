"""
A kernel and an initramfs for a real VM, built from Debian's packages in seconds.

The system is as small as a build machine can be: busybox, dropbear, rsync. What is not installed
here is fetched with `apt-get download` into a directory that is kept between runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.rig.commands import RigError

# What the VM's programs come from; only unpacked, never installed.
_PACKAGES = ("dropbear-bin", "libtomcrypt1", "libtommath1")

# In this order: a network card of the microvm machine, and the drivers it stands on.
_MODULES = ("virtio_ring", "virtio", "virtio_mmio", "failover", "net_failover", "virtio_net")

_DIRECTORIES = (
    "bin", "build", "dev", "etc/dropbear", "lib/modules", "lib64", "proc", "root/.ssh", "run",
    "sbin", "sys", "tmp", "usr/bin", "usr/lib", "usr/sbin", "var/lib",
)  # fmt: skip

_INIT = """#!/bin/sh
export PATH=/sbin:/bin:/usr/sbin:/usr/bin HOME=/root
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts; mount -t devpts pts /dev/pts
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t tmpfs -o mode=755,size=160m build /build
for module in MODULES; do insmod "/lib/modules/$module.ko"; done
ifconfig lo 127.0.0.1 up
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
route add default gw 10.0.2.2
hostname sandboxer-vm
dropbear -R -s -p 22 -P /run/dropbear.pid
echo VM-READY >/dev/console
while :; do sleep 3600 & wait $!; done
"""


def cache_directory() -> Path:
    """Return where packages are kept between runs."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = root / "sandboxer-rig-vm"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def build(directory: Path, public_key: str) -> str:
    """
    Write `vmlinuz` and `initrd.gz` into *directory*.

    Args:
        directory: Exists.
        public_key: May log in as root.

    Returns:
        The VM's public host key, without comment.
    """
    packages, kernel = _unpacked_packages(), _unpacked_kernel()
    shutil.copy(next(kernel.glob("boot/vmlinuz-*")), directory / "vmlinuz")
    root = directory / "root"
    for name in _DIRECTORIES:
        (root / name).mkdir(parents=True, exist_ok=True)
    _add_busybox(root)
    libraries = packages / "usr/lib/x86_64-linux-gnu"
    for program in ("usr/sbin/dropbear", "usr/bin/dbclient", "usr/bin/dropbearkey"):
        _add_program(packages / program, root / program, libraries)
    _add_program(Path(_which("rsync")), root / "usr/bin/rsync", libraries)
    for module in _MODULES:
        shutil.copy(next(kernel.rglob(f"{module}.ko")), root / "lib/modules")
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nother:x:1000:1000::/tmp:/bin/sh\n"
    )
    (root / "etc/group").write_text("root:x:0:\nother:x:1000:\n")
    (root / "etc/shells").write_text("/bin/sh\n")
    _private(root / "root/.ssh/authorized_keys", f"{public_key}\n")
    (root / "root/.ssh").chmod(0o700)
    (root / "root").chmod(0o700)
    host_key = _make_host_key(packages, root / "etc/dropbear/dropbear_ed25519_host_key")
    _private(root / "init", _INIT.replace("MODULES", " ".join(_MODULES)))
    (root / "init").chmod(0o755)
    _pack(root, directory / "initrd.gz")
    return host_key


def _unpacked_packages() -> Path:
    target = cache_directory() / "packages"
    return _unpacked(_PACKAGES, target, target / "usr/sbin/dropbear")


def _unpacked_kernel() -> Path:
    target = cache_directory() / "kernel"
    if list(target.glob("boot/vmlinuz-*")):
        return target
    said = _run("apt-cache", "depends", "linux-image-cloud-amd64")
    names = [line.split()[-1] for line in said.splitlines() if "Depends: linux-image" in line]
    if not names:
        raise RigError("apt knows no cloud kernel; run apt-get update")
    return _unpacked(names[:1], target, target / "boot" / "never")


def _unpacked(packages: Iterable[str], target: Path, proof: Path) -> Path:
    """Fetch and unpack *packages*, unless *proof* says that it was done; a half is never seen."""
    if proof.exists():
        return target
    new = target.with_name(f"{target.name}.{os.getpid()}")
    downloads = new / "downloads"
    downloads.mkdir(parents=True)
    _run("apt-get", "-q", "download", *packages, cwd=downloads)
    for archive in downloads.glob("*.deb"):
        _run("dpkg-deb", "-x", str(archive), str(new))
    shutil.rmtree(downloads)
    shutil.rmtree(target, ignore_errors=True)
    new.rename(target)
    return target


def _add_busybox(root: Path) -> None:
    busybox = root / "bin/busybox"
    shutil.copy(_which("busybox"), busybox)
    for name in _run(str(busybox), "--list").split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")


def _add_program(program: Path, target: Path, libraries: Path) -> None:
    """Copy a program and every library it is linked with, to the same places."""
    shutil.copy(program, target)
    said = _run("ldd", str(program), LD_LIBRARY_PATH=str(libraries))
    for line in said.splitlines():
        words = line.split()
        path = Path(words[2] if "=>" in words else words[0])
        if not path.is_absolute():
            continue
        place = "usr/lib" if path.is_relative_to(libraries) else str(path.parent).lstrip("/")
        (root := _root_of(target) / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(path.resolve(), root / path.name)


def _root_of(target: Path) -> Path:
    return next(parent for parent in target.parents if (parent / "etc/dropbear").is_dir())


def _make_host_key(packages: Path, path: Path) -> str:
    libraries = str(packages / "usr/lib/x86_64-linux-gnu")
    program = str(packages / "usr/bin/dropbearkey")
    said = _run(program, "-t", "ed25519", "-f", str(path), LD_LIBRARY_PATH=libraries)
    line = next(line for line in said.splitlines() if line.startswith("ssh-"))
    return " ".join(line.split()[:2])


def _pack(root: Path, archive: Path) -> None:
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    packed = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"],
        input=f".\n{names}\n".encode(), cwd=root, capture_output=True, check=True,
    ).stdout  # fmt: skip
    archive.write_bytes(
        subprocess.run(["gzip", "-1"], input=packed, capture_output=True, check=True).stdout
    )


def _private(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


def _which(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise RigError(f"{program} is not installed")
    return found


def _run(*argv: str, cwd: Path | None = None, **environment: str) -> str:
    done = subprocess.run(
        argv,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RigError(f"{' '.join(argv)} exited with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout
