"""
The tables of the store, as SQLModel declares them; migrations lead to exactly these.

Only migrations import this module: reading and writing use the statements in
`sandboxer.store.statements`, because one ORM commit costs as much as fifteen grouped writes
(`benchmarks/store.py`) and importing SQLModel costs every command 0.1 s.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import Index
from sqlmodel import Field, SQLModel


class ObjectRow(SQLModel, table=True):
    """The current state of one object."""

    __tablename__: ClassVar[str] = "objects"

    kind: str = Field(primary_key=True)
    namespace: str = Field(primary_key=True)
    """Empty for cluster-scoped kinds, because NULL would never equal NULL in a key."""
    name: str = Field(primary_key=True)
    uid: str
    revision: int
    generation: int
    deleting: bool
    """Whether deletion was asked for and finalizers are left."""
    labels: str
    """JSON object, so that loading the index need not parse every document."""
    body: bytes
    """The JSON document in UTF-8, as `get -o json` prints it."""


class ChangeRow(SQLModel, table=True):
    """One committed change; watches resume from here until it is compacted away."""

    __tablename__: ClassVar[str] = "changes"

    revision: int = Field(primary_key=True)
    type: str
    """`ADDED`, `MODIFIED` or `DELETED`."""
    kind: str
    namespace: str
    name: str
    committed_at: float
    """Seconds since 1970, UTC."""
    body: bytes
    """The document after the change; for `DELETED` the last one there was."""


class MetaRow(SQLModel, table=True):
    """What is known once per store; a single row."""

    __tablename__: ClassVar[str] = "meta"

    id: int = Field(primary_key=True)
    """Always 1."""
    environment: str
    """Random id of this installation, on the labels of everything it makes."""
    revision: int
    """Newest revision given out."""
    compacted: int
    """Changes up to this revision may be missing from `changes`."""


class InventoryRow(SQLModel, table=True):
    """One object that a source of documents has applied, so that it may prune it later."""

    __tablename__: ClassVar[str] = "source_inventory"

    source: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    namespace: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    uid: str
    digest: str
    """Hash of the document as the source held it."""


class TransitionRow(SQLModel, table=True):
    """One thing that happened to a sandbox, living or gone."""

    __tablename__: ClassVar[str] = "transitions"

    uid: str = Field(primary_key=True)
    """Of the sandbox."""
    number: int = Field(primary_key=True)
    """Counts the transitions of one sandbox from 1, in the order they were written."""
    at: float
    """Seconds since 1970, UTC."""
    last_at: float
    """When it happened last, of what was repeated."""
    count: int
    """How often it happened in a row."""
    reason: str
    message: str
    phase: str
    """Phase afterwards."""
    told: str
    """JSON object: the other fields of a `Transition` (`sandboxer.kinds.story`)."""


class TombstoneRow(SQLModel, table=True):
    """A sandbox that is gone."""

    __tablename__: ClassVar[str] = "tombstones"
    __table_args__: ClassVar[tuple[Any, ...]] = (Index("tombstones_by_revision", "revision"),)

    uid: str = Field(primary_key=True)
    namespace: str
    name: str
    revision: int
    """Of its deletion; the newest of several with one name has the highest."""
    deleted_at: float
    """Seconds since 1970, UTC."""
    body: str
    """JSON document of a `Tombstone` (`sandboxer.kinds.story`)."""


class SinkRow(SQLModel, table=True):
    """A receiver of lifecycle events that is registered: what happens is put into the outbox."""

    __tablename__: ClassVar[str] = "sinks"

    name: str = Field(primary_key=True)
    url: str
    """As it may be shown: without what may be secret in it."""
    words: str
    """JSON list of the types that are wanted, by their last word; empty is all."""
    namespaces: str
    """JSON list of the namespaces that are wanted; empty is all."""


class LetterRow(SQLModel, table=True):
    """One event for one sink, until it is delivered."""

    __tablename__: ClassVar[str] = "outbox"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        Index("outbox_by_due", "sink", "due_at"),
        Index("outbox_by_lane", "sink", "uid", "position"),
        Index("outbox_by_death", "dead_at", "sink", "position"),
    )

    position: int = Field(primary_key=True)
    """Orders everything."""
    sink: str
    uid: str
    """Of the sandbox; its letters for one sink are delivered one after the other."""
    event_id: str
    word: str
    """Last word of the event's type."""
    namespace: str
    name: str
    at: float
    """When it happened; seconds since 1970, UTC."""
    body: str
    """The event as it is sent."""
    due_at: float | None
    """When it may be sent; NULL while another one of its lane comes first, and when dead."""
    dead_at: float | None
    """When it was given up."""
    attempts: int
    """How often it was sent in vain."""
    error: str
    """What became of the last attempt; empty before the first."""
