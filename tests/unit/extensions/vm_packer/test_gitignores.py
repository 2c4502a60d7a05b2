"""`.gitignore` files of hostile repositories."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxer.errors import InvalidSpecError
from sandboxer_extensions.vm_packer.gitignores import MAX_BYTES, check_gitignores


@pytest.mark.parametrize(
    ("make", "word"),
    [
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "leads out", id="endless"),
        pytest.param(lambda path: path.symlink_to("/etc/passwd"), "leads out", id="a file elsewhere"),
        pytest.param(os.mkfifo, "no file", id="pipe"),
        pytest.param(lambda path: path.write_bytes(b"x" * (MAX_BYTES + 1)), "1 MiB", id="big"),
        pytest.param(lambda path: path.symlink_to(path.name), "cannot be read", id="loop"),
    ],
)  # fmt: skip
def test_what_rsync_should_not_open(
    tmp_path: Path, make: Callable[[Path], object], word: str
) -> None:
    """A file that is none is refused by its path, wherever in the tree it is."""
    (tmp_path / "sub").mkdir()
    make(tmp_path / "sub" / ".gitignore")

    with pytest.raises(InvalidSpecError, match=f"sub/.gitignore .*{word}"):
        check_gitignores(str(tmp_path))


def test_what_people_have(tmp_path: Path) -> None:
    """Plain files, links to them, and links that lead nowhere are taken."""
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / ".gitignore").write_text("dist\n")
    (tmp_path / "a" / ".gitignore").symlink_to("../.gitignore")
    (tmp_path / "b" / ".gitignore").symlink_to("nowhere")
    (tmp_path / "c" / ".gitignore").mkdir()

    check_gitignores(str(tmp_path))
