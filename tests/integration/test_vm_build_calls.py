"""Calls of the contract while a build runs: what is found again, and what does not let itself end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxer.errors import Waiting
from sandboxer.extension import Instance
from sandboxer.testing.this_machine import open_local_session
from sandboxer_extensions.vm_packer import VMInputs, VMPackerExtension
from tests.rig import packer

EXTENSION = VMPackerExtension()


class Running:
    """A build that runs until it is ended; `starts` has a line for each time it was begun."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.root.mkdir(mode=0o700)
        self.starts = directory / "starts"
        loop = f"echo started >>{self.starts}; while :; do sleep 0.1; done"
        template = packer.file_template(directory / "template", [loop])
        inputs = VMInputs.model_validate({"mode": "build", "packer_template": str(template)})
        self.instance = Instance(
            uid=str(uuid.uuid4()), namespace="default", name="image", environment="here",
            extension="ext.vm-packer", spec_hash="0123456789abcdef", inputs=inputs,
        )  # fmt: skip

    async def begun(self) -> set[int]:
        """Wait for the provisioner, and return the pids of the build."""
        async with asyncio.timeout(30):
            while not self.starts.exists():  # noqa: ASYNC110 - made by another process
                await asyncio.sleep(0.02)
        return self.pids()

    def pids(self) -> set[int]:
        """Return the pids of the build; `sleep` comes and goes."""
        return set(packer.processes_of(self.instance.uid))

    def keeper(self) -> int:
        """Return the pid of what keeps the build."""
        record = self.root / "builds" / self.instance.short_id / "run"
        return int(record.read_text().removeprefix('{"pid":').partition(",")[0])


@pytest.fixture
def build() -> Iterator[Running]:
    """A build that was not begun; it does not run on afterwards."""
    packer.install()
    with tempfile.TemporaryDirectory() as directory:
        made = Running(Path(directory))
        yield made
        packer.kill_builds_below(made.root)


@pytest.mark.timeout(120)
async def test_a_running_build_is_found_again(build: Running) -> None:
    """A controller that died before it wrote anything down is followed by one that starts nothing."""
    async with open_local_session(build.root) as session:
        first = await EXTENSION.provision(session, build.instance)
        await build.begun()
        keeper = build.keeper()

        second = await EXTENSION.provision(session, build.instance)

        assert second == first
        assert build.keeper() == keeper
        assert build.starts.read_text() == "started\n"
        await EXTENSION.teardown(session, build.instance)


@pytest.mark.timeout(120)
async def test_a_build_without_its_keeper_is_no_second_one(build: Running) -> None:
    """What a killed keeper left is seen as interrupted, and ended before it is built anew."""
    async with open_local_session(build.root) as session:
        await EXTENSION.provision(session, build.instance)
        before = await build.begun()
        os.kill(build.keeper(), signal.SIGKILL)
        (seen,) = await EXTENSION.observe(session, "here", build.instance.uid)
        build.starts.unlink()

        await EXTENSION.provision(session, build.instance)
        after = await build.begun()

        assert seen.state == "Stopped"
        assert "killed" in seen.message
        assert after
        assert not before & after
        await EXTENSION.teardown(session, build.instance)
    assert build.pids() == set()


@pytest.mark.timeout(120)
async def test_a_hanging_build_is_killed_in_the_end(build: Running) -> None:
    """While Packer may still be cleaning up teardown says so; later nothing is left all the same."""
    instance = build.instance
    async with open_local_session(build.root) as session:
        await EXTENSION.provision(session, instance)
        for pid in await build.begun():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

        with pytest.raises(Waiting) as waiting:
            await EXTENSION.teardown(session, instance)
        seen = await EXTENSION.observe(session, "here", instance.uid)
        # As if the signal had been sent before this machine was started.
        (build.root / "builds" / instance.short_id / "cancelled").write_text("-1000\n")
        await EXTENSION.teardown(session, instance)

        assert waiting.value.reason == "Cancelling"
        assert [one.state for one in seen] == ["Starting"], "what cleans up is still there"
        assert await EXTENSION.observe(session, "here", instance.uid) == []
    assert build.pids() == set()
    assert list((build.root / "builds").iterdir()) == []
