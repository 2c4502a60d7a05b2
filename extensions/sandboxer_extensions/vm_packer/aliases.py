"""
Which aliases the SSH configuration of this process's user has an entry for.

Only names are read; what an entry says is the transport's matter. An alias that merely matches a
pattern (`Host *`) is not known: a slip of the pen would make a Host.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

# Source: ssh_config(5) allows 16 levels of Include. Bytes: far above any real configuration.
MAX_DEPTH = 16
MAX_BYTES = 2**20


def known_aliases(path: Path | None = None) -> tuple[str, ...]:
    """Return the aliases with an entry of their own, sorted; none when there is no configuration."""
    main = path or Path.home() / ".ssh" / "config"
    return tuple(sorted(set(_aliases(main, main.parent, MAX_DEPTH))))


def _aliases(path: Path, home: Path, depth: int) -> Iterator[str]:
    for keyword, arguments in _lines(path):
        if keyword == "host":
            yield from (name for name in arguments if not set(name) & set("*?!"))
        elif keyword == "include" and depth > 0:
            for pattern in arguments:
                for included in _included(pattern, home):
                    yield from _aliases(included, home, depth - 1)


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield keyword and arguments of each line; what cannot be read says nothing."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return
    for line in text.splitlines():
        try:
            words = shlex.split(line.replace("=", " ", 1), comments=True)
        except ValueError:
            continue
        if words:
            yield words[0].lower(), words[1:]


def _included(pattern: str, home: Path) -> Iterator[Path]:
    absolute = Path(pattern).expanduser()
    if not absolute.is_absolute():
        absolute = home / pattern
    try:
        yield from sorted(Path(absolute.anchor).glob(str(absolute.relative_to(absolute.anchor))))
    except (ValueError, OSError, NotImplementedError):
        return
