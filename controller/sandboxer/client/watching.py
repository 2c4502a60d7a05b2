"""
One watch of the API: a stream of changes from a revision on, resumed when its server ends it.

A server ends every watch after a while; the next one goes on from the last revision seen, which
bookmarks keep young. What happened in between is delivered, or the server says that it has
forgotten it (`ExpiredError`), and then a list is the only way to know what there is.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, NamedTuple

from sandboxer.client.connection import Answer, Connection
from sandboxer.client.refusals import refusal, refusal_of_status
from sandboxer.errors import SandboxerError, TerminalError

# Bytes of one line: the largest object there may be, and its frame.
MAX_LINE_BYTES = 4 * 2**20

# Seconds a watch may be silent: three bookmarks, of which the server sends one a minute.
SILENCE_S = 180.0

_EXPIRED = 410
_TOO_NEW = 504


class Change(NamedTuple):
    """One thing that happened to one object."""

    type: str
    """`ADDED`, `MODIFIED`, `DELETED`, or `BOOKMARK`, which carries a revision only."""
    document: dict[str, Any]

    @property
    def revision(self) -> str:
        """The resourceVersion to go on from."""
        return str(metadata_of(self.document).get("resourceVersion") or "")


class ExpiredError(SandboxerError):
    """The server no longer knows what happened since that revision; list again."""

    default_reason = "Expired"


def metadata_of(document: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of a document, whatever a server sent."""
    metadata = document.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


async def changes(
    connection: Connection,
    path: str,
    query: Mapping[str, str],
    *,
    since: str,
    silence_s: float = SILENCE_S,
) -> AsyncIterator[Change]:
    """
    Yield changes after revision *since*, bookmarks included, until the server ends the stream.

    Args:
        connection: To the server.
        path: Of the objects.
        query: Selectors.
        since: Revision.
        silence_s: Seconds after which a server that sends not even bookmarks is gone.

    Raises:
        ExpiredError: The server has forgotten that revision, or never had it.
        UnreachableError: It does not answer, went away, or is silent for too long.
        SandboxerError: It refused.
    """
    asked = {**query, "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": since}
    streaming = connection.stream(path, query=asked, silence_s=silence_s)
    async with streaming as (head, chunks), aclosing(chunks):
        if head.code in (_EXPIRED, _TOO_NEW):
            raise ExpiredError(f"Revision {since} is not known any more.")
        if head.code != 200:  # noqa: PLR2004 - HTTP
            raise refusal(head, connection.server)
        rest = b""
        async for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield _change(line, head, connection)
            if len(rest) > MAX_LINE_BYTES:
                raise _no_change(connection)


def _change(line: bytes, head: Answer, connection: Connection) -> Change:
    try:
        frame = json.loads(line)
        type_, document = frame["type"], frame["object"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _no_change(connection) from error
    if not isinstance(type_, str) or not isinstance(document, dict):
        raise _no_change(connection)
    if type_ != "ERROR":
        return Change(type_, document)
    if document.get("code") in (_EXPIRED, _TOO_NEW):
        raise ExpiredError(str(document.get("message") or "The revision is not known any more."))
    raise refusal_of_status(document, connection.server, code=head.code)


def _no_change(connection: Connection) -> TerminalError:
    return TerminalError(
        f"A watch of {connection.server.where} holds a line that is no change.", reason="NotTheAPI"
    )
