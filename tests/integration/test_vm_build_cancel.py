"""A build that does not let itself be cancelled: it is waited for, and then it is killed."""

from __future__ import annotations

import asyncio
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


@pytest.fixture
def root() -> Iterator[Path]:
    """A work root; no build runs on afterwards."""
    packer.install()
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory) / "root"
        made.mkdir(mode=0o700)
        yield made
        packer.kill_builds_below(made)


@pytest.mark.timeout(120)
async def test_a_hanging_build_is_killed_in_the_end(root: Path) -> None:
    """While Packer may still be cleaning up teardown says so; later nothing is left all the same."""
    waits = root.parent / "waits"
    loop = f"touch {waits}; while :; do sleep 0.1; done"
    template = packer.file_template(root.parent / "template", [loop])
    inputs = VMInputs.model_validate({"mode": "build", "packer_template": str(template)})
    instance = Instance(
        uid=str(uuid.uuid4()), namespace="default", name="image", environment="here",
        extension="ext.vm-packer", spec_hash="0123456789abcdef", inputs=inputs,
    )  # fmt: skip
    extension = VMPackerExtension()
    async with open_local_session(root) as session:
        await extension.provision(session, instance)
        async with asyncio.timeout(30):
            while not waits.exists():  # noqa: ASYNC110 - made by another process
                await asyncio.sleep(0.02)
        pids = packer.processes_of(instance.uid)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)

        with pytest.raises(Waiting) as waiting:
            await extension.teardown(session, instance)
        seen = await extension.observe(session, "here", instance.uid)
        # As if the signal had been sent before this machine was started.
        (root / "builds" / instance.short_id / "cancelled").write_text("-1000\n")
        await extension.teardown(session, instance)

        assert waiting.value.reason == "Cancelling"
        assert [one.state for one in seen] == ["Starting"], "what cleans up is still there"
        assert await extension.observe(session, "here", instance.uid) == []
    assert packer.processes_of(instance.uid) == []
    assert list((root / "builds").iterdir()) == []
