"""
What sinks are to be told, written with what happened: in the transaction of the transition itself.

A write that commits leaves one row for each registered sink that wants to know, whichever process
made it; one that does not commit leaves none. Where no sink is registered this costs one look at
an empty table. What becomes of a row is the business of `deliveries.py`.

The rows of one sandbox and sink are a lane: one after the other, and only the first has a time at
which it is due. So finding what is due never looks at what waits behind it.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection

from sandboxer.kinds.lifecycle import TYPE_PREFIX, LifecycleData, LifecycleEvent, event_word
from sandboxer.kinds.meta import Key
from sandboxer.store import statements
from sandboxer.store.batches import run_many
from sandboxer.store.entries import Document


class Letter(NamedTuple):
    """A transition, before it is known whether anybody wants to hear of it."""

    key: Key
    document: Document
    """The sandbox after it; the last there was when it is gone."""
    reason: str
    message: str
    phase: str
    told: str
    """JSON of the rest of the transition, as it is stored."""


class _Wanting(NamedTuple):
    """What one sink wants to be told."""

    sink: str
    words: frozenset[str]
    """Empty is all."""
    namespaces: frozenset[str]
    """Empty is all."""

    def wants(self, word: str, namespace: str) -> bool:
        return (not self.words or word in self.words) and (
            not self.namespaces or namespace in self.namespaces
        )


def post(connection: Connection, now_s: float, letters: Sequence[Letter]) -> None:
    """
    Put transitions into the outbox, inside the transaction that wrote them.

    Args:
        connection: Holds the write lock.
        now_s: Time of the transaction, seconds since 1970.
        letters: In the order of what happened.
    """
    if not letters:
        return
    wanting = list(_wanting(connection))
    if not wanting:
        return
    environment = connection.exec_driver_sql(statements.READ_META).one()[0]
    rows = list(_rows(letters, wanting, environment, now_s))
    run_many(connection, statements.POST_LETTERS, statements.LETTER_ROW, rows)


def _wanting(connection: Connection) -> Iterator[_Wanting]:
    for name, words, namespaces in connection.exec_driver_sql(statements.READ_WANTED):
        yield _Wanting(name, frozenset(json.loads(words)), frozenset(json.loads(namespaces)))


def _rows(
    letters: Sequence[Letter], wanting: Sequence[_Wanting], environment: str, now_s: float
) -> Iterator[tuple[Any, ...]]:
    lanes: set[tuple[str, str]] = set()
    numbers: Counter[str] = Counter()
    for letter in letters:
        version = letter.document["metadata"]["resourceVersion"]
        numbers[version] += 1
        event = _event(letter, environment, now_s, numbers[version])
        word, data = event.type.removeprefix(TYPE_PREFIX), event.data
        body = json.dumps(event.to_document(), separators=(",", ":"))
        for each in wanting:
            if not each.wants(word, data.namespace):
                continue
            lane = (each.sink, data.uid)
            # NOTE: what else this statement inserts is not there yet when the row looks for it.
            behind = lane in lanes
            lanes.add(lane)
            what = (event.id, word, data.namespace, data.name, now_s, body)
            yield *lane, *what, behind, *lane, now_s


def _event(letter: Letter, environment: str, now_s: float, number: int) -> LifecycleEvent:
    told: dict[str, Any] = json.loads(letter.told)
    severity = told.get("type", "Normal")
    word = event_word(letter.reason, is_warning=severity == "Warning", after=letter.phase)
    metadata = letter.document["metadata"]
    return LifecycleEvent(
        id=str(uuid.uuid4()),
        source=f"/sandboxer/{environment}",
        type=TYPE_PREFIX + word,
        subject=f"{letter.key.namespace}/{letter.key.name}",
        time=datetime.fromtimestamp(now_s, UTC),
        sequence=f"{int(metadata['resourceVersion']):020d}.{number:04d}",
        data=LifecycleData(
            uid=metadata["uid"],
            namespace=letter.key.namespace,
            name=letter.key.name,
            resource_version=metadata["resourceVersion"],
            generation=metadata["generation"],
            reason=letter.reason,
            message=letter.message,
            severity=severity,
            before=told.get("before", ""),
            after=letter.phase,
            by=told.get("by", ""),
            via=told.get("via", ""),
            trigger=told.get("trigger", ""),
            evidence=told.get("evidence", {}),
            **_facts(letter.document),
        ),
    )


def _facts(document: Document) -> dict[str, Any]:
    """Return what a receiver would have to ask for; nothing of what another version garbled."""
    spec, status = document.get("spec"), document.get("status")
    given = {**(status if isinstance(status, dict) else {})}
    given["profile"] = spec.get("profile") if isinstance(spec, dict) else ""
    facts: dict[str, Any] = {
        name: given[name]
        for name in ("profile", "extension", "host")
        if isinstance(given.get(name), str)
    }
    expires_at = given.get("expiresAt")
    if isinstance(expires_at, str):
        facts["expires_at"] = datetime.fromisoformat(expires_at)
    return facts
