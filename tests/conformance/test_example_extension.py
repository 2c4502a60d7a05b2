"""The out-of-tree example, installed as a stranger would, passes the public conformance suite."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / "examples" / "10-your-own-extension"


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The Python of a fresh virtual environment that sees our dependencies and not our source."""
    home = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    [packages] = home.glob("lib/python*/site-packages")
    # NOTE: a path in a .pth file does not have its own .pth files read, so an editable
    # installation of the project stays unseen.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin" / "python"


def run(*argv: str | Path, cwd: Path) -> str:
    """Run and return the output; a failure shows it."""
    ran = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{argv}\n{ran.stdout[-4000:]}\n{ran.stderr[-2000:]}"
    return ran.stdout


def test_example_extension_conforms(python: Path, tmp_path: Path) -> None:
    """Installed beside the project's wheel, the example is found by entry point and conforms."""
    install = ["-m", "pip", "install", "--no-deps", "--no-build-isolation", "--ignore-installed"]
    quiet = ["--quiet", "--root-user-action=ignore", "--disable-pip-version-check", "--no-index"]
    run(python, *install, *quiet, PROJECT, EXAMPLE, cwd=tmp_path)
    where = run(python, "-c", "import sandboxer; print(sandboxer.__file__)", cwd=tmp_path)
    assert str(tmp_path) in where
    copy = shutil.copytree(EXAMPLE, tmp_path / "example")

    printed = run(
        python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", "tests",
        cwd=copy,
    )  # fmt: skip

    assert "passed" in printed
