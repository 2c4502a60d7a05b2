"""
GET and LIST of every resource, and the door to WATCH.

Documents are served as the store has encoded them; only tables, metadata-only answers and field
selectors decode any. A list shows the newest state, so a given resourceVersion only says how new
it must be at least (also with `limit`, where Kubernetes means exactly that version); with
`resourceVersionMatch=Exact` it is shown while it is the newest one or held for paging, and 410
otherwise.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from sandboxer.api import watching
from sandboxer.api.answers import StatusError, json_bytes, json_response, list_bytes
from sandboxer.api.listoptions import ListOptions, read_options
from sandboxer.api.negotiation import Wanted, wanted_form
from sandboxer.api.paging import HeldLists, Page, read_page
from sandboxer.api.selection import selection_of
from sandboxer.api.served import Served
from sandboxer.api.table import column_definitions, partial, table
from sandboxer.api.targets import (
    NOT_ALLOWED,
    Target,
    collection_routes,
    object_routes,
    store_of,
    target_of,
)
from sandboxer.clock import SystemClock
from sandboxer.store import Entry, Store

# Seconds a version that is not there yet is waited for: what another process has committed is
# here within a tenth of that, and the client comes back after an error.
FRESH_S: Final = 1.0

_CLOCK = SystemClock()


async def _get(request: Request) -> Response:
    target = _allowed(target_of(request), "get")
    store = store_of(request)
    options = read_options(request.query_params)
    wanted = wanted_form(request.headers.get("accept", ""))
    await _reach(store, options.revision)
    entry = target.served.collection(store).get(target.namespace or "", target.name)
    if entry is None:
        raise target.not_found()
    if wanted.form == "object":
        return json_bytes(entry.body)
    if wanted.form == "metadata":
        return json_response(partial(json.loads(entry.body), wanted))
    metadata = {"resourceVersion": str(entry.revision)}
    return json_response(_table(target.served, [entry], wanted, options, metadata))


async def _status(request: Request) -> Response:
    if "status" not in target_of(request).served.subresources:
        raise target_of(request).not_found()
    return await _get(request)


async def _list(request: Request) -> Response:
    options = read_options(request.query_params)
    target = _allowed(target_of(request), "watch" if options.watch else "list")
    store = store_of(request)
    selection = selection_of(target, options)
    wanted = wanted_form(request.headers.get("accept", ""))
    await _reach(store, options.revision)
    if options.watch and request.method != "HEAD":
        broadcast = watching.broadcast_of(request.app)
        return await watching.watch(broadcast, target, options, selection, wanted)
    held: HeldLists = request.app.state.held_lists
    collection = target.served.collection(store)
    page = read_page(target, options, selection, collection, held)
    return _list_response(target.served, page, wanted, options)


def _allowed(target: Target, verb: str) -> Target:
    if verb not in target.served.verbs:
        raise StatusError(405, NOT_ALLOWED)
    return target


async def _reach(store: Store, revision: int | None) -> None:
    """Wait until the store has a version; it may come from another process."""
    if revision is None or revision <= store.revision:
        return
    try:
        async with asyncio.timeout(FRESH_S):
            async for change in store.watch():
                if change.revision >= revision:
                    return
    except TimeoutError:
        raise StatusError(
            504,
            f"Too large resource version: {revision}, current: {store.revision}",
            details={
                "causes": [
                    {
                        "reason": "ResourceVersionTooLarge",
                        "message": "Too large resource version",
                    }
                ],
                "retryAfterSeconds": 1,
            },
            headers={"Retry-After": "1"},
        ) from None


def _list_response(served: Served, page: Page, wanted: Wanted, options: ListOptions) -> Response:
    if wanted.form == "table":
        return json_response(_table(served, page.entries, wanted, options, page.metadata()))
    if wanted.form == "object":
        bodies: Iterable[bytes] = (entry.body for entry in page.entries)
        kind = f"{served.kind}List"
        return json_bytes(list_bytes(served.group_version, kind, page.metadata(), bodies))
    items = [partial(json.loads(entry.body), wanted) for entry in page.entries]
    encoded = (json.dumps(item, separators=(",", ":")).encode() for item in items)
    kind = "PartialObjectMetadataList"
    return json_bytes(list_bytes(wanted.api_version, kind, page.metadata(), encoded))


def _table(
    served: Served,
    entries: Iterable[Entry],
    wanted: Wanted,
    options: ListOptions,
    metadata: dict[str, Any],
) -> dict[str, Any]:
    document = table(
        served,
        entries,
        wanted=wanted,
        include_object=options.include_object,
        metadata=metadata,
        now=_CLOCK.now(),
    )
    return document | {"columnDefinitions": column_definitions(served)}


# Status comes before lists: `/api/v1/namespaces/a/status` is no list of namespace a.
ROUTES = [
    *object_routes(_get, ["GET"]),
    *object_routes(_status, ["GET"], "status"),
    *collection_routes(_list, ["GET"]),
]
