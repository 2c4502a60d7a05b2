"""Which events are forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic_core import to_json

from sandboxer.kinds.meta import Key
from sandboxer.store import retention
from sandboxer.store.entries import Entry

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


def event(number: int, seen_at: datetime) -> Entry:
    body = to_json({"metadata": {}, "lastTimestamp": seen_at.strftime("%Y-%m-%dT%H:%M:%SZ")})
    key = Key("Event", "default", f"e{number}")
    return Entry(key, str(number), number, 1, {}, deleting=False, body=body)


def test_age() -> None:
    """Events not seen for a day go, by the last time they happened."""
    kept = event(1, NOW - timedelta(hours=23))
    old = event(2, NOW - timedelta(hours=25))

    assert [delete.name for delete in retention.stale_events([kept, old], NOW)] == ["e2"]


def test_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many events the newest stay."""
    monkeypatch.setattr(retention, "MAX_EVENTS", 2)
    events = [event(number, NOW) for number in (3, 1, 2)]

    assert [delete.name for delete in retention.stale_events(events, NOW)] == ["e1"]
