"""A container image of two megabytes, made from the machine's own static busybox without a registry."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

from tests.rig.commands import RigError

IMAGE = "localhost/sbx-base:1"

_PASSWD = b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/work:/bin/sh\n"
_GROUP = b"root:x:0:\nuser:x:1000:\n"
_OS_RELEASE = b'ID=sbx-base\nPRETTY_NAME="Sandboxer base image 1"\n'
_WORLD_WRITABLE = 0o1777
_USER = 1000
_PT_INTERP = 3


def root_file_system() -> bytes:
    """
    Return the image's files as a tar archive, for `podman import`.

    Raises:
        RigError: There is no busybox, or it needs libraries the image does not have.
    """
    busybox = _static_busybox()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for directory in ("bin", "dev", "etc", "proc", "root", "sys", "var"):
            _add(archive, directory, kind=tarfile.DIRTYPE)
        _add(archive, "tmp", kind=tarfile.DIRTYPE, mode=_WORLD_WRITABLE)
        _add(archive, "work", kind=tarfile.DIRTYPE, owner=_USER)
        _add(archive, "etc/passwd", content=_PASSWD, mode=0o644)
        _add(archive, "etc/group", content=_GROUP, mode=0o644)
        _add(archive, "etc/os-release", content=_OS_RELEASE, mode=0o644)
        _add(archive, "bin/busybox", content=busybox.read_bytes())
        for applet in _applets(busybox):
            _add(archive, f"bin/{applet}", kind=tarfile.SYMTYPE, target="busybox")
    return buffer.getvalue()


def import_command() -> str:
    """Return the shell line that makes `IMAGE` from the archive on standard input."""
    return f"podman import -q -c 'ENV PATH=/bin' -c 'CMD [\"/bin/sh\"]' - {IMAGE}"


def _static_busybox() -> Path:
    found = shutil.which("busybox")
    if found is None:
        raise RigError("busybox is not installed. Install the package busybox-static.")
    path = Path(found).resolve()
    if _needs_loader(path.read_bytes()):
        raise RigError(f"{path} is not static. Install the package busybox-static.")
    return path


def _needs_loader(program: bytes) -> bool:
    """Tell whether a 64-bit ELF program has a PT_INTERP header, see elf(5)."""
    offset, size, count = (
        *struct.unpack_from("<Q", program, 32),
        *struct.unpack_from("<HH", program, 54),
    )
    types = (struct.unpack_from("<I", program, offset + size * n)[0] for n in range(count))
    return _PT_INTERP in types


def _applets(busybox: Path) -> list[str]:
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split() if name != "busybox"]


def _add(
    archive: tarfile.TarFile, name: str, *, content: bytes = b"", kind: bytes = tarfile.REGTYPE,
    mode: int = 0o755, owner: int = 0, target: str = "",
) -> None:  # fmt: skip
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(content), target
    entry.uid = entry.gid = owner
    archive.addfile(entry, io.BytesIO(content))
