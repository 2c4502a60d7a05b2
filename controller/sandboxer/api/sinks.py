"""
Who is told what happens, what waits for them, and what was given up.

    GET  …/sinks                  who is registered, and how much waits
    GET  …/deadletters?sink=NAME&limit=N  what was given up, oldest first, and how many more
    POST …/deadletters?sink=NAME&number=N  send it again: one, those of a sink, or all

Nothing of an event's content is shown, only which sandbox it is about.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandboxer.api.answers import json_response
from sandboxer.api.entering import number
from sandboxer.api.targets import store_of
from sandboxer.kinds.meta import API_VERSION
from sandboxer.kinds.sinks import DeadLetterList, Revival, SinkList

# Dead letters listed at once; there are at most 10,000.
_LISTED: Final = 500
_MAX_LISTED: Final = 10_000


async def _sinks(request: Request) -> Response:
    items = await store_of(request).deliveries.sinks()
    return json_response(SinkList(items=tuple(items)).to_document())


async def _dead(request: Request) -> Response:
    limit = min(number(request, "limit", least=1) or _LISTED, _MAX_LISTED)
    sink = request.query_params.get("sink", "")
    deliveries = store_of(request).deliveries
    items = tuple(await deliveries.dead(sink, limit=limit))
    # NOTE: counted by itself, as some may go in between.
    remaining = max(0, await deliveries.dead_count(sink) - len(items))
    return json_response(DeadLetterList(items=items, remaining=remaining).to_document())


async def _revive(request: Request) -> Response:
    sink = request.query_params.get("sink", "")
    position = number(request, "number", least=1) or 0
    revived = await store_of(request).deliveries.revive(sink, position=position)
    return json_response(Revival(revived=revived).to_document())


_ROOT: Final = f"/apis/{API_VERSION}"
ROUTES = [
    Route(f"{_ROOT}/sinks", _sinks),
    Route(f"{_ROOT}/deadletters", _dead, methods=["GET"]),
    Route(f"{_ROOT}/deadletters", _revive, methods=["POST"]),
]
