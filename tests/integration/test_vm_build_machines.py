"""Builds that reach machines: a real VM made by qemu, and a Host over SSH."""

from __future__ import annotations

import getpass
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.build_lab import Builder
from tests.integration.loopback_sshd import LoopbackSSHD
from tests.rig import packer

_NULL_TEMPLATE = """
variable "port" {{ type = number }}
source "null" "there" {{
  ssh_host             = "127.0.0.1"
  ssh_port             = var.port
  ssh_username         = "{user}"
  ssh_private_key_file = "{key}"
  ssh_timeout          = "20s"
}}
source "file" "here" {{
  content = "made there"
  target  = "output/there.img"
}}
build {{
  sources = ["source.null.there", "source.file.here"]
  provisioner "shell-local" {{ inline = ["pwd"] }}
}}
build {{
  sources = ["source.null.there"]
  provisioner "shell" {{ inline = ["echo hello from inside"] }}
}}
"""


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[Builder]:
    """Somebody who builds; nothing of their builds runs on afterwards."""
    made = Builder(tmp_path)
    yield made
    made.sandboxer.kill()
    assert packer.kill_builds_below(made.work_root) == 0, "a build was left running"


@pytest.mark.exhaustive
@pytest.mark.timeout(240)
def test_an_image_by_qemu(builder: Builder) -> None:
    """A real VM is booted, written on and shut down; a cancelled one leaves nothing."""
    packer.install(packer.QEMU_PROGRAMS)
    builder.template = builder.directory / "qemu"
    variables = packer.qemu_template(builder.template)
    builder.start()
    builder.apply("vm", vm_name="tiny", packer_var_marker="made for a test", **variables)
    builder.wait("vm", "Ready", timeout_s=150)
    builder.apply("cancelled", **variables)
    builder.wait("cancelled", "Ready", "Connecting")
    uid = builder.uid("cancelled")
    running = packer.processes_of(uid)

    builder.sandboxer.ok("delete", "sandbox", "cancelled")

    (artifact,) = builder.artifacts("vm")
    assert Path(artifact["name"]).name == "tiny.qcow2"
    assert "builder transcend.qemu" in artifact["detail"]
    raw = builder.directory / "raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", artifact["name"], raw], check=True)
    with raw.open("rb") as image:
        assert image.read(15) == b"made for a test"
    logs = builder.sandboxer.ok("logs", "vm")
    assert "Waiting for SSH to become available" in logs
    assert len(running) >= 4, "the keeper, Packer, its plugin and qemu ran"
    assert packer.processes_of(uid) == []
    assert len(builder.builds()) == 1, "that of the VM that was made"
    assert not list(builder.work_root.glob("images/cancelled-*/*"))
    builder.sandboxer.ok("delete", "sandbox", "vm")
    assert Path(artifact["name"]).exists()


@pytest.mark.exhaustive
@pytest.mark.timeout(180)
def test_a_build_on_a_host_over_ssh(builder: Builder) -> None:
    """The template is copied there, Packer runs there, and what it makes stays there."""
    (builder.directory / "sshd").mkdir()
    server = LoopbackSSHD(builder.directory / "sshd")
    server.start()
    there = builder.directory / "there"
    builder.use_host(
        {"name": "machine"},
        {
            "address": "127.0.0.1", "port": server.port, "user": getpass.getuser(),
            "identityFile": str(server.identity), "hostKey": server.host_key,
            "workRoot": str(there),
        },
    )  # fmt: skip
    template = builder.template / "image.pkr.hcl"
    template.write_text(_NULL_TEMPLATE.format(user=getpass.getuser(), key=server.identity))
    try:
        builder.start()
        builder.apply("remote", host="machine", packer_var_port=server.port)
        builder.wait("remote", "Ready")
        logs = builder.sandboxer.ok("logs", "remote", "--tail", "50")
        artifacts = {a["name"]: a for a in builder.artifacts("remote")}
        target = builder.status("remote")["reachability"]["sshTarget"]
        builder.sandboxer.ok("delete", "sandbox", "remote")
    finally:
        server.stop()

    assert "null.there: hello from inside" in logs
    assert f"file.here: {there}/builds/sbx-" in logs, "Packer works on the copy"
    image = next(Path(name) for name in artifacts if name.endswith(".img"))
    assert image.is_relative_to(there / "images")
    assert image.read_text() == "made there"
    assert artifacts["Null"]["detail"] == "builder fnoeding.null"
    assert target == f"{getpass.getuser()}@127.0.0.1:{server.port}"
    assert list((there / "builds").glob("sbx-*")) == []
