"""Exit codes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sandboxer.cli.exits import Exit, RefusedError, TimedOutError, exit_of
from sandboxer.errors import (
    ConflictError,
    InvalidSpecError,
    NotFoundError,
    SandboxerError,
    TerminalError,
    TransientError,
    UnreachableError,
)

DOCUMENT = Path(__file__).parents[3] / "docs" / "cli.md"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidSpecError("x"), 3),
        (NotFoundError("x"), 4),
        (ConflictError("x"), 5),
        (TimedOutError("x"), 6),
        (UnreachableError("x"), 7),
        (TerminalError("x"), 8),
        (TransientError("x"), 9),
        (RefusedError("x"), 1),
    ],
)
def test_each_error_has_its_exit_code(error: SandboxerError, code: int) -> None:
    """A script can tell the classes of failure apart by exit code."""
    assert exit_of(error) == code


def test_documented_codes_are_the_real_ones() -> None:
    """docs/cli.md lists exactly the codes and meanings of the enum."""
    rows = re.findall(r"^\| (\d+) \| (.+?) \|$", DOCUMENT.read_text(), re.MULTILINE)

    assert rows == [(str(code.value), code.meaning) for code in Exit]
