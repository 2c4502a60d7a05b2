"""Sinks are read from a file and the environment, and mistakes are named with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxer.errors import InvalidSpecError
from sandboxer.settings import Settings, settings_from_environment
from sandboxer.sinks.configuration import MAX_FILE_BYTES, configured_sinks

URL = "https://hooks.example/T0/s3cret?key=1"


def settings(directory: Path, text: str = "", **variables: str) -> Settings:
    if text:
        (directory / "sinks.yaml").write_text(text)
    return settings_from_environment({"SANDBOXER_DATA_DIR": str(directory), **variables})


def test_there_need_not_be_any(tmp_path: Path) -> None:
    """Without a file and a variable nobody is told."""
    assert configured_sinks(settings(tmp_path)) == ()


def test_file_and_environment(tmp_path: Path) -> None:
    """The sinks of the file come first, then the State Hub; what is left out means everything."""
    text = f"sinks:\n- {{name: ops, url: '{URL}', types: [ready, stalled], giveUpAfter: 1h}}\n"
    hub = {"SANDBOXER_STATE_HUB_URL": "http://hub:8080/events"}
    hub["SANDBOXER_STATE_HUB_SECRET_FILE"] = "/run/key"

    ops, state_hub = configured_sinks(settings(tmp_path, text, **hub))

    assert (ops.name, ops.types, ops.namespaces) == ("ops", ("ready", "stalled"), ())
    assert ops.give_up_after.seconds == 3600
    assert (state_hub.name, state_hub.secret_file) == ("state-hub", "/run/key")
    assert not state_hub.is_encrypted


def test_shown_url_hides_what_may_be_secret(tmp_path: Path) -> None:
    """Path and query of a URL are secret with many receivers, and never shown."""
    (ops,) = configured_sinks(settings(tmp_path, f"sinks: [{{name: ops, url: '{URL}'}}]"))

    assert ops.shown_url == "https://hooks.example/…"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("sinks: [{name: a}]", "sinks.0.url", id="no-url"),
        pytest.param("sinks: [{name: a, url: 'ftp://h/'}]", "http://HOST", id="scheme"),
        pytest.param("sinks: [{name: a, url: 'https:///x'}]", "http://HOST", id="no-host"),
        pytest.param("sinks: [{name: a, url: 'https://u:p@h/'}]", "user", id="user"),
        pytest.param('sinks: [{name: a, url: "https://h/\\r\\nX: y"}]', "ASCII", id="line-feed"),
        pytest.param("sinks: [{name: a, url: 'https://h:x/'}]", "Port", id="port"),
        pytest.param("sinks: [{name: A_, url: 'https://h/'}]", "sinks.0.name", id="name"),
        pytest.param("sinks: [{name: a, url: 'https://h/', types: [redy]}]", "'redy'", id="type"),
        pytest.param("sinks: [{name: a, url: 'https://h/', secret: x}]", "secret", id="unknown"),
        pytest.param("sinks: [&a {name: a, url: 'https://h/'}, *a]", "alias", id="alias"),
        pytest.param("sinks: [", "not YAML", id="yaml"),
        pytest.param("[1]", "sinks.yaml", id="list"),
        pytest.param("#" * (MAX_FILE_BYTES + 1), "bytes", id="large"),
        pytest.param(
            "sinks: [{name: a, url: 'https://h/'}, {name: a, url: 'https://i/'}]", "'a'", id="twice"
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, says: str) -> None:
    """A file that cannot be followed is refused as a whole, with the place of the mistake."""
    with pytest.raises(InvalidSpecError) as refused:
        configured_sinks(settings(tmp_path, text))

    assert says in str(refused.value)


def test_a_mistake_does_not_show_the_url(tmp_path: Path) -> None:
    """What is wrong with a URL is said without it."""
    with pytest.raises(InvalidSpecError) as refused:
        configured_sinks(settings(tmp_path, "sinks: [{name: a, url: 'https://u:s3cret@h/'}]"))

    assert "s3cret" not in str(refused.value)
