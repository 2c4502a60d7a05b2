"""Which aliases an SSH configuration has."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxer_extensions.vm_packer.aliases import known_aliases


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("Host a b\n  Port 1\nhost=c # d\n", ("a", "b", "c"), id="names"),
        pytest.param("Host * !x build-?\n", (), id="patterns"),
        pytest.param('Host "a" \'b\nHost c\n', ("c",), id="unclosed quote"),
        pytest.param("", (), id="empty"),
    ],
)
def test_names(tmp_path: Path, text: str, expected: tuple[str, ...]) -> None:
    """Names count, patterns do not, and a line nobody can read says nothing."""
    (tmp_path / "config").write_text(text)

    assert known_aliases(tmp_path / "config") == expected


def test_included_files(tmp_path: Path) -> None:
    """Included files count, relative ones beside the configuration; a circle ends."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "1.conf").write_text(f"Host a\nInclude {tmp_path / 'config'}\n")
    (tmp_path / "config").write_text("Include conf.d/*.conf missing\nHost b\n")

    assert known_aliases(tmp_path / "config") == ("a", "b")


def test_no_configuration(tmp_path: Path) -> None:
    """Without a file there are no aliases."""
    assert known_aliases(tmp_path / "config") == ()
