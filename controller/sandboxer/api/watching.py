"""
WATCH: what is there, if asked for, and then every change in order, one JSON object a line.

- Without a resourceVersion, or at `0`, it begins with an ADDED for each object there is; at N it
  goes on strictly after N, and N that was compacted away is a 410.
- `sendInitialEvents=true` ends what is there with a bookmark that says so.
- An object that a selector lets go is told as DELETED in the form it last fitted in, at the new
  resourceVersion, and one that comes to fit as ADDED. Of changes before the watch began it is not
  known what went before, so there an object that fits is MODIFIED and one that does not is
  DELETED, which is right for everybody who keeps objects by name.
- A reader that stands still is ended: with a 410 line when the log has left it behind, without
  one when it does not take a chunk for a minute. Nobody else waits for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from typing import Any, Final

from pydantic_core import from_json, to_json
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from sandboxer.api.answers import StatusError, watch_line
from sandboxer.api.broadcast import Broadcast, Position
from sandboxer.api.listoptions import ListOptions
from sandboxer.api.negotiation import Wanted
from sandboxer.api.patience import Patience
from sandboxer.api.selection import Selection
from sandboxer.api.served import Served
from sandboxer.api.table import column_definitions, partial, table
from sandboxer.api.targets import Target
from sandboxer.clock import SystemClock
from sandboxer.store import Change, Entry, ExpiredError

logger = logging.getLogger(__name__)

# Seconds a watch lasts when the client names no time; kube-apiserver takes 30 to 60 minutes, and
# `kubectl get -w` ends when the server closes, so the longer one is kinder.
WATCH_S: Final = 3600

# Seconds between bookmarks, as kube-apiserver does.
BOOKMARK_S = 60.0

# Seconds a client may take for one chunk, twice that at most. Between them lie the buffers of two kernels.
STALL_S = 60.0

# Bytes that are sent at once; more only fills the buffer of a slow client.
_CHUNK_BYTES: Final = 128 * 1024

_INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"

_CLOCK = SystemClock()


def broadcast_of(app: Starlette) -> Broadcast:
    """Return the log of the application's store, made when the first watch needs it."""
    found: Broadcast | None = getattr(app.state, "broadcast", None)
    if found is None:
        found = app.state.broadcast = Broadcast(app.state.store)
    return found


def end_watches(app: Starlette) -> None:
    """End all watches cleanly; call it before the server stops waiting for its connections."""
    if getattr(app.state, "broadcast", None) is not None:
        app.state.broadcast.close()


async def watch(
    broadcast: Broadcast,
    target: Target,
    options: ListOptions,
    selection: Selection,
    wanted: Wanted,
) -> Response:
    """
    Return the stream.

    Raises:
        StatusError: 410, changes after the given version were compacted away.
    """
    collection = target.served.collection(broadcast.store)
    # NOTE: no await between reading the objects and the version they have, or a change is lost.
    newest = broadcast.store.revision
    replays = options.send_initial or (options.send_initial is None and not options.revision)
    present = selection.among(collection) if replays or not selection.is_by_key else []
    follow = collection.follower()
    try:
        position = await broadcast.join(newest if replays else options.revision or newest)
    except ExpiredError as error:
        raise _expired(error) from error
    lines = Lines(broadcast, target.served, wanted, options.include_object)
    sieve = Sieve(selection, present, newest)
    stream = _Stream(
        position=position,
        lines=lines,
        options=options,
        initial=present if replays else (),
        turn=lambda changes: sieve.turn(change for one in changes for change in follow(one)),
    )
    return WatchResponse(stream.chunks(), media_type="application/json")


class Sieve:
    """
    What a watch with selectors tells of each change.

    Args:
        selection: What is watched.
        present: The objects that fit at *revision*; not needed for a selection by key.
        revision: Later changes are judged by what was told before.
    """

    def __init__(self, selection: Selection, present: Iterable[Entry], revision: int) -> None:
        self._selection = selection
        self._revision = revision
        self._told = {} if selection.is_by_key else {entry.key: entry for entry in present}

    def turn(self, changes: Iterable[Change]) -> Iterator[Change]:
        """Yield what is told of changes that come in order."""
        for change in changes:
            if self._selection.is_by_key:
                if self._selection.fits(change.entry):
                    yield change
            elif self._selection.has_in_scope(change.entry.key):
                past = change.revision <= self._revision
                if told := self._past(change) if past else self._present(change):
                    yield told

    def _past(self, change: Change) -> Change | None:
        if change.type != "DELETED" and self._selection.fits(change.entry):
            return change
        return None if change.type == "ADDED" else change._replace(type="DELETED")

    def _present(self, change: Change) -> Change | None:
        key = change.entry.key
        before = self._told.pop(key, None)
        if change.type != "DELETED" and self._selection.fits(change.entry):
            self._told[key] = change.entry
            return change._replace(type="MODIFIED" if before else "ADDED")
        if before is None:
            return None
        last = change.entry if change.type == "DELETED" else _at(before, change.revision)
        return Change("DELETED", last, change.revision)


def _at(entry: Entry, revision: int) -> Entry:
    """Return an object as if its last change had been at *revision*."""
    document = from_json(entry.body)
    document["metadata"]["resourceVersion"] = str(revision)
    return entry._replace(revision=revision, body=to_json(document))


class Lines:
    """
    Encodes events in the form one watch wants; what many watches send alike is made once.

    Args:
        broadcast: Keeps what was made.
        served: The resource.
        wanted: The form.
        include_object: For tables.
    """

    def __init__(
        self, broadcast: Broadcast, served: Served, wanted: Wanted, include_object: str
    ) -> None:
        self._broadcast = broadcast
        self._served = served
        self._wanted = wanted
        self._include_object = include_object
        self._definitions = column_definitions(served) if wanted.form == "table" else []

    def event(self, type_: str, entry: Entry) -> bytes:
        """Return the line of one object."""
        if self._wanted.form == "object":
            return watch_line(type_, entry.body)
        if self._definitions:
            return self._first_table(type_, entry)
        return watch_line(type_, _encoded(self._document(entry)))

    def shared(self, change: Change) -> bytes:
        """Return the line of a change that others are probably sending too."""
        if self._definitions:
            return self._first_table(change.type, change.entry)
        now_s = int(_CLOCK.now().timestamp()) if self._wanted.form == "table" else 0
        form = (self._wanted, self._include_object, now_s)
        # A change that a selector turned around carries another document, hence its length.
        about = (change.type, change.entry.key, change.revision, len(change.entry.body))
        key: tuple[object, ...] = (self._served.group_version, form, about)
        return self._broadcast.line(key, lambda: self.event(change.type, change.entry))

    def bookmark(self, revision: int, *, ends_initial: bool = False) -> bytes:
        """Return the line that says that everything up to *revision* was sent."""
        metadata: dict[str, Any] = {
            "resourceVersion": str(revision),
            "creationTimestamp": None,
        }
        if ends_initial:
            metadata["annotations"] = {_INITIAL_EVENTS_END: "true"}
        document: dict[str, Any] = {
            "kind": self._served.kind,
            "apiVersion": self._served.group_version,
            "metadata": metadata,
        }
        if self._wanted.form == "metadata":
            document = partial(document, self._wanted)
        elif self._wanted.form == "table":
            row = {"cells": [], "object": partial(document, self._wanted)}
            document = self._table([], {"resourceVersion": str(revision)}) | {"rows": [row]}
        return watch_line("BOOKMARK", _encoded(document))

    def _first_table(self, type_: str, entry: Entry) -> bytes:
        """Return the only table of a watch that names its columns."""
        definitions, self._definitions = self._definitions, []
        document = self._document(entry) | {"columnDefinitions": definitions}
        return watch_line(type_, _encoded(document))

    def _document(self, entry: Entry) -> dict[str, Any]:
        if self._wanted.form == "metadata":
            return partial(from_json(entry.body), self._wanted)
        return self._table([entry], {"resourceVersion": str(entry.revision)})

    def _table(self, entries: list[Entry], metadata: dict[str, Any]) -> dict[str, Any]:
        return table(
            self._served,
            entries,
            wanted=self._wanted,
            include_object=self._include_object,
            metadata=metadata,
            now=_CLOCK.now(),
        )


def _encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _expired(error: ExpiredError) -> StatusError:
    return StatusError(410, f"too old resource version: {error}")


class _Stream:
    """The lines of one watch, from the first to the last."""

    def __init__(
        self,
        *,
        position: Position,
        lines: Lines,
        options: ListOptions,
        initial: Iterable[Entry],
        turn: Callable[[Iterable[Change]], Iterator[Change]],
    ) -> None:
        self._position = position
        self._lines = lines
        self._options = options
        self._initial = initial
        self._turn = turn

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield whole lines until time is up, the server stops or the reader fell behind."""
        for chunk in _joined(self._lines.event("ADDED", entry) for entry in self._initial):
            yield chunk
        # For an hour it would keep what is not stored any more.
        self._initial = ()
        bookmarks = self._options.bookmarks
        if bookmarks and self._options.send_initial:
            yield self._lines.bookmark(self._position.revision, ends_initial=True)
        now_s = asyncio.get_running_loop().time
        ends_at = now_s() + (self._options.timeout_s or WATCH_S)
        bookmark_at = now_s() + BOOKMARK_S if bookmarks else math.inf
        try:
            while True:
                changes = self._position.read()
                for chunk in _joined(map(self._lines.shared, self._turn(changes))):
                    yield chunk
                if now_s() >= ends_at or (self._position.ended and not changes):
                    break
                if now_s() >= bookmark_at:
                    yield self._lines.bookmark(self._position.revision)
                    bookmark_at = now_s() + BOOKMARK_S
                elif not changes:
                    # NOTE: only straight after reading nothing; what comes while a chunk is being
                    # sent wakes nobody.
                    await self._position.wait(min(ends_at, bookmark_at))
        except ExpiredError as error:
            yield watch_line("ERROR", _encoded(_expired(error).document()))
            return
        finally:
            self._position.close()
        if bookmarks:
            yield self._lines.bookmark(self._position.revision)


def _joined(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines in as few chunks as are good to send."""
    chunk: list[bytes] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += len(line)
        if size >= _CHUNK_BYTES:
            yield b"".join(chunk)
            chunk, size = [], 0
    if chunk:
        yield b"".join(chunk)


class WatchResponse(StreamingResponse):
    """A stream that gives up on a client that takes nothing."""

    async def stream_response(self, send: Send) -> None:
        """Send until the stream ends or the client stalls."""
        headers = self.raw_headers
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        chunks: Any = self.body_iterator
        async with aclosing(chunks):
            with Patience(STALL_S) as patience:
                async for chunk in chunks:
                    patience.begin_step()
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    patience.end_step()
            if patience.ended:
                # NOTE: nothing can be sent any more; the server closes what is left unfinished.
                logger.info("A watch was ended because its client does not read")
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
