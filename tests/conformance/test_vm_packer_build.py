"""`ext.vm-packer` in mode build against the public conformance suite, with a real Packer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
import uuid
from pathlib import Path
from typing import ClassVar

import pytest

from sandboxer.extension import Capability, Instance
from sandboxer.session import Session
from sandboxer.testing.conformance import ExtensionConformance, Subject
from sandboxer.testing.faults import Moment
from sandboxer.testing.this_machine import open_local_session
from sandboxer_extensions.vm_packer import VMInputs, VMPackerExtension
from tests.rig import packer

ENVIRONMENT = "conformance"

# A build takes a second, and the whole suite makes a hundred. What is left out is tried with the
# other extensions: losing the link before a call, which for the machine is after the one before it,
# and faults of calls that only look.
CHANGING = ("provision", "update", "teardown")


class BuildOnly(VMPackerExtension):
    """What a build can do: there is nothing to enter, and no port inside."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset({"logs"})


async def interrupt(session: Session, instance: Instance) -> None:
    """Leave a build as a power cut does: nothing runs, and nothing says how it ended."""
    directory = Path(session.facts.work_root) / "builds" / instance.short_id
    (directory / "exit").unlink()
    await asyncio.to_thread(kill, instance)


def kill(instance: Instance) -> None:
    """Kill everything of a build and see it die."""
    deadline = time.monotonic() + 60
    while pids := packer.processes_of(instance.uid):
        assert time.monotonic() < deadline, "it does not die"
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


async def remove_directory(session: Session, instance: Instance) -> None:
    """Remove all but the image."""
    shutil.rmtree(Path(session.facts.work_root) / "builds" / instance.short_id)


async def remove_image(session: Session, instance: Instance) -> None:
    """Remove the image, as somebody who needs room does."""
    images = Path(session.facts.work_root) / "images"
    for image in images.glob(f"*{instance.short_id}/*/output/*.img"):
        image.unlink()


class TestVMPackerBuild(ExtensionConformance):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        packer.install()
        root = tmp_path / "r"
        root.mkdir(mode=0o700)
        template = packer.file_template(tmp_path / "template", ["echo hello"])

        def make_instance() -> Instance:
            return Instance(
                uid=str(uuid.uuid4()), namespace="default", name="image", environment=ENVIRONMENT,
                extension="ext.vm-packer", spec_hash="0123456789abcdef",
                inputs=VMInputs.model_validate({"mode": "build", "packer_template": str(template)}),
            )  # fmt: skip

        def leftovers(instance: Instance) -> list[str]:
            paths = [str(path) for path in (root / "builds").rglob(f"*{instance.short_id}*")]
            return paths + [str(pid) for pid in packer.processes_of(instance.uid)]

        return Subject(
            extension=BuildOnly(),
            open_session=lambda: open_local_session(root),
            make_instance=make_instance,
            environment=ENVIRONMENT,
            leftovers=leftovers,
            damages={
                "interrupted": interrupt,
                "directory removed": remove_directory,
                "image removed": remove_image,
            },
        )

    @pytest.mark.parametrize("moment", ["after"])
    @pytest.mark.parametrize("name", CHANGING)
    @pytest.mark.asyncio
    async def test_link_lost(
        self, subject: Subject, session: Session, name: str, moment: Moment
    ) -> None:
        """A link lost after any session call ends the call, and the next call finishes the work."""
        await super().test_link_lost(subject, session, name, moment)

    @pytest.mark.parametrize("moment", ["during", "after"])
    @pytest.mark.parametrize("name", CHANGING)
    @pytest.mark.asyncio
    async def test_process_killed(
        self, subject: Subject, session: Session, name: str, moment: Moment
    ) -> None:
        """A controller killed at any session call is followed by one that finishes the work."""
        await super().test_process_killed(subject, session, name, moment)
