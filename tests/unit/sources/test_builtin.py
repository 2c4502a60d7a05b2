"""The profiles that ship, from the checkout; the wheel is tested in `tests/packaging`."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxer.errors import TerminalError
from sandboxer.sources import builtin


def test_the_profiles_of_the_checkout_are_found() -> None:
    """Each is in a file of its own name, and the default one is among them."""
    names = [profile.metadata.name for profile in builtin.builtin_profiles()]

    assert "profile.sandbox-canary" in names
    assert sorted(names) == sorted(path.stem for path in builtin.profile_directory().glob("*.yaml"))


def test_an_incomplete_installation_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without profiles nothing works, and a person can put it right."""
    monkeypatch.setattr(builtin, "_PACKAGE", tmp_path / "a/b/c")

    with pytest.raises(TerminalError) as caught:
        builtin.profile_directory()

    assert caught.value.remedy
