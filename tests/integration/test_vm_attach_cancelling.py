"""What `ext.vm-packer` kills on a VM when who asked for a command has gone."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest_asyncio

from sandboxer.extension import Instance
from sandboxer.session import Session, Streams
from sandboxer.testing.conformance import Output
from sandboxer.testing.faults import OpenSession
from sandboxer_extensions.vm_packer import VMInputs, VMPackerExtension
from tests.rig.vm import VM

# How many programs of the commands live, and how many of those commands.
TAILS = "ps | grep -c 'root *tail -f /dev/null'"
STARTING = r"cat /proc/[0-9]*/cmdline | tr '\0' '\n' | grep -c '^exec\.[0-9a-f]*$'"

EXTENSION = VMPackerExtension()


@pytest_asyncio.fixture
async def session(vm: VM, vm_session: OpenSession) -> AsyncIterator[Session]:
    """A session to a VM that is clean afterwards."""
    async with vm_session() as opened:
        yield opened
    vm.ssh("rm -rf /build/* /build/.sbx*")


async def workspace(session: Session) -> Instance:
    """Make a workspace."""
    made = Instance(
        uid=str(uuid.uuid4()), namespace="default", name="hello", environment="cancelling",
        extension="ext.vm-packer", spec_hash="0123456789abcdef",
        inputs=VMInputs.model_validate({"vm": "vm"}),
    )  # fmt: skip
    await EXTENSION.provision(session, made)
    return made


def start_tails(session: Session, one: Instance) -> asyncio.Task[int]:
    """Start a command of two programs, one of them in a session of its own."""
    command = ["sh", "-c", "setsid tail -f /dev/null & exec tail -f /dev/null"]
    return asyncio.create_task(EXTENSION.exec(session, one, command, Output().streams()))


async def cancel(*calls: asyncio.Task[int]) -> None:
    """Go away, as somebody does who presses Ctrl-C."""
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def until_there_are(vm: VM, count: int, counting: str = TAILS) -> None:
    """Return once so many are counted on the VM."""
    async with asyncio.timeout(60):
        # In a thread, so that the commands under test get on meanwhile.
        while (await asyncio.to_thread(vm.ssh, counting)).stdout.strip() != str(count):
            pass


async def test_cancelled_command_ends_with_its_children(vm: VM, session: Session) -> None:
    """Who asked has gone: the command, and what it started, end; a neighbour's goes on."""
    places = [await workspace(session), await workspace(session)]
    calls: list[asyncio.Task[int]] = []
    try:
        for number, place in enumerate(places, start=1):
            calls.append(start_tails(session, place))
            # NOTE: one after the other. This dropbear now and then closes a session that is just
            # opened when a command of another one ends (mkj/dropbear#321).
            await until_there_are(vm, number * 2)

        await cancel(calls[0])

        # A killed process is there for as long as the kernel needs.
        await until_there_are(vm, 2)
        for place in places:
            await EXTENSION.teardown(session, place)
        assert vm.ssh(TAILS).stdout.strip() == "0"
    finally:
        await cancel(*calls)


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


async def test_command_cancelled_while_it_starts(vm: VM, session: Session) -> None:
    """What has not come to its program yet when who asked goes does not come to it later."""
    place = await workspace(session)
    call = start_tails(cast("Session", HeldSession(session, vm)), place)
    await until_there_are(vm, 1, STARTING)

    await cancel(call)

    await until_there_are(vm, 0, STARTING)
    assert vm.ssh(TAILS).stdout.strip() == "0"


async def test_environment_of_a_command_cancelled_early_is_removed(
    vm: VM, session: Session
) -> None:
    """An environment, with the secrets in it, does not stay for a command that never came."""
    place = await workspace(session)

    for after_s in (0.0, 0.01, 0.05, 0.1):
        call = start_tails(session, place)
        await asyncio.wait((call,), timeout=after_s)
        await cancel(call)

    assert vm.ssh(f"ls /build/{place.short_id}/.sandboxer | grep ^exec").stdout == ""
