"""The kubeconfig of the data directory."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml

from sandboxer.api.kubeconfig import Access, keep_admin_access, read_access, write_access
from sandboxer.api.tokens import TokenFile
from sandboxer.errors import TerminalError
from sandboxer.testing.clock import ManualClock

ACCESS = Access("https://127.0.0.1:7443", b"PEM", "bob", "sbx_secret")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kubeconfig"


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "tokens.json", ManualClock())


def keep(path: Path, tokens: TokenFile, server: str = "https://127.0.0.1:1") -> bool:
    return keep_admin_access(path, tokens, server=server, ca_pem=b"PEM")


def token_in(path: Path) -> str:
    access = read_access(path)
    assert access is not None
    return access.token


def test_the_first_start_makes_a_token_that_works(path: Path, tokens: TokenFile) -> None:
    """The file, which only its owner reads, holds the token of an admin."""
    assert keep(path, tokens)

    found = tokens.find(token_in(path))
    assert found is not None
    assert (found.name, found.role) == ("admin", "admin")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_next_start_keeps_the_token_and_knows_the_new_address(
    path: Path, tokens: TokenFile
) -> None:
    """What people have copied goes on working; the file follows the server."""
    keep(path, tokens)
    token = token_in(path)

    keep(path, tokens, "https://127.0.0.1:2")

    access = read_access(path)
    assert access is not None
    assert (access.token, access.server) == (token, "https://127.0.0.1:2")
    assert len(tokens.list()) == 1


def test_a_start_that_was_killed_half_way_is_finished(path: Path, tokens: TokenFile) -> None:
    """A kubeconfig whose token was not noted yet gets one that is."""
    write_access(path, ACCESS._replace(user="admin"))

    keep(path, tokens)

    assert tokens.find(token_in(path)) is not None


def test_tokens_that_were_all_taken_away_do_not_come_back(path: Path, tokens: TokenFile) -> None:
    """Without a file of tokens none counts that was in use, least of all a viewer's for an admin's."""
    write_access(path, ACCESS)

    keep(path, tokens)

    access = read_access(path)
    assert access is not None
    assert access.user == "admin"
    assert access.token != ACCESS.token
    assert tokens.find(ACCESS.token) is None


def test_a_file_that_was_moved_away_is_not_made_again(path: Path, tokens: TokenFile) -> None:
    """Moving it must not take away the token of the one who moved it."""
    keep(path, tokens)
    token = token_in(path)
    path.unlink()

    assert not keep(path, tokens)
    assert not path.exists()
    assert tokens.find(token) is not None


def test_a_token_taken_away_does_not_come_back(path: Path, tokens: TokenFile) -> None:
    """Who deleted the admin's token meant it, also over a restart."""
    keep(path, tokens)
    tokens.delete("admin")

    keep(path, tokens)

    assert tokens.find(token_in(path)) is None


def test_somebody_elses_file_is_never_overwritten(path: Path, tokens: TokenFile) -> None:
    """A kubeconfig of other clusters stays byte for byte, at a start and with --output."""
    theirs = yaml.safe_dump({
        "clusters": [{"name": "prod", "cluster": {"server": "https://prod"}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
    })  # fmt: skip
    path.write_text(theirs)

    keep(path, tokens)
    with pytest.raises(TerminalError, match="left as it is"):
        write_access(path, ACCESS)

    assert path.read_text() == theirs


def test_what_is_written_is_read_again(path: Path) -> None:
    """A file of ours is replaced, and says what was written."""
    write_access(path, ACCESS)
    write_access(path, ACCESS._replace(user="alice"))

    assert read_access(path) == ACCESS._replace(user="alice")
