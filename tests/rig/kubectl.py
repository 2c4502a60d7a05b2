"""
A real kubectl for tests: the machine's own when it is new enough, else Debian's.

Debian's packages are fetched with `apt-get` over a source list, state and cache of the tests' own
and are only unpacked, so nothing on the machine changes and no right is needed. They are kept
between runs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.rig.commands import RigError

OLDEST_MINOR = 32
"""The release whose conventions the API speaks: `1.32`."""

_MIRROR = "http://deb.debian.org/debian"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# An index of 10 MB and a package of 16 MB; a slow mirror needs a minute.
_APT_TIMEOUT_S = 300.0


@cache
def kubectl_program() -> Path:
    """
    Return the newest kubectl there is; `$KUBECTL` names another one.

    Raises:
        RigError: The machine has none that is new enough, and apt cannot fetch one.
    """
    if named := os.environ.get("KUBECTL"):
        return Path(named)
    found = shutil.which("kubectl")
    own = _newest(Path(found).resolve()) if found else None
    return own or _from_debian("trixie", "kubectl")


@cache
def old_kubectl_program() -> Path:
    """Return the kubectl 1.20 of Debian 12, the oldest one that people still have."""
    return _from_debian("bookworm", "kubernetes-client")


def _newest(program: Path) -> Path | None:
    """
    Return the newest release of kubectl at this place, None when it is too old.

    What Google's SDK calls `kubectl` is a dispatcher: it asks the server for its version, remembers
    the answer by address and may run a release of four years ago. The releases lie beside it.
    """
    versioned = {
        int(match[1]): path
        for path in program.parent.glob("kubectl.1.*")
        if (match := re.fullmatch(r"kubectl\.1\.(\d+)", path.name))
    }
    if versioned:
        newest = max(versioned)
        return versioned[newest] if newest >= OLDEST_MINOR else None
    asked = subprocess.run(
        [program, "version", "--client", "-o", "json"], capture_output=True, check=False
    )
    try:
        minor = json.loads(asked.stdout)["clientVersion"]["minor"]
    except (ValueError, KeyError):
        return None
    return program if int(minor.rstrip("+")) >= OLDEST_MINOR else None


def _from_debian(suite: str, package: str) -> Path:
    """Return the kubectl of a package of one Debian release, fetched once."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    target = root / "sandboxer-kubectl" / suite
    program = target / "usr/bin/kubectl"
    if program.exists():
        return program
    new = target.with_name(f"{suite}.{os.getpid()}")
    shutil.rmtree(new, ignore_errors=True)
    options = _apt_options(new / "apt", suite)
    _run("apt-get", *options, "-q", "update", cwd=new)
    _run("apt-get", *options, "-q", "download", package, cwd=new)
    (archive,) = new.glob("*.deb")
    _run("dpkg-deb", "-x", str(archive), str(new), cwd=new)
    archive.unlink()
    shutil.rmtree(new / "apt")
    # NOTE: last, so that another run never sees half of it; whoever was first stays.
    if program.exists():
        shutil.rmtree(new)
    else:
        new.rename(target)
    return program


def _apt_options(directory: Path, suite: str) -> list[str]:
    """Make a directory that is all apt knows, and return the options that say so."""
    for name in ("lists/partial", "cache/archives/partial", "state"):
        (directory / name).mkdir(parents=True)
    # NOTE: /dev/null would do for an empty list of installed packages, but apt refuses it.
    (directory / "status").touch()
    (directory / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {_MIRROR} {suite} main\n")
    settings = {
        "Dir::Etc::SourceList": directory / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State": directory / "state",
        "Dir::State::Lists": directory / "lists",
        "Dir::State::Status": directory / "status",
        "Dir::Cache": directory / "cache",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _run(*argv: str, cwd: Path) -> None:
    done = subprocess.run(
        argv, cwd=cwd, capture_output=True, text=True, timeout=_APT_TIMEOUT_S, check=False
    )
    if done.returncode:
        raise RigError(f"{argv[0]} exited with {done.returncode}: {done.stderr[-500:]}")
