"""
Many rows through one statement.

The driver gives up Python's global lock at every step of a statement and, while the event loop is
busy, gets it back only after 5 ms (`sys.getswitchinterval`): 150 steps for 50 writes took 200 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy.engine import Connection, CursorResult

# Rows of one statement, nine parameters each at most. SQLite takes 32,766 parameters
# (https://www.sqlite.org/limits.html, 9); longer statements only parse slower.
ROWS_PER_STATEMENT: Final = 256


def run_many(
    connection: Connection,
    statement: str,
    row: str,
    rows: Sequence[tuple[Any, ...]],
    *,
    end: str = "",
) -> list[CursorResult[Any]]:
    """Run *statement* followed by placeholders for *rows*, in as few pieces as possible."""
    pieces = [
        rows[start : start + ROWS_PER_STATEMENT]
        for start in range(0, len(rows), ROWS_PER_STATEMENT)
    ]
    return [
        connection.exec_driver_sql(
            f"{statement}{', '.join([row] * len(piece))}{end}",
            tuple(value for values in piece for value in values),
        )
        for piece in pieces
    ]
