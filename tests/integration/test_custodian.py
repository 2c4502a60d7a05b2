"""The shims in examples/the-custodian, by their own verification script, on a real VM."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.vm_lab import Person
from tests.rig.vm import VM

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.timeout(240)
def test_both_targets_work(tmp_path: Path, vm: VM, monkeypatch: pytest.MonkeyPatch) -> None:
    """verify.sh is content: output and status come back, and no sandbox is left."""
    person = Person(tmp_path, vm, monkeypatch)
    person.sandboxer.start()
    environment = os.environ | {
        "HOME": str(tmp_path),
        "SANDBOXER_DATA_DIR": str(tmp_path / "installation/data"),
        "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}",
        "VM": "haskell_build",
        "E2E_PROFILE": "profile.local",
    }
    try:
        done = subprocess.run(
            ["sh", CHECKOUT / "examples/the-custodian/verify.sh"],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        person.sandboxer.stop()

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "Both targets work.\n"
    assert vm.ssh("ls -A /build").stdout == ""
