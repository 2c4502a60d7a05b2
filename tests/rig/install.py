"""
What the rig needs of the machine, and getting it with apt where that is allowed.

Only Debian and its relatives are known here; elsewhere the missing programs are named and the
person installs them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.rig.commands import as_root, is_root, say

# Program -> Debian package. catatonit, aardvark-dns and netavark are not on PATH.
PROGRAMS = {
    "podman": "podman",
    "runc": "runc",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "ip": "iproute2",
    "iptables": "iptables",
    "catatonit": "catatonit",
    "rsync": "rsync",
    "busybox": "busybox-static",
    "bwrap": "bubblewrap",
    "flock": "util-linux",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "pgrep": "procps",
    "git": "git",
    "netavark": "netavark",
    "aardvark-dns": "aardvark-dns",
}
# Where Debian puts programs that are not meant for people.
_EXTRA_DIRECTORIES = "/usr/sbin:/sbin:/usr/lib/podman:/usr/libexec/podman"
# apt fetches about 60 MB; a slow mirror needs minutes.
_APT_TIMEOUT_S = 900.0


def missing_packages(programs: Mapping[str, str] = PROGRAMS) -> list[str]:
    """Return the Debian packages whose programs are not on this machine, sorted."""
    path = f"{os.environ.get('PATH', os.defpath)}:{_EXTRA_DIRECTORIES}"
    missing = {
        package for program, package in programs.items() if shutil.which(program, path=path) is None
    }
    return sorted(missing)


def may_be_root() -> bool:
    """Tell whether commands can run as root without asking anybody."""
    if is_root():
        return True
    if shutil.which("sudo") is None:
        return False
    asked = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False)
    return asked.returncode == 0


def why_not() -> str:
    """Return why the rig cannot be built by this user on this machine, empty when it can."""
    if not may_be_root():
        return (
            "network and mount namespaces need root, and this user neither is root nor may "
            "use `sudo -n`. Run `make` as root, or allow sudo without a password."
        )
    if missing_packages() and shutil.which("apt-get") is None:
        return (
            f"the packages {', '.join(missing_packages())} are missing, and there is no apt-get to "
            "install them. Install them under the names your system has for them."
        )
    return ""


def install_missing(programs: Mapping[str, str] = PROGRAMS) -> bool:
    """
    Install what is missing with apt, saying so first.

    Args:
        programs: Debian package by program.

    Returns:
        Whether everything is there afterwards; what is not has been printed.
    """
    if missing_packages(programs):
        reason = why_not()
        if reason:
            say(reason)
            return False
        with _alone():
            _install(missing_packages(programs))
    left = missing_packages(programs)
    if left:
        say(f"still missing after apt-get: {' '.join(left)}")
    return not left


@contextmanager
def _alone() -> Iterator[None]:
    """Keep other workers of the same run away: apt refuses to run twice."""
    path = Path(tempfile.gettempdir()) / f"sandboxer-rig-{os.getuid()}.lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(missing: list[str]) -> None:
    if not missing:
        return
    say(f"installing with apt-get: {' '.join(missing)}")
    _apt("update")
    _apt("install", "-y", "--no-install-recommends", *missing)
    if "openssh-server" in missing:
        _stop_machine_sshd()


def _apt(*arguments: str) -> None:
    # RUNLEVEL=1 keeps packages from starting their services.
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
    subprocess.run(
        as_root([*environment, "apt-get", "-q", *arguments]),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=_APT_TIMEOUT_S, check=False,
    )  # fmt: skip


def _stop_machine_sshd() -> None:
    # The rig needs the program; a server open to the network was not asked for.
    if shutil.which("systemctl"):
        command = ["systemctl", "disable", "--now", "ssh.service", "ssh.socket"]
        subprocess.run(as_root(command), capture_output=True, check=False)
