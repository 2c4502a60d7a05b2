"""The distribution: built, complete, and working in an empty environment outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from sandboxer import __version__

CHECKOUT = Path(__file__).parents[2]
_SOURCE_ROOTS = ("controller/sandboxer", "extensions/sandboxer_extensions")

# Building and installing fetch packages; a slow mirror needs minutes.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel and the source archive."""
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(directory), str(CHECKOUT)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return directory


@pytest.fixture(scope="module")
def installed(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of programs of an empty environment with nothing but the wheel."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=True)
    (wheel,) = distributions.glob("*.whl")
    command = [str(home / "bin" / "pip"), "install", "-q", str(wheel)]
    subprocess.run(command, check=True, cwd=home, stdin=subprocess.DEVNULL)
    return home / "bin"


def _sandboxer(programs: Path, directory: Path, *arguments: str) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "SANDBOXER_DATA_DIR": str(directory / "data"),
    }
    done = subprocess.run(
        [programs / "sandboxer", *arguments],
        cwd=directory, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"sandboxer {arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def _source_files() -> set[str]:
    """Return every file of the packages, relative to its source root's parent."""
    return {
        str(path.relative_to((CHECKOUT / root).parent))
        for root in _SOURCE_ROOTS
        for path in (CHECKOUT / root).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_wheel_holds_every_source_file_and_the_profiles(distributions: Path) -> None:
    """Nothing a package needs at run time is forgotten: scripts, migrations, profiles, typing."""
    (wheel,) = distributions.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    profiles = {f"sandboxer/_profiles/{path.name}" for path in (CHECKOUT / "profiles").glob("*")}

    assert profiles
    assert _source_files() | profiles <= names


def test_wheel_holds_nothing_else(distributions: Path) -> None:
    """Tests, caches and documents stay out of the wheel."""
    (wheel,) = distributions.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert {
        name for name in names if not name.startswith("sandboxer/_profiles/")
    } <= _source_files()


def test_source_archive_can_be_tested(distributions: Path) -> None:
    """The source archive holds what `make test` needs."""
    (archive,) = distributions.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.split("/", 1)[-1] for name in opened.getnames()}

    assert {"LICENSE", "Makefile", "pyproject.toml", "tests/conftest.py", ".ci/setup"} <= names


def test_installed_wheel_knows_its_version(installed: Path, tmp_path: Path) -> None:
    """An empty environment with the wheel runs the command outside the checkout."""
    assert __version__ in _sandboxer(installed, tmp_path, "version")


def test_installed_wheel_makes_a_sandbox(installed: Path, tmp_path: Path) -> None:
    """The first commands of a new user work from the wheel: create, exec, destroy."""
    _sandboxer(installed, tmp_path, "create", "--name", "first", "--timeout", "60s")

    assert _sandboxer(installed, tmp_path, "exec", "first", "--", "echo", "inside") == "inside\n"
    assert _registered(installed, tmp_path) >= _SHIPPED

    _sandboxer(installed, tmp_path, "destroy", "first")
    assert _sandboxer(installed, tmp_path, "get", "sandboxes", "-o", "name") == ""


def test_editable_install_finds_profiles_and_extensions(tmp_path: Path) -> None:
    """A checkout installed for development has the same profiles and extensions as the wheel."""
    programs = Path(sys.prefix) / "bin"
    _sandboxer(programs, tmp_path, "create", "--no-wait", "--name", "first")

    assert _registered(programs, tmp_path) >= _SHIPPED


_SHIPPED = {"profile/profile.sandbox-canary", "extension/ext.local", "extension/ext.compose-ssh"}


def _registered(programs: Path, directory: Path) -> set[str]:
    return {
        name
        for kind in ("profiles", "extensions")
        for name in _sandboxer(programs, directory, "get", kind, "-o", "name").split()
    }
