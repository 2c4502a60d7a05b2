"""The demo ends well, fails loudly, and cleans up after itself."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from examples.demo.local_story import tell_local_story
from examples.demo.stage import DemoError, open_stage
from tests.rig import Rig
from tests.rig.slot import Slot, open_slot

CHECKOUT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(300)


def _demo(directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "examples.demo"],
        cwd=CHECKOUT, env=os.environ | {"TMPDIR": str(directory)}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def _has_left_a_host(shown: str) -> bool:
    """Tell whether the rig whose address the demo showed is there and nobody owns it any more."""
    address = re.search(r"address: 10\.77\.(\d+)\.", shown)
    assert address, shown
    slot = Slot(int(address[1]))
    owner = open_slot(slot.number)
    if owner is None:
        return False  # Another run took the slot, and so it was free.
    os.close(owner)
    return slot.directory.exists()


def test_the_demo_shows_the_main_job_and_leaves_nothing(rig: Rig, tmp_path: Path) -> None:
    """A compose sandbox over SSH gets Ready, is repaired and removed; no file or host stays."""
    process = _demo(tmp_path)
    shown, _ = process.communicate()

    assert process.returncode == 0, shown
    assert "uid=0(root)" in shown
    assert list(tmp_path.iterdir()) == []
    assert not _has_left_a_host(shown)


def test_an_interrupted_demo_leaves_nothing(rig: Rig, tmp_path: Path) -> None:
    """Ctrl-C in the middle removes the host, the controller and the data directory."""
    process = _demo(tmp_path)
    assert process.stdout is not None
    shown = ""
    for line in process.stdout:
        shown += line
        if line.startswith("$ sandboxer wait"):
            break
    os.killpg(process.pid, signal.SIGINT)
    process.communicate()

    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []
    assert not _has_left_a_host(shown)


@pytest.mark.exhaustive
def test_the_story_without_a_host_works(capsys: pytest.CaptureFixture[str]) -> None:
    """Without any right, the same story is told with a process on this machine."""
    with open_stage() as stage:
        tell_local_story(stage)

        assert shutil.which("sandboxer", path=stage.environment["PATH"])
    assert "no controller is running" not in capsys.readouterr().out


def test_a_step_that_shows_something_else_fails() -> None:
    """A command that succeeds without the expected words ends the demo."""
    with open_stage() as stage, pytest.raises(DemoError):
        stage.run("sandboxer version", expect="no such words")
