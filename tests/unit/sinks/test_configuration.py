"""Sinks are read from a file and the environment, and mistakes are named with their place."""

from __future__ import annotations

import traceback
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
        pytest.param("sinks: [&a {name: a, url: 'https://h/'}, *a]", "anchors", id="anchor"),
        pytest.param("sinks: [*a]", "aliases", id="alias"),
        pytest.param("sinks: [", "not valid YAML", id="yaml"),
        pytest.param("sinks:\n- name: a\n  url: @h\n", "line 3: is not valid", id="line"),
        pytest.param("sinks: 2026-13-45", "sinks: ", id="no-date"),
        pytest.param("sinks: []\nsinks: []", "given twice", id="key-twice"),
        pytest.param('sinks: [{name: a, url: "http://h/", secretFile: "a\\0b"}]', "NUL", id="nul"),
        pytest.param('sinks: [{name: a, url: "http://h/", caFile: "a\\0b"}]', "NUL", id="ca-nul"),
        pytest.param(
            "sinks: [{name: a, url: 'http://h/', secretFile: ''}]", "secretFile", id="no-key"
        ),
        pytest.param("\n", "is not one mapping", id="empty"),
        pytest.param("# sinks:\n", "is not one mapping", id="comment"),
        pytest.param("[]", "is not one mapping", id="empty-list"),
        pytest.param("false", "is not one mapping", id="false"),
        pytest.param("[1]", "is not one mapping", id="list"),
        pytest.param("{}", "sinks: ", id="no-sinks"),
        pytest.param("sinks:", "sinks: ", id="null"),
        pytest.param("sinks: []\n---\nsinks: []", "is not one mapping", id="documents"),
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


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("sinks: [{name: a, url: 'https://u:s3cret@h/'}]", id="user"),
        pytest.param("sinks: [{name: a, url: 'https://h/s3cret}]", id="quote"),
        pytest.param("sinks:\n- url: @https://h/s3cret", id="at"),
        pytest.param("sinks: [{name: a, url: 'http://h/', ca https://h/s3cret}]", id="colon"),
        pytest.param("sinks: [{name: a, url: [https://h/s3cret]}]", id="list"),
    ],
)
def test_a_mistake_does_not_show_the_url(tmp_path: Path, text: str) -> None:
    """What is wrong with a URL is said without it, in the message and in a traceback."""
    with pytest.raises(InvalidSpecError) as refused:
        configured_sinks(settings(tmp_path, text))

    assert "s3cret" not in "".join(traceback.format_exception_only(refused.value))
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_nobody_is_told_on_purpose(tmp_path: Path) -> None:
    """An empty list is a wish, and the only one there is."""
    assert configured_sinks(settings(tmp_path, "sinks: []")) == ()
