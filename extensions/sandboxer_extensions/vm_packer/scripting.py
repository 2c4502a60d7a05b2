"""The packaged scripts as they travel: without comments and indentation."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def script_text(*names: str) -> str:
    """
    Return the scripts of these names, one after the other, as short as they can be.

    dropbear ends a connection that asks for a command of more than 9000 bytes (MAX_CMD_LEN in its
    sysoptions.h), and a script travels as one. No line of ours begins a comment within a text.
    """
    folder = resources.files(__package__) / "scripts"
    lines = (
        line.strip()
        for name in names
        for line in (folder / f"{name}.sh").read_text("utf-8").splitlines()
    )
    return "\n".join(line for line in lines if line and not line.startswith("#"))
