"""Rows of the outbox and of its sinks, as the API shows them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sandboxer.kinds.sinks import DeadLetter, SinkState


def sink_state(row: tuple[Any, ...], *, most_waiting: int) -> SinkState:
    """Return a row of READ_SINKS as it is shown."""
    name, url, words, namespaces, waiting, dead, oldest_s, error = row
    return SinkState(
        name=name,
        url=url,
        types=tuple(json.loads(words)),
        namespaces=tuple(json.loads(namespaces)),
        waiting=waiting,
        most_waiting=most_waiting,
        dead=dead,
        oldest=None if oldest_s is None else _moment(oldest_s),
        error=error or "",
    )


def dead_letter(row: tuple[Any, ...]) -> DeadLetter:
    """Return a row of DEAD_LETTERS as it is shown."""
    position, sink, uid, event_id, word, namespace, name, at_s, attempts, dead_at_s, error = row
    return DeadLetter(
        number=position,
        sink=sink,
        event_id=event_id,
        type=word,
        uid=uid,
        namespace=namespace,
        name=name,
        time=_moment(at_s),
        dead_at=_moment(dead_at_s),
        attempts=attempts,
        error=error,
    )


def _moment(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)
