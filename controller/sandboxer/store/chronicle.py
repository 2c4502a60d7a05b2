"""
What writes do to sandboxes, told in the transaction that does it: transitions and tombstones.

A write that commits leaves its transition, one that does not leaves none, so a status and the
story that leads to it cannot differ, whoever wrote it and wherever a process died. Creation,
another spec, a request for deletion and the end are told here, from the documents before and
after; what a status means is told by whoever writes it (`News`), and where nobody does, a change
of phase is. What befalls the remains of a sandbox is a remark, which no write of its object tells.

Design notes:

* Rows are numbered by the database, so two processes that write about one sandbox agree.
* The newest `KEEP_TRANSITIONS` of a sandbox stay while it lives, `KEEP_FINAL` when it is gone;
  its creation and who asked for its deletion stay in any case. What happens again in a row is
  counted instead of listed, so a failure that is repeated for a week does not push out its cause.
* Nothing is kept in memory; a story is read when somebody asks.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy.engine import Connection

from sandboxer.kinds.meta import Key
from sandboxer.kinds.story import Tombstone, Transition
from sandboxer.store import statements
from sandboxer.store.batches import run_many
from sandboxer.store.entries import ChangeType, Document
from sandboxer.store.operations import Cause, News, Remains
from sandboxer.store.outbox import Letter, post
from sandboxer.store.rules import Wish

TOLD: Final = "Sandbox"
"""The kind that has a story."""

# Transitions of a living sandbox that stay. One that is made, lives and goes has about ten; a host
# that goes and comes back a hundred times still leaves the whole list.
KEEP_TRANSITIONS: Final = 200

# Transitions that stay when it is gone: 10,000 tombstones have at most 150 MB then, and about
# 30 MB as sandboxes usually live.
KEEP_FINAL: Final = 50

# Characters of a message or of a piece of evidence; a host's text cannot fill the store.
MAX_TEXT: Final = 2000


class _Row(NamedTuple):
    """A transition to be written."""

    uid: str
    reason: str
    message: str
    phase: str
    told: str
    """JSON of the rest."""
    repeats: bool
    """Whether it may be the same as the one before, which then counts it."""
    key: Key
    document: Document | None
    """The sandbox after it; None of a remark."""

    @property
    def letters(self) -> list[Letter]:
        """What sinks are told; the same story, but for remarks, which have no place in its order."""
        if self.document is None:
            return []
        told = (self.key, self.document, self.reason, self.message, self.phase, self.told)
        return [Letter(*told)]


@dataclass(frozen=True, slots=True)
class _Ended:
    """A sandbox that this transaction removes."""

    key: Key
    document: Document
    cause: Cause


class Chronicle:
    """
    What one transaction tells.

    Args:
        connection: Holds the write lock.
        now: Time of the transaction.
    """

    def __init__(self, connection: Connection, now: datetime) -> None:
        self._connection = connection
        self._now_s = now.timestamp()
        self._rows: list[_Row] = []
        self._ended: list[_Ended] = []
        self._dead: set[str] = set()

    def tell(
        self, wish: Wish, before: Document | None, change: ChangeType, after: Document
    ) -> None:
        """
        Note what a write did.

        Args:
            wish: The write.
            before: The document it found, None for a creation.
            change: What became of it.
            after: The document it left; for `DELETED` the last there was.
        """
        if wish.key.kind != TOLD:
            return
        uid = after["metadata"]["uid"]
        was, is_ = _phase(before), "" if change == "DELETED" else _phase(after)
        for news in _news(wish, before, change, after):
            told, repeats = _rest(news, wish.cause, was), news.type == "Warning"
            said = (uid, news.reason, _text(news.message), is_, told, repeats)
            self._rows.append(_Row(*said, wish.key, after))
        if change == "DELETED":
            self._ended.append(_Ended(wish.key, after, wish.cause))

    def remark(
        self, remains: Remains, living: Document | None, news: News, cause: Cause, revision: int
    ) -> None:
        """
        Note what befell the remains of a sandbox; one that nothing is known of gets a tombstone.

        Args:
            remains: Of what, and where.
            living: The sandbox, when there is one with that uid.
            news: What is to be told.
            cause: Who did it.
            revision: Newest revision given out.
        """
        phase, uid = _phase(living), remains.uid
        said = (uid, news.reason, _text(news.message), phase, _rest(news, cause, phase))
        self._rows.append(_Row(*said, repeats=True, key=remains.key, document=None))
        if living is None:
            self._dead.add(uid)
            stone = self._tombstone_of(remains, news, cause)
            body = json.dumps(stone.to_document())
            values = (uid, *remains.key[1:], revision, self._now_s, body)
            self._connection.exec_driver_sql(statements.ADD_TOMBSTONE, values)

    def flush(self) -> None:
        """Write what was noted."""
        if not self._rows:
            return
        crowded = Counter(row.uid for row in self._rows)
        new = [row for row in self._rows if crowded[row.uid] > 1 or not self._repeat(row)]
        # NOTE: before the tombstones, which are made of what was written.
        run_many(
            self._connection,
            statements.APPEND_TRANSITIONS,
            statements.TRANSITION_ROW,
            list(self._numbered(new)),
        )
        letters = [letter for row in new for letter in row.letters]
        post(self._connection, self._now_s, letters)
        run_many(
            self._connection,
            statements.WRITE_TOMBSTONES,
            statements.TOMBSTONE_ROW,
            [self._tombstone(ended) for ended in self._ended],
        )
        gone = self._dead | {ended.document["metadata"]["uid"] for ended in self._ended}
        self._trim(crowded.keys() - gone, KEEP_TRANSITIONS)
        self._trim(gone, KEEP_FINAL)

    def _repeat(self, row: _Row) -> bool:
        """Count a warning that says what was said last; False when it says something new."""
        if not row.repeats:
            return False
        values = (self._now_s, row.uid, row.uid, row.reason, row.message, row.phase, row.told)
        done = self._connection.exec_driver_sql(statements.REPEAT_TRANSITION, values)
        return done.rowcount > 0

    def _numbered(self, rows: Sequence[_Row]) -> Iterator[tuple[Any, ...]]:
        numbers: Counter[str] = Counter()
        for row in rows:
            numbers[row.uid] += 1
            uid, at = row.uid, self._now_s
            rest = (row.reason, row.message, row.phase, row.told)
            yield uid, numbers[uid], uid, at, at, *rest

    def _tombstone(self, ended: _Ended) -> tuple[Any, ...]:
        document, metadata = ended.document, ended.document["metadata"]
        uid = metadata["uid"]
        asked = self._connection.exec_driver_sql(statements.READ_DELETION, (uid,)).first()
        told: dict[str, Any] = json.loads(asked[1]) if asked is not None else _told_at_once(ended)
        status, evidence = _section(document, "status"), told.get("evidence", {})
        tombstone = Tombstone(
            uid=uid,
            namespace=ended.key.namespace,
            name=ended.key.name,
            profile=_text(_section(document, "spec").get("profile")),
            extension=_text(status.get("extension")),
            host=_text(status.get("host")),
            created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
            deletion_requested_at=_moment(asked[0]) if asked is not None else None,
            deleted_at=_moment(self._now_s),
            deleted_by=told.get("by", ""),
            deleted_via=told.get("via", ""),
            because=evidence.get("because", ""),
            phase=told.get("before", ""),
            last_message=evidence.get("said", ""),
        )
        body = json.dumps(tombstone.to_document())
        revision = int(metadata["resourceVersion"])
        return uid, *ended.key[1:], revision, self._now_s, body

    def _tombstone_of(self, remains: Remains, news: News, cause: Cause) -> Tombstone:
        at = _moment(self._now_s)
        return Tombstone(
            uid=remains.uid,
            namespace=remains.key.namespace,
            name=remains.key.name,
            extension=_text(remains.extension),
            host=_text(remains.host),
            deletion_requested_at=at,
            deleted_at=at,
            deleted_by=cause.by,
            deleted_via=cause.via,
            because=_text(news.message),
        )

    def _trim(self, uids: set[str], kept: int) -> None:
        end = statements.TRIM_TO.format(kept=kept)
        rows = [(uid,) for uid in sorted(uids)]
        run_many(self._connection, statements.TRIM_TRANSITIONS, statements.UID_ROW, rows, end=end)


def read_transitions(connection: Connection, uid: str) -> list[Transition]:
    """Return what happened to one sandbox, oldest first."""
    rows = connection.exec_driver_sql(statements.READ_TRANSITIONS, (uid,))
    return [
        Transition(
            number=number,
            time=_moment(at),
            last_time=_moment(last_at) if count > 1 else None,
            count=count,
            reason=reason,
            message=message,
            after=phase,
            **json.loads(told),
        )
        for number, at, last_at, count, reason, message, phase, told in rows
    ]


def read_tombstones(connection: Connection, wanted: tuple[Any, ...]) -> list[Tombstone]:
    """Return tombstones, newest first; *wanted* are the values of `statements.READ_TOMBSTONES`."""
    rows = connection.exec_driver_sql(statements.READ_TOMBSTONES, wanted)
    return [Tombstone.model_validate_json(body) for (body,) in rows]


def _rest(news: News, cause: Cause, before: str) -> str:
    """Return what is kept of a transition besides its columns."""
    rest = {
        "by": cause.by, "via": cause.via, "trigger": cause.trigger,
        "type": news.type, "before": before, "evidence": _bounded(news.evidence),
    }  # fmt: skip
    return json.dumps({name: value for name, value in rest.items() if value})


def _news(
    wish: Wish, before: Document | None, change: ChangeType, after: Document
) -> Sequence[News]:
    """Return what a write tells, from what it found and what it left."""
    if before is None:
        profile = _text(_section(after, "spec").get("profile"))
        asked = News(reason="Created", message="It was asked for.", evidence={"profile": profile})
        return wish.news or [asked]
    if change == "DELETED":
        return [News(reason="Deleted", message="The object is gone.", evidence=_why(wish.cause))]
    if "deletionTimestamp" in after["metadata"] and "deletionTimestamp" not in before["metadata"]:
        evidence = {**_why(wish.cause), "said": _text(_condition(before, "Ready").get("message"))}
        message = "Its deletion was asked for."
        return [News(reason="DeletionRequested", message=message, evidence=evidence)]
    if wish.action == "status":
        return wish.news or _change_of_phase(before, after)
    if after["metadata"]["generation"] != before["metadata"]["generation"]:
        evidence = {"fields": ", ".join(_changed_fields(before, after))}
        return [News(reason="SpecChanged", message="Its spec was changed.", evidence=evidence)]
    return []


def _change_of_phase(before: Document, after: Document) -> Sequence[News]:
    if _phase(before) == _phase(after):
        return []
    ready = _condition(after, "Ready")
    reason = _text(ready.get("reason")) or "PhaseChanged"
    return [News(reason=reason, message=_text(ready.get("message")))]


def _told_at_once(ended: _Ended) -> dict[str, Any]:
    """Return the request for deletion of what went with it."""
    cause, document = ended.cause, ended.document
    evidence = {**_why(cause), "said": _text(_condition(document, "Ready").get("message"))}
    return {"by": cause.by, "via": cause.via, "before": _phase(document), "evidence": evidence}


def _changed_fields(before: Document, after: Document) -> Iterator[str]:
    """Yield names of the fields of spec that differ; their values may be nobody's business."""
    old, new = _section(before, "spec"), _section(after, "spec")
    yield from sorted(name for name in {*old, *new} if old.get(name) != new.get(name))


def _why(cause: Cause) -> dict[str, str]:
    return {"because": cause.because} if cause.because else {}


def _phase(document: Document | None) -> str:
    return "" if document is None else _text(_section(document, "status").get("phase"))


def _condition(document: Document, type_: str) -> Document:
    conditions = _section(document, "status").get("conditions")
    for known in conditions if isinstance(conditions, list) else ():
        if isinstance(known, dict) and known.get("type") == type_:
            return known
    return {}


def _section(document: Document, name: str) -> Document:
    # NOTE: another version may have written what is deleted, and deleting it must not fail.
    section = document.get(name)
    return section if isinstance(section, dict) else {}


def _bounded(evidence: Mapping[str, str]) -> dict[str, str]:
    return {name: _text(value) for name, value in evidence.items() if value}


def _text(value: Any) -> str:
    """Return text that can be stored, and nothing for what is no text."""
    if not isinstance(value, str):
        return ""
    return value[:MAX_TEXT].encode("utf-8", "replace").decode()


def _moment(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)
