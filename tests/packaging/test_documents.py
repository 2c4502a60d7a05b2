"""
The commands in the documents work.

A block fenced as `console` is run: every line that starts with `$ `, in order, all blocks of one
document in one empty data directory, from the top of the checkout. Lines without `$` are what the
reader may expect and are not compared. A command that ends in `&` runs until the end of the
document. A block fenced otherwise is not run: it needs a machine of the reader's.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig.kubectl import kubectl_program

CHECKOUT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND_TIMEOUT_S = 120.0


def _commands(page: Path) -> list[str]:
    lines = (line for block in _BLOCK.findall(page.read_text()) for line in block.splitlines())
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def _pages() -> list[Path]:
    pages = [
        CHECKOUT / "README.md",
        *(CHECKOUT / "docs").rglob("*.md"),
        *(CHECKOUT / "examples").rglob("*.md"),
        *(CHECKOUT / "specs").rglob("*.md"),
        *(CHECKOUT / "profiles").rglob("*.md"),
    ]
    return sorted(page for page in pages if page.exists() and _commands(page))


def test_the_readme_has_commands_to_run() -> None:
    """The first page shows commands, and they are among those run here."""
    assert CHECKOUT / "README.md" in _pages()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", _pages(), ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_commands_of_a_document_work(page: Path, tmp_path: Path) -> None:
    """Every command a document shows ends with success."""
    environment = os.environ | {
        "HOME": str(tmp_path),
        "SANDBOXER_DATA_DIR": str(tmp_path / "data"),
        "PATH": f"{_tools(page, tmp_path)}:{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}",
    }
    background = []
    try:
        for line in _commands(page):
            if line.rstrip().endswith("&"):
                background.append(_start(line.rstrip().removesuffix("&"), environment))
            else:
                _run(line, environment)
    finally:
        for process in background:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def _tools(page: Path, directory: Path) -> Path:
    """Return a directory with the kubectl of the tests, when a page wants one."""
    tools = directory / "tools"
    tools.mkdir()
    if any("kubectl" in line for line in _commands(page)):
        (tools / "kubectl").symlink_to(kubectl_program())
    return tools


def _start(line: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["bash", "-c", f"exec {line}"], cwd=CHECKOUT, env=environment,
        stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def _run(line: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-c", line], cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_COMMAND_TIMEOUT_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"$ {line}\n{done.stdout}"
