"""What SANDBOXER_SERVER may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxer.client.server import server_from_settings
from sandboxer.errors import InvalidSpecError
from sandboxer.settings import settings_from_environment


def test_nothing_named_is_nothing_remote() -> None:
    """Without the variable the data directory decides."""
    assert server_from_settings(settings_from_environment({})) is None


def test_url_token_and_authority_are_taken_as_they_are() -> None:
    """A URL may have a path, whose last slash does not matter."""
    environ = {
        "SANDBOXER_SERVER": "https://[::1]:7443/behind/",
        "SANDBOXER_TOKEN": "secret",
        "SANDBOXER_CA_FILE": "/ca.pem",
    }

    server = server_from_settings(settings_from_environment(environ))

    assert server is not None
    assert server.url == "https://[::1]:7443/behind"
    assert (server.token, server.ca_file, server.socket) == ("secret", Path("/ca.pem"), None)
    assert "secret" not in repr(server)


def test_socket_may_be_named() -> None:
    """Another data directory's controller is reached by its socket."""
    settings = settings_from_environment({"SANDBOXER_SERVER": "unix:///run/sandboxer.sock"})

    server = server_from_settings(settings)

    assert server is not None
    assert server.socket == Path("/run/sandboxer.sock")


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:7443",
        "https://",
        "https://host:port",
        "https://user:pass@host",
        "https://host?x=1",
        "https://ho st",
        "ftp://host",
        "unix://relative",
    ],
)
def test_anything_else_is_refused(url: str) -> None:
    """What is no URL of a server is an error that shows it."""
    with pytest.raises(InvalidSpecError, match="no URL"):
        server_from_settings(settings_from_environment({"SANDBOXER_SERVER": url}))


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("http://example.org", True),
        ("http://10.0.0.1:80", True),
        ("http://127.0.0.1:80", False),
        ("http://localhost:80", False),
        ("http://[::1]:80", False),
    ],
)
def test_token_never_travels_in_clear(url: str, *, refused: bool) -> None:
    """Plain HTTP takes a token on this machine only."""
    settings = settings_from_environment({"SANDBOXER_SERVER": url, "SANDBOXER_TOKEN": "secret"})

    if refused:
        with pytest.raises(InvalidSpecError, match="in clear"):
            server_from_settings(settings)
    else:
        assert server_from_settings(settings) is not None
