"""What is wrong with a document: one `Problem` per place, all of them in one `DocumentError`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sandboxer.errors import InvalidSpecError

# A file of 4 MiB can hold a mistake in every line; a person fixes the first ones and looks again.
MAX_PROBLEMS_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing a person must change in a file."""

    origin: str
    """File as the user named it, `-` for standard input."""
    line: int = 0
    """Counted from 1; 0 when the whole file is meant."""
    column: int = 0
    """Counted from 1; 0 when the whole line is meant."""
    field: str = ""
    """Path in the document (`spec.ports[0].name`), or empty."""
    message: str
    """What is wrong and what to write instead, without a final stop."""

    @property
    def place(self) -> str:
        """`file:line:column`, the form editors and terminals turn into a link."""
        numbers = [str(number) for number in (self.line, self.column) if number]
        return ":".join([self.origin, *numbers])

    def __str__(self) -> str:
        """Return the line that is shown to a person."""
        return ": ".join(part for part in (self.place, self.field, self.message) if part)


class DocumentError(InvalidSpecError):
    """
    A text could not be read as documents; nothing of it may be used.

    Args:
        problems: Everything that was found, in the order of the text; not empty.
    """

    default_reason = "InvalidDocument"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__(_summary(self.problems), field=self.problems[0].field)


def _summary(problems: Sequence[Problem]) -> str:
    if len(problems) == 1:
        return str(problems[0])
    lines = [str(problem) for problem in problems[:MAX_PROBLEMS_SHOWN]]
    if left := len(problems) - len(lines):
        lines.append(f"and {left} more")
    return f"{len(problems)} problems:\n" + "\n".join(f"  {line}" for line in lines)
