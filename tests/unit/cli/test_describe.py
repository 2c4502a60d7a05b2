"""What is told of an object, and in which order."""

from __future__ import annotations

from datetime import UTC, datetime

from sandboxer.cli.describe import in_order
from sandboxer.kinds.event import Event

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def event(reason: str, revision: int, *, second: int) -> Event:
    return Event.parse(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": reason.lower(), "namespace": "default", "resourceVersion": str(revision)},
            "involvedObject": {"kind": "Sandbox", "name": "hello", "namespace": "default"},
            "reason": reason,
            "lastTimestamp": NOON.replace(second=second).isoformat(),
        }
    )  # fmt: skip


def test_events_of_one_second_are_told_as_they_were_written() -> None:
    """Times have whole seconds; what happened first within one still comes first."""
    told = in_order(
        [
            event("Ready", 12, second=2),
            event("Routed", 10, second=1),
            event("Accepted", 9, second=1),
        ]
    )

    assert [each.reason for each in told] == ["Accepted", "Routed", "Ready"]
