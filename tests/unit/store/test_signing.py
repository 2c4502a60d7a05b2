"""The key beside the store: made once, private, refused when it is damaged."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandboxer.errors import TerminalError
from sandboxer.store.signing import KEY_FILE, signing_key


def test_key_is_made_once(tmp_path: Path) -> None:
    """Whoever comes first makes it, and all others read the same one."""
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(signing_key, [tmp_path / "store.db"] * 8))

    (key,) = keys
    path = tmp_path / KEY_FILE
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_key_is_refused(tmp_path: Path) -> None:
    """A key that was cut off is never replaced in silence."""
    (tmp_path / KEY_FILE).write_bytes(b"short")

    with pytest.raises(TerminalError):
        signing_key(tmp_path / "store.db")
    assert (tmp_path / KEY_FILE).read_bytes() == b"short"
