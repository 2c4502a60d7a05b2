"""What `ext.vm-packer` does not touch on a VM, and what it kills."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest
import pytest_asyncio

from sandboxer.errors import TerminalError, TransientError
from sandboxer.extension import Instance
from sandboxer.session import Session, Streams
from sandboxer.testing.conformance import Output, make_ready
from sandboxer.testing.faults import OpenSession
from sandboxer.testing.subject import Subject
from sandboxer_extensions.vm_packer import VMInputs, VMPackerExtension
from tests.rig.vm import VM

ENVIRONMENT = "refusals"
VICTIM = "/root/victim"

# How many programs of the commands live that the last tests run, and how many of those commands.
TAILS = "ps | grep -c 'root *tail -f /dev/null'"
STARTING = r"cat /proc/[0-9]*/cmdline | tr '\0' '\n' | grep -c '^exec\.[0-9a-f]*$'"


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


async def _until_there_are(vm: VM, count: int, counting: str = TAILS) -> None:
    async with asyncio.timeout(60):
        # In a thread, so that the commands under test get on meanwhile.
        while (await asyncio.to_thread(vm.ssh, counting)).stdout.strip() != str(count):
            pass


async def test_cancelled_command_ends_with_its_children(
    vm: VM, vm_session: OpenSession, session: Session, extension: VMPackerExtension
) -> None:
    """Who asked has gone: the command, and what it started, end; a neighbour's goes on."""
    wished, neighbour = instance(), instance()
    subject = Subject(
        extension=extension, open_session=vm_session, make_instance=instance, environment=ENVIRONMENT
    )  # fmt: skip
    calls = []
    try:
        for number, one in enumerate((wished, neighbour), start=1):
            await make_ready(subject, session, one)
            calls.append(asyncio.create_task(_run_tails(extension, session, one)))
            # NOTE: one after the other. This dropbear now and then closes a session that is just
            # opened when a command of another one ends (mkj/dropbear#321).
            await _until_there_are(vm, number * 2)

        calls[0].cancel()
        await asyncio.gather(calls[0], return_exceptions=True)

        # A killed process is there for as long as the kernel needs.
        await _until_there_are(vm, 2)
        for one in (wished, neighbour):
            await extension.teardown(session, one)
        assert vm.ssh(TAILS).stdout.strip() == "0"
    finally:
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


class HeldSession:
    """A session whose commands with streams hang where they open their environment."""

    def __init__(self, session: Session, vm: VM) -> None:
        self._session = session
        self._vm = vm

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def stream(self, argv: Sequence[str], streams: Streams) -> int:
        """Start it with a pipe nobody writes to where its environment is."""
        line = "cd /build/sbx-*/.sandboxer && file=$(echo exec.*) && rm $file && mkfifo $file"
        assert (await asyncio.to_thread(self._vm.ssh, line)).returncode == 0
        return await self._session.stream(argv, streams)


async def test_command_cancelled_while_it_starts(
    vm: VM, vm_session: OpenSession, session: Session, extension: VMPackerExtension
) -> None:
    """What has not come to its program yet when who asked goes does not come to it later."""
    wished = instance()
    subject = Subject(
        extension=extension, open_session=vm_session, make_instance=instance, environment=ENVIRONMENT
    )  # fmt: skip
    await make_ready(subject, session, wished)
    held = cast("Session", HeldSession(session, vm))
    call = asyncio.create_task(_run_tails(extension, held, wished))
    await _until_there_are(vm, 1, STARTING)

    call.cancel()
    await asyncio.gather(call, return_exceptions=True)

    await _until_there_are(vm, 0, STARTING)
    assert vm.ssh(TAILS).stdout.strip() == "0"


async def test_environment_of_a_command_cancelled_early_is_removed(
    vm: VM, vm_session: OpenSession, session: Session, extension: VMPackerExtension
) -> None:
    """An environment, with the secrets in it, does not stay for a command that never came."""
    wished = instance()
    subject = Subject(
        extension=extension, open_session=vm_session, make_instance=instance, environment=ENVIRONMENT
    )  # fmt: skip
    await make_ready(subject, session, wished)

    for after_s in (0.0, 0.01, 0.05, 0.1):
        call = asyncio.create_task(_run_tails(extension, session, wished))
        await asyncio.wait((call,), timeout=after_s)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

    assert vm.ssh(f"ls /build/{wished.short_id}/.sandboxer | grep ^exec").stdout == ""


async def _run_tails(extension: VMPackerExtension, session: Session, one: Instance) -> int:
    command = ["sh", "-c", "setsid tail -f /dev/null & exec tail -f /dev/null"]
    return await extension.exec(session, one, command, Output().streams())
