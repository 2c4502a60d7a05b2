"""What rots unseen: names, references in texts, generated files."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for root in ("controller", "extensions/sandboxer_extensions")
    for path in (CHECKOUT / root).rglob("*.py")
)
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "core", "base", "data", "info"}  # fmt: skip
# Dotted names of our packages in backticks, and paths of our files in backticks or links.
_DOTTED = re.compile(r"`((?:sandboxer|sandboxer_extensions)(?:\.[A-Za-z_][A-Za-z0-9_]*)+)")
_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


def _documents() -> list[Path]:
    pages = [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("[a-z]*/**/*.md")]
    return sorted(page for page in pages if ".venv" not in page.parts)


def _docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _exists(dotted: str) -> bool:
    """Tell whether a dotted name is a module, or something in one, or an entry point group."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            if not hasattr(found, name):
                return _is_annotated(found, name)
            found = getattr(found, name)
        return True
    return False


def _is_annotated(found: object, name: str) -> bool:
    return name in getattr(found, "__annotations__", {})


def test_no_module_is_a_junk_drawer() -> None:
    """No module or package is called utils, helpers or the like."""
    named = {path.stem for path in SOURCES} | {path.parent.name for path in SOURCES}

    assert named & FORBIDDEN_NAMES == set()


# Names that look like modules and are not: the entry point group, the API group.
_NOT_MODULES = {"sandboxer.extensions", "sandboxer.dev", "sandboxer.sock"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_docstrings_name_what_exists(path: Path) -> None:
    """Every dotted name of ours in a docstring can be imported."""
    named = {name for text in _docstrings(path) for name in _DOTTED.findall(text)}

    assert {name for name in named - _NOT_MODULES if not _exists(name)} == set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_every_module_and_public_name_is_described(path: Path) -> None:
    """Modules, public classes and public functions have a docstring."""
    tree = ast.parse(path.read_text())
    definitions = [
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
    ]
    if tree.body:
        assert ast.get_docstring(tree) or path.name == "__init__.py"
    assert [node.name for node in definitions if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("page", _documents(), ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_documents_name_what_exists(page: Path) -> None:
    """Every dotted name and every relative link in a document leads somewhere."""
    text = page.read_text()
    names = set(_DOTTED.findall(text)) - _NOT_MODULES

    assert {name for name in names if not _exists(name)} == set()
    assert {link for link in _LINK.findall(text) if not (page.parent / link).exists()} == set()


def test_crds_are_up_to_date() -> None:
    """What lies in crds/ is what the kinds generate today."""
    command = [sys.executable, "-m", "sandboxer.kinds.schema", "--check"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_no_retry_outside_the_worker() -> None:
    """Only the worker and the two keepalive loops wait by the clock."""
    sleeping = {
        str(path.relative_to(CHECKOUT / "controller/sandboxer"))
        for path in SOURCES
        if _SLEEP.search(path.read_text())
        if path.is_relative_to(CHECKOUT / "controller/sandboxer")
    }

    others = {path for path in sleeping if path.split("/")[0] not in _MAY_SLEEP}
    # Between two looks of a progress display.
    assert others == {"cli/transfer.py"}


_SLEEP = re.compile(r"\b(?:asyncio|time)\.sleep\((?!0\))")
# client: before a server that went away is asked again; transport: keepalive; telemetry: the
# interval between probes; testing: the public suite; sinks: before an event is sent again whose
# delivery could not be recorded, and after a bug.
_MAY_SLEEP = {"client", "engine", "sinks", "transport", "telemetry", "clock.py", "testing"}
