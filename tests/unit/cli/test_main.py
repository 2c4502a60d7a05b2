"""The command line itself: overview, suggestions, errors."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sandboxer.cli import main
from sandboxer.cli.exits import Exit


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SANDBOXER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("SANDBOXER_DEBUG", raising=False)
    return tmp_path / "data"


@pytest.mark.parametrize("name", main.VERBS)
def test_every_verb_exists_and_helps(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line of the overview is a command with help."""
    module, attribute = main.VERBS[name].target.split(":")

    assert isinstance(getattr(importlib.import_module(module), attribute), click.Command)
    assert main.run([name, "--help"]) == Exit.OK
    assert "Usage: sandboxer" in capsys.readouterr().out


def test_overview_lists_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` ends with the exit codes."""
    assert main.run(["--help"]) == Exit.OK

    shown = capsys.readouterr().out
    assert all(str(code.value) in shown for code in Exit)


def test_mistyped_verb_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped verb is a usage error that names the nearest one."""
    assert main.run(["aply"]) == Exit.USAGE

    assert 'Did you mean "apply"?' in capsys.readouterr().err


def test_mistyped_kind_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped kind is a usage error that names the nearest one."""
    assert main.run(["get", "sandbx"]) == Exit.USAGE

    assert 'Did you mean "sandbox"?' in capsys.readouterr().err


def test_bug_prints_one_line_and_keeps_the_traceback(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unexpected exception is one line for the person and a traceback in the log."""
    data_dir.mkdir()
    broken = main.Verb("sandboxer.cli.main:no_such_attribute", "broken")
    monkeypatch.setitem(main.VERBS, "version", broken)

    assert main.run(["version"]) == Exit.BUG

    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert str(data_dir / "errors.log") in shown
    assert "Traceback" in (data_dir / "errors.log").read_text()
    assert (data_dir / "errors.log").stat().st_mode & 0o777 == 0o600


def test_looking_loads_neither_the_store_nor_the_server() -> None:
    """With a controller a reading verb is a client and the kinds; the rest is its own business."""
    code = (
        "import sys, sandboxer.cli.main, sandboxer.cli.get, sandboxer.client\n"
        "heavy = {'asyncssh', 'alembic', 'uvicorn', 'starlette', 'watchfiles', 'rich', 'websockets',"
        " 'sqlmodel', 'sandboxer.store', 'sandboxer.api', 'sandboxer.engine'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_looking_without_a_controller_loads_no_way_to_the_hosts(data_dir: Path) -> None:
    """A command that serves the API to itself loads what it is asked for, and nothing else."""
    code = (
        "import sys; from sandboxer.cli.main import run\n"
        "assert run(['get', 'sandboxes', '-o', 'name']) == 0\n"
        "heavy = {'asyncssh', 'alembic', 'rich', 'websockets', 'cryptography', 'jsonpatch', 'jsonschema',"
        " 'sandboxer.engine', 'sandboxer.telemetry', 'sandboxer.transport', 'sandboxer.sources'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    environment = os.environ | {"SANDBOXER_DATA_DIR": str(data_dir)}
    subprocess.run(
        [sys.executable, "-m", "sandboxer", "get", "sandboxes"], env=environment, check=True
    )

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"


def test_version_is_an_option_too(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` says what `version` says."""
    assert main.run(["--version"]) == Exit.OK
    by_option = capsys.readouterr().out
    assert main.run(["version"]) == Exit.OK

    assert by_option == capsys.readouterr().out
