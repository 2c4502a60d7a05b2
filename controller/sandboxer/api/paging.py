"""
Pages of a list: `limit`, `continue` and what they promise.

All pages of one list show the objects as they were at the resourceVersion of the first one. The
list is held for that, as references to encoded documents, until it is five minutes old or newer
lists need the room; a list that is no longer held is still continued when nothing was written
since. After that the answer is 410 with a token that goes on from the same place in the objects as
they are then, which is what kube-apiserver does when etcd has compacted the revision.
"""

from __future__ import annotations

import base64
import binascii
import json
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sandboxer.api.answers import StatusError
from sandboxer.api.listoptions import ListOptions
from sandboxer.api.selection import Selection
from sandboxer.api.served import Collection
from sandboxer.api.targets import Target
from sandboxer.clock import Clock
from sandboxer.store import Entry

# Seconds a list is held. Source: kube-apiserver compacts etcd every five minutes, which is how
# long its continue tokens live.
HOLD_S: Final = 300.0

# Objects in all held lists together: two lists of the largest fleet that is measured. An entry is
# about 0.3 KB beside its document, which the store mostly has in memory anyway.
MAX_HELD: Final = 200_000

# Characters of a token: two names of 63 characters, a number and the names of the fields.
_MAX_TOKEN: Final = 1024

_TOKEN_VERSION: Final = "meta.k8s.io/v1"  # noqa: S105 - a format, no secret

# Revision in a token that goes on at whatever is there, after a 410.
_ANY_REVISION: Final = -1

_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can "
    "start a new list without the continue parameter, or use the continue token in this response "
    "to retrieve the remainder of the results. Continuing with the provided token results in an "
    "inconsistent list - objects that were created, modified, or deleted between the time the "
    "first chunk was returned and now may show up in the list."
)


class ExpiredPageError(StatusError):
    """A page cannot be shown as of its first page; the token goes on with what there is."""

    def __init__(self, token: str) -> None:
        super().__init__(410, _TOO_OLD)
        self._token = token

    def document(self) -> dict[str, Any]:
        """Return the `Status` object."""
        return super().document() | {"metadata": {"continue": self._token}}


@dataclass(frozen=True, slots=True)
class Page:
    """Some objects of a list."""

    entries: Sequence[Entry]
    revision: int
    continue_: str = ""
    """Token of the next page; empty on the last one."""
    remaining: int | None = None
    """Objects after this page; None when that is not told."""

    def metadata(self) -> dict[str, Any]:
        """Return the list's `metadata`."""
        metadata: dict[str, Any] = {"resourceVersion": str(self.revision)}
        if self.continue_:
            metadata["continue"] = self.continue_
        if self.remaining is not None:
            metadata["remainingItemCount"] = self.remaining
        return metadata


_Key = tuple[object, ...]


class HeldLists:
    """
    The lists that were shown in part.

    Args:
        clock: Tells how old they are.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lists: OrderedDict[_Key, tuple[float, list[Entry]]] = OrderedDict()
        self._count = 0

    def get(self, key: _Key) -> list[Entry] | None:
        """Return a list that is still held."""
        self._drop_old()
        held = self._lists.get(key)
        return None if held is None else held[1]

    def hold(self, key: _Key, entries: list[Entry]) -> None:
        """Keep a list, at the cost of the oldest ones."""
        if key in self._lists:
            return
        self._lists[key] = (self._clock.monotonic_s(), entries)
        self._count += len(entries)
        while self._count > MAX_HELD:
            self._drop_first()

    def _drop_old(self) -> None:
        oldest_kept = self._clock.monotonic_s() - HOLD_S
        while self._lists and next(iter(self._lists.values()))[0] < oldest_kept:
            self._drop_first()

    def _drop_first(self) -> None:
        _, (_, entries) = self._lists.popitem(last=False)
        self._count -= len(entries)


def read_page(
    target: Target,
    options: ListOptions,
    selection: Selection,
    collection: Collection,
    held: HeldLists,
) -> Page:
    """
    Return the page that is asked for.

    Raises:
        StatusError: 400, the token cannot be read; 410, what it belongs to is not held any more.
    """
    revision, start = _read_token(options.continue_) if options.continue_ else (None, None)
    if options.match == "Exact":
        revision = options.revision
    if revision in (None, _ANY_REVISION):
        revision = collection.revision
    assert revision is not None
    key = _held_key(target, options, revision)
    entries = held.get(key)
    if entries is None:
        if revision != collection.revision:
            raise _expired(start)
        entries = selection.among(collection)
    at = 0 if start is None else bisect_right(entries, start, key=lambda entry: entry.key[1:])
    end = min(at + options.limit, len(entries)) if options.limit else len(entries)
    if end == len(entries):
        return Page(entries[at:end], revision)
    held.hold(key, entries)
    remaining = len(entries) - end if selection.is_everything else None
    return Page(entries[at:end], revision, _token(revision, entries[end - 1].key[1:]), remaining)


def _held_key(target: Target, options: ListOptions, revision: int) -> _Key:
    served = target.served
    return (
        served.group_version,
        served.plural,
        target.namespace,
        options.label_selector,
        options.field_selector,
        revision,
    )


def _expired(start: tuple[str, ...] | None) -> StatusError:
    if start is None:
        return StatusError(410, "The resourceVersion for the provided list is too old.")
    return ExpiredPageError(_token(_ANY_REVISION, start))


def _token(revision: int, start: tuple[str, ...]) -> str:
    content = {"v": _TOKEN_VERSION, "rv": revision, "start": "/".join(start)}
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, tuple[str, ...]]:
    """Return revision, and namespace and name of the last object shown."""
    invalid = StatusError(400, "continue key is not valid: it was not made by this server")
    if len(token) > _MAX_TOKEN:
        raise invalid
    try:
        content = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError) as error:
        raise invalid from error
    if not isinstance(content, dict) or content.get("v") != _TOKEN_VERSION:
        raise invalid
    revision, start = content.get("rv"), content.get("start")
    if type(revision) is not int or not isinstance(start, str) or start.count("/") != 1:
        raise invalid
    return revision, tuple(start.split("/"))
