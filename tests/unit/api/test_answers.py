"""Lists around encoded objects, and warnings as headers."""

from __future__ import annotations

import json

import pytest

from sandboxer.api.answers import json_response, list_bytes, warning_lines


def test_a_warning_is_quoted() -> None:
    """Quotes are escaped, and nothing in a text can end the header."""
    assert warning_lines(['a "b" \\ c\r\nX-Evil: 1']) == [rb'299 - "a \"b\" \\ c  X-Evil: 1"']


def test_a_warning_is_any_text() -> None:
    """Text outside of Latin and broken text are sent as UTF-8."""
    response = json_response({}, warnings=["fenêtre 窓 \ud800"])

    assert (b"warning", '299 - "fenêtre 窓  "'.encode()) in response.raw_headers


def test_warnings_are_said_once() -> None:
    """The same warning twice is one header."""
    assert len(warning_lines(["a", "b", "a"])) == 2


def test_warnings_are_bounded() -> None:
    """Neither one nor all of them make an answer whose headers a client refuses."""
    lines = warning_lines(f"{number} {'x' * 1000}" for number in range(1000))

    assert max(map(len, lines)) < 300
    assert 10 < len(lines) < 20


@pytest.mark.parametrize("items", [[], [{"a": 1}], [{"a": 1}, {"b": [2]}], [{}, {}, {}]])
def test_a_list_is_put_around_encoded_objects(items: list[dict[str, object]]) -> None:
    """However many there are, a list is JSON that holds exactly them."""
    encoded = (json.dumps(item).encode() for item in items)

    body = list_bytes("g/v1", "ThingList", {"resourceVersion": "7"}, encoded)

    assert json.loads(body) == {
        "kind": "ThingList",
        "apiVersion": "g/v1",
        "metadata": {"resourceVersion": "7"},
        "items": items,
    }
