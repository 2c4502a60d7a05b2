"""Copying that leaves out what .gitignore names, and tells how far it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandboxer.session import Copying
from sandboxer.transport import HostSession
from tests.integration.test_transport_upload import session, sshd

__all__ = ["session", "sshd"]

IGNORING = Copying(filters=(":- .gitignore",))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A project with a build product."""
    directory = tmp_path / "project"
    (directory / "sub" / "dist").mkdir(parents=True)
    (directory / "sub" / "dist" / "local").write_text("built here")
    (directory / "sub" / "code").write_text("one")
    (directory / "old").write_text("old")
    (directory / ".gitignore").write_text("dist\n")
    return directory


def names(directory: Path) -> list[str]:
    """Return the files below a directory, sorted."""
    return sorted(
        str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()
    )


async def test_what_is_ignored_is_neither_copied_nor_removed(
    session: HostSession, source: Path, tmp_path: Path
) -> None:
    """Products of either side stay there; what else is gone is removed."""
    target = tmp_path / "target"
    await session.upload(str(source), str(target), copying=IGNORING)
    first = names(target)
    (target / "sub" / "dist").mkdir()
    (target / "sub" / "dist" / "there").write_text("built there")
    (target / "stray").write_text("stray")
    (source / "old").unlink()

    await session.upload(str(source), str(target), copying=IGNORING)

    assert first == [".gitignore", "old", "sub/code"]
    assert names(target) == [".gitignore", "sub/code", "sub/dist/there"]


async def test_rules_that_change_with_the_copy(
    session: HostSession, source: Path, tmp_path: Path
) -> None:
    """The new .gitignore counts for what is removed, not the one that lies there."""
    target = tmp_path / "target"
    await session.upload(str(source), str(target), copying=IGNORING)
    (target / "cache").write_text("built there")
    (source / ".gitignore").write_text("dist\ncache\n")

    await session.upload(str(source), str(target), copying=IGNORING)

    assert "cache" in names(target)


async def test_progress_ends_with_all_of_it(
    session: HostSession, source: Path, tmp_path: Path
) -> None:
    """Reports come while it copies; the last one says 100 per cent."""
    (source / "big").write_bytes(os.urandom(2**20))
    reports: list[str] = []

    await session.upload(
        str(source), str(tmp_path / "target"), copying=Copying(progress=reports.append)
    )

    assert reports
    assert reports[-1].startswith("100 %, ")
