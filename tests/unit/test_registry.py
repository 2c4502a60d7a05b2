"""The registry: what is loaded, and what a broken extension is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from sandboxer.registry import GROUP, load_registry

PREAMBLE = """
from sandboxer.extension import Extension, Inputs, Offer, Provisioned

class Good(Extension):
    name = "ext.good"
    def offer(self, host, inputs): return Offer(fits=True, reason="")
    async def provision(self, session, instance): return Provisioned()
    async def wait_ready(self, session, instance): ...
    async def observe(self, session, environment, uid=""): return []
    async def teardown(self, session, instance): ...
    async def reap(self, session, environment, uid): ...
"""

BROKEN = [
    pytest.param("raise SystemExit(3)", "cannot be imported: SystemExit: 3", id="exits"),
    pytest.param("import nothing_like_it", "cannot be imported: ModuleNotFoundError", id="import"),
    pytest.param("class Mine: ...", "is not a subclass", id="foreign-class"),
    pytest.param("def Mine(): ...", "is not a subclass", id="function"),
    pytest.param("class Mine(Good): name = 'ext.other'", "calls itself 'ext.other'", id="name"),
    pytest.param(
        "from sandboxer.extension import Extension as Mine", "calls itself None", id="base"
    ),
    pytest.param(
        "class Mine(Good):\n name = 'ext.mine'\n capabilities = frozenset({'suspend'})",
        "does not implement suspend, resume",
        id="capability",
    ),
    pytest.param(
        "class Mine(Good):\n name = 'ext.mine'\n capabilities = frozenset({'fly'})",
        "capabilities nobody knows: fly",
        id="unknown-capability",
    ),
    pytest.param(
        "class Mine(Good):\n name = 'ext.mine'\n inputs_model = dict", "inputs_model", id="inputs"
    ),
    pytest.param(
        "class Mine(Extension): name = 'ext.mine'", "cannot be made", id="abstract-methods"
    ),
    pytest.param(
        "class Mine(Good):\n name = 'ext.mine'\n def __init__(self): 1 / 0",
        "cannot be made without arguments: ZeroDivisionError",
        id="constructor",
    ),
]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of an author, importable as `authors_module`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "authors_module.py"
    sys.modules.pop("authors_module", None)


def points(*names: Sequence[str]) -> list[EntryPoint]:
    """Return entry points of (name, class) in the author's module."""
    return [EntryPoint(name, f"authors_module:{class_}", GROUP) for name, class_ in names]


@pytest.mark.parametrize(("code", "sentence"), BROKEN)
def test_broken_is_told(module: Path, code: str, sentence: str) -> None:
    """A broken extension is left out with a sentence that names it and the reason."""
    module.write_text(f"{PREAMBLE}\n{code}\n")

    registry = load_registry(points(("ext.mine", "Mine")))

    assert registry.extensions == {}
    assert registry.problems["ext.mine"].startswith("ext.mine (authors_module:Mine) ")
    assert sentence in registry.problems["ext.mine"]


def test_broken_harms_nobody(module: Path) -> None:
    """Beside a broken extension the good ones are loaded."""
    module.write_text(PREAMBLE)

    registry = load_registry(points(("ext.good", "Good"), ("ext.gone", "Gone")))

    assert list(registry.extensions) == ["ext.good"]
    assert list(registry.problems) == ["ext.gone"]


def test_name_taken_twice(module: Path) -> None:
    """Of two extensions with one name neither is used: nobody knows which is meant."""
    module.write_text(PREAMBLE)

    registry = load_registry(points(("ext.good", "Good"), ("ext.good", "Good")))

    assert registry.extensions == {}
    assert "Two distributions provide ext.good" in registry.problems["ext.good"]


def test_installed_are_found() -> None:
    """The entry points that are installed are all accounted for, ext.local with its version."""
    registry = load_registry()

    installed = {point.name for point in entry_points(group=GROUP)}
    assert registry.loaded.keys() | registry.problems.keys() == installed
    assert registry.loaded["ext.local"].distribution == "sandboxer"
    assert registry.loaded["ext.local"].version
