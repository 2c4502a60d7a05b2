"""
A real Packer, and real templates for it.

    install()
    template(directory, provisioners=['inline = ["echo hello"]'])

Debian's Packer is 1.6.6: its builders are compiled in, and it knows no `required_plugins`.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.rig import vm, vm_image
from tests.rig.commands import RigError
from tests.rig.host import make_key
from tests.rig.install import install_missing, why_not

# Program -> Debian package.
PROGRAMS = {
    "packer": "packer",
    "rsync": "rsync",
    "flock": "util-linux",
}

# For the qemu builder.
QEMU_PROGRAMS = {**vm.PROGRAMS, "qemu-img": "qemu-utils"}

# A provisioner that must clean up says this first: Packer leaves at once when it is told to end,
# and then the shell's own word about its killed `sleep` would kill the shell (SIGPIPE) before
# the trap runs. Seen by strace of Packer 1.6.6.
NOBODY_READS = "exec >/dev/null 2>&1"

_FILE_TEMPLATE = """
variable "vm_name" {{
  type    = string
  default = "image"
}}
variable "content" {{
  type    = string
  default = "image bytes"
}}
variable "token" {{
  type      = string
  default   = ""
  sensitive = true
}}
source "file" "image" {{
  content = "${{var.content}}\\n"
  target  = "output/${{var.vm_name}}.img"
}}
build {{
  sources = ["source.file.image"]
{provisioners}
}}
"""


_QEMU_TEMPLATE = """
variable "files" {{ type = string }}
variable "key" {{ type = string }}
variable "vm_name" {{
  type    = string
  default = "vm"
}}
variable "marker" {{
  type    = string
  default = "built by packer"
}}
source "qemu" "vm" {{
  iso_url                  = "${{var.files}}/disk.qcow2"
  iso_checksum             = "none"
  disk_image               = true
  format                   = "qcow2"
  accelerator              = "tcg"
  machine_type             = "microvm"
  headless                 = true
  disable_vnc              = true
  memory                   = 384
  output_directory         = "output"
  vm_name                  = "${{var.vm_name}}.qcow2"
  boot_wait                = "1s"
  ssh_username             = "root"
  ssh_private_key_file     = var.key
  ssh_timeout              = "90s"
  ssh_handshake_attempts   = 100
  ssh_file_transfer_method = "sftp"
  shutdown_command         = "(sleep 1; poweroff -f) >/dev/null 2>&1 </dev/null & exit 0"
  shutdown_timeout         = "20s"
  qemuargs = [
    ["-kernel", "${{var.files}}/vmlinuz"],
    ["-initrd", "${{var.files}}/initrd.gz"],
    ["-append", "{kernel}"],
    ["-cpu", "qemu64,+rdrand"],
    ["-display", "none"],
    ["-serial", "file:console"],
    ["-nodefaults"],
    ["-no-user-config"],
    ["-drive", "id=d0,file=output/${{var.vm_name}}.qcow2,format=qcow2,if=none,cache=unsafe"],
    ["-netdev", "user,id=n0,hostfwd=tcp:127.0.0.1:{{{{ .SSHHostPort }}}}-:22"],
    ["-device", "virtio-net-device,netdev=n0"],
    ["-device", "virtio-blk-device,drive=d0"],
  ]
}}
build {{
  sources = ["source.qemu.vm"]
  provisioner "shell" {{
    inline = [
      "insmod /lib/modules/virtio_blk.ko",
      "while [ ! -b /dev/vda ]; do sleep 0.1; done",
      "echo '${{var.marker}}' | dd of=/dev/vda conv=fsync 2>/dev/null",
    ]
  }}
}}
"""


def install(programs: dict[str, str] | None = None) -> None:
    """Install what is missing; whoever cannot has no tests of builds."""
    if not install_missing(PROGRAMS | (programs or {})):
        raise RigError(f"Packer cannot be had: {why_not() or 'packages are missing.'}")


def file_template(directory: Path, *shells: Sequence[str]) -> Path:
    """
    Write a template that makes one file in a moment.

    Args:
        directory: Where; it is made.
        shells: Lines of a provisioner each, run on the machine that builds.
    """
    provisioners = "\n".join(
        f'  provisioner "shell-local" {{ inline = [{", ".join(map(_quoted, lines))}] }}'
        for lines in shells
    )
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "image.pkr.hcl").write_text(_FILE_TEMPLATE.format(provisioners=provisioners))
    return directory


def qemu_template(directory: Path) -> dict[str, Any]:
    """
    Write a template that boots a tiny VM with an empty disk and writes on it, in about ten seconds.

    Args:
        directory: Where; it is made, and the VM's files beside it.

    Returns:
        The variables it must be given.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "vm.pkr.hcl").write_text(_QEMU_TEMPLATE.format(kernel=vm.KERNEL))
    files = directory.with_name("vm-files")
    files.mkdir()
    make_key(files / "id", comment="packer")
    vm_image.build(files, (files / "id.pub").read_text().strip())
    _add_to_initrd(files)
    disk = ["qemu-img", "create", "-q", "-f", "qcow2", str(files / "disk.qcow2"), "16M"]
    subprocess.run(disk, check=True)
    return {"packer_var_files": str(files), "packer_var_key": str(files / "id")}


def _add_to_initrd(files: Path) -> None:
    """Add what a build needs inside: a disk, and a place for Packer's files to arrive."""
    extra = files / "extra"
    (extra / "lib/modules").mkdir(parents=True)
    (extra / "usr/lib").mkdir(parents=True)
    module = next((vm_image.cache_directory() / "kernel").rglob("virtio_blk.ko"))
    shutil.copy(module, extra / "lib/modules")
    # dropbear's place for it; it is linked with nothing but the C library.
    shutil.copy("/usr/lib/openssh/sftp-server", extra / "usr/lib/sftp-server")
    names = b"\n".join(str(path.relative_to(extra)).encode() for path in sorted(extra.rglob("*")))
    pack = ["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"]
    packed = subprocess.run(pack, input=names, cwd=extra, capture_output=True, check=True).stdout
    # The kernel unpacks one archive after the other.
    with (files / "initrd.gz").open("ab") as initrd:
        initrd.write(gzip.compress(packed, 1))


def processes_of(uid: str) -> list[int]:
    """Return the pids of everything that was born in the build of that uid."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(v.startswith(b"SANDBOXER_BUILD=") and v.endswith(uid.encode()) for v in variables):
            found.append(int(entry.name))
    return [pid for pid in found if os.path.exists(f"/proc/{pid}")]  # noqa: PTH110 - gone meanwhile


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "$${")
    return f'"{escaped}"'


def command_lines(pids: Iterable[int]) -> bytes:
    """Return all command lines of these processes; one that has gone has none."""
    found = b""
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += Path(f"/proc/{pid}/cmdline").read_bytes()
    return found


def kill_builds_below(work_root: Path) -> int:
    """Kill every build in that work root, and return how many processes there were."""
    found = 0
    for record in work_root.glob("builds/*/.sandboxer.json"):
        uid = json.loads(record.read_text())["labels"]["sandboxer.dev/uid"]
        for pid in processes_of(uid):
            found += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return found
