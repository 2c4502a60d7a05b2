"""Warnings as headers."""

from __future__ import annotations

from sandboxer.api.answers import json_response, warning_lines


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
