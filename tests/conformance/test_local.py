"""`ext.local` against the public conformance suite, with the best walls there are and without any."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
import uuid
from pathlib import Path

import pytest

from sandboxer.extension import Instance
from sandboxer.session import Session
from sandboxer.testing.conformance import ExtensionConformance, Subject
from sandboxer.testing.this_machine import open_local_session
from sandboxer_extensions.local import LocalExtension, LocalInputs

ENVIRONMENT = "conformance"


@pytest.fixture(params=["auto", "none"])
def isolation(request: pytest.FixtureRequest) -> str:
    """A means of isolation."""
    return str(request.param)


def processes_of(uid: str) -> list[str]:
    """Return the pids of every process born with that uid, found by their environment alone."""
    mark = f"SANDBOXER_ID={ENVIRONMENT}/{uid}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(entry.name)
        except OSError:
            continue
    return found


def kill(instance: Instance, *, word: str = "") -> None:
    """Kill what the sandbox runs, or what has *word* in its arguments, and see everything die."""
    for pid in processes_of(instance.uid):
        # Killing one may have ended another, which is then gone from /proc.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)
    deadline = time.monotonic() + 60
    while processes_of(instance.uid):
        assert time.monotonic() < deadline, "the keeper did not notice"
        time.sleep(0.01)


async def kill_all(session: Session, instance: Instance) -> None:
    """Kill everything at once, as the OOM killer would."""
    await asyncio.to_thread(kill, instance)


async def kill_command(session: Session, instance: Instance) -> None:
    """Kill the command only; its keeper notes the end by itself."""
    await asyncio.to_thread(kill, instance, word="2147483647")


async def remove_workspace(session: Session, instance: Instance) -> None:
    """Remove the whole workspace under the running process."""
    shutil.rmtree(Path(session.facts.work_root) / instance.short_id)


async def remove_work_directory(session: Session, instance: Instance) -> None:
    """Remove the directory the process works in."""
    shutil.rmtree(Path(session.facts.work_root) / instance.short_id / "work")


class TestLocal(ExtensionConformance):
    @pytest.fixture
    def subject(self, tmp_path: Path, isolation: str) -> Subject:
        root = tmp_path / "work-root"
        root.mkdir(mode=0o700)

        def make_instance() -> Instance:
            return Instance(
                uid=str(uuid.uuid4()),
                namespace="default",
                name="hello",
                environment=ENVIRONMENT,
                extension="ext.local",
                spec_hash="0123456789abcdef",
                inputs=LocalInputs.model_validate({"isolation": isolation}),
            )

        def leftovers(instance: Instance) -> list[str]:
            paths = [str(path) for path in root.rglob(f"*{instance.short_id}*")]
            return paths + processes_of(instance.uid)

        return Subject(
            extension=LocalExtension(),
            open_session=lambda: open_local_session(root),
            make_instance=make_instance,
            environment=ENVIRONMENT,
            leftovers=leftovers,
            damages={
                "killed": kill_all,
                "command killed": kill_command,
                "workspace removed": remove_workspace,
                "work directory removed": remove_work_directory,
            },
        )
