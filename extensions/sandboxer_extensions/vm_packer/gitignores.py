"""
What rsync would open as `.gitignore` in a repository, looked at before it does.

It follows links and waits for pipes: a repository with a `.gitignore` that leads to /dev/zero kept
a processor of the controller busy until the copy's time was over (measured 2026-11).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sandboxer.errors import InvalidSpecError

NAME = ".gitignore"

# Bytes; far above any list of patterns that a person wrote.
MAX_BYTES = 2**20


def check_gitignores(repo: str) -> None:
    """
    Refuse a repository in which one of the files is no plain file of its own.

    Raises:
        InvalidSpecError: It leads out of the repository, is no file, or is far too big.
    """
    inside = Path(repo).resolve()
    for directory, subdirectories, files in os.walk(repo):
        if NAME not in files and NAME not in subdirectories:
            continue
        path = Path(directory) / NAME
        if (why := _objection(path, inside)) is not None:
            raise InvalidSpecError(
                f"{path} {why}, so it is not read as a list of what to leave out."[:1000],
                field="spec.inputs.repo",
                reason="FilterRefused",
                remedy="Make it a plain file, or set input `filters` to none.",
            )


def _objection(path: Path, inside: Path) -> str | None:
    try:
        place = path.resolve()
        status = place.stat()
    except FileNotFoundError:
        # A link that leads nowhere; rsync passes over it.
        return None
    except (OSError, RuntimeError) as error:
        return f"cannot be read ({error})"
    if not place.is_relative_to(inside):
        return "leads out of the repository"
    if stat.S_ISDIR(status.st_mode):
        return None
    if not stat.S_ISREG(status.st_mode):
        return "is no file"
    return "is bigger than 1 MiB" if status.st_size > MAX_BYTES else None
