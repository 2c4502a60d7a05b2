"""The file of tokens."""

from __future__ import annotations

import errno
import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from sandboxer.api.tokens import TokenFile
from sandboxer.errors import ConflictError, InvalidSpecError, NotFoundError, TerminalError
from sandboxer.testing.clock import ManualClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data/tokens.json"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def tokens(path: Path, clock: ManualClock) -> TokenFile:
    return TokenFile(path, clock)


def test_a_token_is_found_by_what_it_is_and_never_kept(tokens: TokenFile, path: Path) -> None:
    """Who shows the token is its user; the file, which only its owner reads, holds a hash."""
    token = tokens.create("bob", "viewer")

    found = tokens.find(token)
    assert found is not None
    assert (found.name, found.role) == ("bob", "viewer")
    assert tokens.find(token + "x") is None
    assert tokens.find("") is None
    assert token not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_tokens_are_long_and_differ(tokens: TokenFile) -> None:
    """256 random bits take 43 characters of base64."""
    made = {tokens.create(name, "admin") for name in ("a", "b", "c")}

    assert len(made) == 3
    assert {len(token.removeprefix("sbx_")) for token in made} == {43}


def test_a_change_of_the_file_counts_at_once(path: Path, clock: ManualClock) -> None:
    """What another process makes or takes away is noticed by one that has read the file."""
    reader, writer = TokenFile(path, clock), TokenFile(path, clock)
    assert reader.find("x") is None

    token = writer.create("bob", "viewer")
    assert reader.find(token) is not None

    writer.delete("bob")
    assert reader.find(token) is None


def test_a_file_that_could_not_be_opened_is_tried_again(
    tokens: TokenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files for a moment keep nobody out for good."""
    token = tokens.create("bob", "viewer")

    def fail(self: Path) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", fail)
        assert tokens.find(token) is None

    assert tokens.find(token) is not None


def test_it_expires(tokens: TokenFile, clock: ManualClock) -> None:
    """A token with a time to live stops working then, and is still listed."""
    token = tokens.create("bob", "viewer", ttl_s=60)
    found = tokens.find(token)
    assert found is not None
    assert not tokens.has_expired(found)

    clock.advance(60)

    assert tokens.has_expired(found)
    assert [each.name for each in tokens.list()] == ["bob"]
    assert found.expires is not None
    assert found.expires - found.created == timedelta(seconds=60)


def test_names_are_taken_once_and_must_be_names(tokens: TokenFile) -> None:
    """A second token of a name, a bad name and an unknown name are refused in words."""
    tokens.create("bob", "viewer")

    with pytest.raises(ConflictError, match="bob has a token already"):
        tokens.create("bob", "admin")
    with pytest.raises(InvalidSpecError, match="cannot be the name"):
        tokens.create("Bob Smith", "viewer")
    with pytest.raises(NotFoundError, match="alice"):
        tokens.delete("alice")


def test_a_broken_file_lets_nobody_in(tokens: TokenFile, path: Path) -> None:
    """A file that cannot be read is never taken for one that lets in, and not overwritten."""
    token = tokens.create("bob", "viewer")
    path.write_text('{"tokens": [')

    assert tokens.find(token) is None
    with pytest.raises(TerminalError, match="not a file of tokens"):
        tokens.create("alice", "viewer")
    assert path.read_text() == '{"tokens": ['


def test_a_vanished_file_lets_nobody_in(tokens: TokenFile, path: Path) -> None:
    """Removing the file takes all tokens away."""
    token = tokens.create("bob", "viewer")

    path.unlink()

    assert tokens.find(token) is None
