"""Settings from the environment."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sandboxer.errors import InvalidSpecError
from sandboxer.settings import MAX_SOCKET_PATH, settings_from_environment, socket_address


def test_nothing_set_is_a_directory_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything lies in one directory below the home directory."""
    monkeypatch.setenv("HOME", "/home/somebody")

    settings = settings_from_environment({})

    assert settings.data_dir == Path("/home/somebody/.local/share/sandboxer")
    assert settings.database_path == settings.data_dir / "store.db"
    assert settings.socket_path.parent == settings.locks_path.parent == settings.data_dir
    assert (settings.host, settings.compose_command) == (None, None)


def test_a_relative_directory_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store stays where it is when the process changes its directory."""
    monkeypatch.chdir(tmp_path)

    settings = settings_from_environment({"SANDBOXER_DATA_DIR": "data"})

    assert settings.data_dir == tmp_path / "data"
    assert settings.database_path == tmp_path / "data/store.db"


def test_every_variable_is_read() -> None:
    """The store may lie elsewhere; a command is split at spaces; empty means unset."""
    settings = settings_from_environment(
        {
            "SANDBOXER_DATA_DIR": "/data",
            "SANDBOXER_DATABASE_URL": "sqlite:////elsewhere/store.db",
            "SANDBOXER_HOST": "h1",
            "SANDBOXER_COMPOSE_CMD": "podman compose",
        }
    )
    empty = settings_from_environment({"SANDBOXER_HOST": "", "SANDBOXER_COMPOSE_CMD": " "})

    assert settings.database_path == Path("/elsewhere/store.db")
    assert (settings.host, settings.compose_command) == ("h1", ("podman", "compose"))
    assert (empty.host, empty.compose_command) == (None, None)


@pytest.mark.parametrize(
    "url", ["postgresql://me:secret@db/x", "sqlite:///relative.db", "store.db"]
)
def test_another_store_is_refused_without_showing_its_password(url: str) -> None:
    """Only a file with an absolute path is supported; what was given may hold a password."""
    with pytest.raises(InvalidSpecError) as caught:
        settings_from_environment({"SANDBOXER_DATABASE_URL": url})

    assert "secret" not in str(caught.value)
    assert caught.value.remedy


def test_a_socket_may_have_a_long_path(tmp_path: Path) -> None:
    """What does not fit into a socket's address can be listened on and connected to nevertheless."""
    directory = tmp_path / ("long" * 40)
    directory.mkdir()
    path = directory / "api.sock"

    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind(socket_address(path))
        listening.listen()
        client.connect(socket_address(path))

    assert path.is_socket()
    assert len(str(path)) > MAX_SOCKET_PATH
