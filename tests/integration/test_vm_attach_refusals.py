"""What `ext.vm-packer` does not touch on a VM."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandboxer.errors import TerminalError, TransientError
from sandboxer.extension import Instance
from sandboxer.session import Session
from sandboxer.testing.faults import OpenSession
from sandboxer_extensions.vm_packer import VMInputs, VMPackerExtension
from tests.rig.vm import VM

ENVIRONMENT = "refusals"
VICTIM = "/root/victim"


def instance(**inputs: str) -> Instance:
    """Return a sandbox nobody has heard of."""
    return Instance(
        uid=str(uuid.uuid4()), namespace="default", name="hello", environment=ENVIRONMENT,
        extension="ext.vm-packer", spec_hash="0123456789abcdef",
        inputs=VMInputs.model_validate({"vm": "vm", **inputs}),
    )  # fmt: skip


@pytest_asyncio.fixture
async def session(vm: VM, vm_session: OpenSession) -> AsyncIterator[Session]:
    """A session, and a directory on the VM that must be whole in the end."""
    vm.ssh(f"rm -rf {VICTIM}; mkdir {VICTIM}; echo precious >{VICTIM}/file")
    async with vm_session() as opened:
        yield opened
    left = vm.ssh(f"cat {VICTIM}/file; rm -rf /build/* /build/.sbx* /root/roots").stdout
    assert left == "precious\n"


@pytest.fixture
def extension() -> VMPackerExtension:
    """What is tested."""
    return VMPackerExtension()


@pytest.mark.parametrize(
    ("prepare", "word"),
    [
        pytest.param(f"ln -s {VICTIM} /root/roots", "symbolic link", id="link"),
        pytest.param("mkdir -m 777 /root/roots", "other accounts", id="writable for all"),
        pytest.param("mkdir -m 755 /root/roots; chown 1000 /root/roots", "another account", id="theirs"),
        pytest.param("echo x >/root/roots", "not there", id="file"),
    ],
)  # fmt: skip
async def test_root_that_is_not_ours(
    vm: VM, session: Session, extension: VMPackerExtension, prepare: str, word: str
) -> None:
    """A root that is a link, or that others may write to, is refused by name."""
    vm.ssh(prepare)

    with pytest.raises(TerminalError, match=word):
        await extension.provision(session, instance(root="/root/roots"))

    assert vm.ssh("ls -A /root/roots/").stdout in ("", "file\n")


async def test_directory_that_is_not_ours(
    vm: VM, session: Session, extension: VMPackerExtension
) -> None:
    """A directory without our marker, or with another sandbox's, is not taken over."""
    vm.ssh("mkdir /build/theirs; echo precious >/build/theirs/file")
    first = instance(workspace_dir="/build/shared")
    await extension.provision(session, first)

    for place in ("/build/theirs", "/build/shared"):
        wished = instance(workspace_dir=place)
        with pytest.raises(TerminalError):
            await extension.provision(session, wished)
        await extension.teardown(session, wished)

    assert vm.ssh("cat /build/theirs/file").stdout == "precious\n"
    seen = await extension.observe(session, ENVIRONMENT)
    assert [(one.uid, one.state) for one in seen] == [(first.uid, "Running")]


async def test_workspace_turned_into_a_link(
    vm: VM, session: Session, extension: VMPackerExtension
) -> None:
    """A link where the workspace was leads nowhere: nothing behind it is read, written or removed."""
    wished = instance()
    await extension.provision(session, wished)
    directory = f"/build/{wished.short_id}"
    vm.ssh(
        f"cp {directory}/.sandboxer.json {VICTIM}; rm -rf {directory}; ln -s {VICTIM} {directory}"
    )

    assert list(await extension.observe(session, ENVIRONMENT, wished.uid)) == []
    with pytest.raises(TerminalError, match="symbolic link"):
        await extension.provision(session, wished)
    await extension.teardown(session, wished)


async def test_work_directory_turned_into_a_link(
    vm: VM, session: Session, extension: VMPackerExtension
) -> None:
    """Teardown removes a planted link and not what it leads to."""
    wished = instance()
    await extension.provision(session, wished)
    vm.ssh(f"cd /build/{wished.short_id} && rm -rf work && ln -s {VICTIM} work")

    await extension.teardown(session, wished)

    assert vm.ssh("ls -A /build").stdout == ""


async def test_mount_below_the_workspace(
    vm: VM, session: Session, extension: VMPackerExtension
) -> None:
    """What is mounted inside is not removed with the workspace."""
    wished = instance()
    await extension.provision(session, wished)
    work = f"/build/{wished.short_id}/work"
    vm.ssh(f"mkdir {work}/m && mount -o bind {VICTIM} {work}/m")

    with pytest.raises(TerminalError, match="mounted"):
        await extension.teardown(session, wished)

    vm.ssh(f"umount {work}/m")
    await extension.teardown(session, wished)


async def test_full_disk_is_said(vm: VM, session: Session, extension: VMPackerExtension) -> None:
    """A VM without room gets no workspace, and the error says how much there is."""
    vm.ssh("dd if=/dev/zero of=/build/fill bs=1048576 count=140 2>/dev/null")

    with pytest.raises(TransientError, match="MiB are free in /build"):
        await extension.provision(session, instance())

    assert vm.ssh("ls -A /build").stdout == "fill\n"
