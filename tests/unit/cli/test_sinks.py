"""The lists of `sinks`, as text."""

from __future__ import annotations

from sandboxer.cli.sinks import dead_text, sinks_text
from sandboxer.kinds.sinks import DeadLetter, DeadLetterList, SinkState
from sandboxer.testing.clock import EPOCH

LETTER = DeadLetter(
    number=7,
    sink="hub",
    event_id="1",
    type="ready",
    uid="u",
    namespace="default",
    name="hello",
    time=EPOCH,
    dead_at=EPOCH,
    attempts=5,
    error="It answered 500.",
)


def test_what_is_not_listed_is_counted() -> None:
    """A list that was cut short says by how much."""
    whole = dead_text(DeadLetterList(items=(LETTER,)), EPOCH)
    short = dead_text(DeadLetterList(items=(LETTER,), remaining=9), EPOCH)

    assert short == f"{whole}… and 9 more; see --limit\n"


def test_a_full_sink() -> None:
    """Where as much waits as is kept the list says so."""
    full = SinkState(name="away", url="https://a", waiting=3, most_waiting=3)
    other = SinkState(name="slow", url="https://b", waiting=2, most_waiting=3)

    lines = sinks_text((full, other), EPOCH).splitlines()

    assert "3 (full)" in lines[1]
    assert "full" not in lines[2]
