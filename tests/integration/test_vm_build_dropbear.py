"""
Mode build on a machine whose SSH server is dropbear, which takes 9000 bytes of a command.

The VM has no room for a real Packer, so how far it comes without one is what can be seen here; the
builds of a real one are in `test_vm_build*.py`.
"""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxer.errors import TerminalError, Waiting
from sandboxer.extension import Instance
from sandboxer.session import Session
from sandboxer.testing.faults import OpenSession
from sandboxer_extensions.local.observing import labels_text
from sandboxer_extensions.vm_packer import VMInputs, VMPackerExtension, build_launch, build_scripts
from tests.rig import packer
from tests.rig.vm import VM
from tests.rig.vm_session import vm_sessions

EXTENSION = VMPackerExtension()
ENVIRONMENT = "a" * 32

# The VM's own root tells nobody how much is free on it.
ROOT = "/build/work-root"


@pytest.fixture
def opened(vm: VM) -> Iterator[OpenSession]:
    """Sessions to a VM with the `flock` that a build asks for and busybox lacks."""
    program = shutil.which("flock")
    assert program
    vm.ssh("cat >/usr/bin/flock; chmod +x /usr/bin/flock", stdin=Path(program).read_bytes())
    yield vm_sessions(vm, workRoot=ROOT)
    vm.ssh(f"rm -rf {ROOT} /usr/bin/flock")


@pytest.fixture
def wished(tmp_path: Path) -> Instance:
    """A build with labels as long as they can be, and a variable that fits in no command."""
    template = packer.file_template(tmp_path / "template")
    inputs = VMInputs.model_validate(
        {"mode": "build", "packer_template": str(template), "packer_var_long": "x" * 20_000}
    )
    return Instance(
        uid=str(uuid.uuid4()), namespace="n" * 63, name="i" * 63, environment=ENVIRONMENT,
        extension="ext.vm-packer", spec_hash="0123456789abcdef", inputs=inputs, owner="o" * 63,
    )  # fmt: skip


async def test_without_packer_it_is_said(vm: VM, opened: OpenSession, wished: Instance) -> None:
    """All scripts reach the machine; what lacks there is a word to the person, not to the template."""
    async with opened() as session:
        with pytest.raises(TerminalError, match="packer cannot be run"):
            await EXTENSION.provision(session, wished)

        await EXTENSION.teardown(session, wished)

        assert await EXTENSION.observe(session, ENVIRONMENT, wished.uid) == []
    assert vm.ssh(f"ls -A {ROOT}/builds").stdout == ""


async def test_a_build_starts_and_ends(
    vm: VM, opened: OpenSession, wished: Instance, tmp_path: Path
) -> None:
    """The keeper arrives whole, runs detached, and writes down that there was no Packer to run."""
    async with opened() as session:
        answer = await _start(session, wished, tmp_path / "template")
        with pytest.raises(TerminalError, match="exit status 127"):
            async with asyncio.timeout(60):
                await _ended(session, wished)
        kept = vm.ssh(f"cat {ROOT}/builds/{wished.short_id}/log").stdout

        await EXTENSION.teardown(session, wished)

    assert answer == "done"
    assert "Packer ended with exit status 127" in kept
    assert vm.ssh(f"ls -A {ROOT}/builds").stdout == ""


async def _start(session: Session, instance: Instance, template: Path) -> str:
    """Do what `provision` does, without asking the Packer that is not there about the template."""
    assert isinstance(instance.inputs, VMInputs)
    labels = labels_text(instance.labels())
    said = await build_scripts.changing(
        session, "provision", ENVIRONMENT, instance.uid, labels, instance.spec_hash, "1",
        stdin=b"{}\n",
    )  # fmt: skip
    copy = said.removeprefix("copy ")
    await session.upload(str(template), copy)
    return await build_scripts.changing(
        session, "start", ENVIRONMENT, instance.uid, copy, labels, instance.spec_hash,
        f"{ROOT}/images/x", "packer",
        stdin=build_launch.start_text(instance, instance.inputs),
    )  # fmt: skip


async def _ended(session: Session, instance: Instance) -> None:
    while True:
        try:
            return await EXTENSION.wait_ready(session, instance)
        except Waiting:
            await asyncio.sleep(0.1)
