"""Copying a directory with rsync through the kept connection, and on the local machine."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sandboxer.errors import InvalidSpecError, SandboxerError, TerminalError
from sandboxer.kinds.host import Host, HostFacts
from sandboxer.transport import Connections, HostSession
from tests.integration.loopback_sshd import LoopbackSSHD


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[LoopbackSSHD]:
    (tmp_path / "sshd").mkdir()
    server = LoopbackSSHD(tmp_path / "sshd")
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["ssh", "local"])
async def session(request: pytest.FixtureRequest, sshd: LoopbackSSHD) -> AsyncIterator[HostSession]:
    document = {
        "apiVersion": "sandboxer.dev/v1alpha1",
        "kind": "Host",
        "metadata": {"name": "local"},
        "spec": {"transport": "local"},
    }
    host = sshd.host() if request.param == "ssh" else Host.parse(document)
    connections = Connections()
    yield HostSession(connections, host=host, facts=HostFacts(), engine=None)
    await connections.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "a source"
    directory.mkdir()
    (directory / "file").write_text("one")
    (directory / "sub").mkdir()
    (directory / "sub" / "-rf; $(touch hostile)\n'\"").write_text("two")
    (directory / os.fsdecode(b"\xff\xfe")).write_text("bytes")
    (directory / "link").symlink_to("/etc/passwd")
    return directory


def contents(directory: Path) -> dict[str, str]:
    found = sorted(directory.rglob("*"))
    return {
        str(p.relative_to(directory)): (str(p.readlink()) if p.is_symlink() else p.read_text())
        for p in found
        if p.is_symlink() or p.is_file()
    }


async def test_copy_is_exact(session: HostSession, source: Path, tmp_path: Path) -> None:
    """Hostile names arrive as they are, links stay links, missing directories are made."""
    destination = tmp_path / "made for it" / "re po"

    await session.upload(str(source), str(destination))

    assert contents(destination) == contents(source)


async def test_second_copy_removes_what_is_gone(
    session: HostSession, source: Path, tmp_path: Path
) -> None:
    """The destination becomes equal again, whatever was added or taken away."""
    destination = tmp_path / "repo"
    await session.upload(str(source), str(destination))
    (source / "file").unlink()
    (destination / "extra").write_text("not from the source")

    await session.upload(str(source), str(destination))

    assert contents(destination) == contents(source)


@pytest.mark.parametrize("place", ["last", "middle"])
async def test_planted_link_is_not_followed(
    session: HostSession, source: Path, tmp_path: Path, place: str
) -> None:
    """A symlink in the destination's path is refused, and what it leads to stays as it was."""
    victim = tmp_path / "victim"
    (victim / "repo").mkdir(parents=True)
    (victim / "repo" / "precious").write_text("still here")
    (tmp_path / "sandbox").mkdir()
    if place == "last":
        (tmp_path / "sandbox" / "repo").symlink_to(victim / "repo")
        destination = tmp_path / "sandbox" / "repo"
    else:
        (tmp_path / "sandbox" / "x").symlink_to(victim)
        destination = tmp_path / "sandbox" / "x" / "repo"

    with pytest.raises(TerminalError) as caught:
        await session.upload(str(source), str(destination))

    assert caught.value.reason == "DestinationIsLink"
    assert contents(victim) == {"repo/precious": "still here"}


async def test_planted_link_inside_is_replaced(
    session: HostSession, source: Path, tmp_path: Path
) -> None:
    """A symlink where the source has a directory is replaced, never written through."""
    victim, destination = tmp_path / "victim", tmp_path / "repo"
    victim.mkdir()
    (victim / "precious").write_text("still here")
    destination.mkdir()
    (destination / "sub").symlink_to(victim)

    await session.upload(str(source), str(destination))

    assert contents(victim) == {"precious": "still here"}
    assert contents(destination) == contents(source)


async def test_source_that_is_missing(session: HostSession, tmp_path: Path) -> None:
    """A source that is not there is the author's mistake."""
    with pytest.raises(InvalidSpecError):
        await session.upload(str(tmp_path / "missing"), str(tmp_path / "repo"))


async def test_missing_rsync_on_the_machine(tmp_path: Path, source: Path) -> None:
    """Without rsync there, the error names the host and the package."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "true", "mkdir"):
        (programs / name).symlink_to(f"/bin/{name}")
    (tmp_path / "sshd").mkdir()
    server = LoopbackSSHD(tmp_path / "sshd", more=f"SetEnv SHLVL=2 PATH={programs}")
    server.start()
    connections = Connections()
    session = HostSession(connections, host=server.host(), facts=HostFacts(), engine=None)

    try:
        with pytest.raises(SandboxerError) as caught:
            await session.upload(str(source), str(tmp_path / "repo"))
    finally:
        await connections.close()
        server.stop()

    assert caught.value.reason == "RsyncMissing"
