"""What rsync is told, and what its answers mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxer.errors import InvalidSpecError, SandboxerError, TerminalError, TransientError
from sandboxer.session import Completed
from sandboxer.transport import rsync


@pytest.mark.parametrize("destination", ["relative", "/", "", "/a/../b", "/a/./b", "/a//b", "/a/"])
def test_destination_must_be_a_plain_absolute_path(tmp_path: Path, destination: str) -> None:
    """A path that could lead elsewhere is refused before anything runs."""
    with pytest.raises(InvalidSpecError):
        rsync.check_paths(str(tmp_path), destination)


def test_source_must_be_a_directory(tmp_path: Path) -> None:
    """A file or nothing at all is the author's mistake."""
    with pytest.raises(InvalidSpecError):
        rsync.check_paths(str(tmp_path / "missing"), "/a/b")


@pytest.mark.parametrize(
    ("local", "remote", "expected", "reason"),
    [
        pytest.param(0, 97, TerminalError, "DestinationIsLink", id="link"),
        pytest.param(12, 127, TerminalError, "RsyncMissing", id="missing-there"),
        pytest.param(127, 0, TerminalError, "RsyncMissing", id="missing-here"),
        pytest.param(11, 0, TransientError, "CopyFailed", id="disk-full"),
        pytest.param(12, 98, TransientError, "DestinationNotMade", id="no-directory"),
    ],
)
def test_failures_are_told_apart(
    local: int, remote: int, expected: type[SandboxerError], reason: str
) -> None:
    """Each way to fail has its class and its word."""
    with pytest.raises(expected) as caught:
        rsync.judge("h1", "/x", _ended(local), _ended(remote))

    assert caught.value.reason == reason


def _ended(status: int) -> Completed:
    return Completed(exit_status=status, stdout=b"", stderr=b"why")
