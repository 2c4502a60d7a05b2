"""
A host itself, not what is stored about it.

    GET  hosts/NAME/inventory                   probe it now: what it is, what of ours is there
    POST hosts/NAME/reap?uid=UID&extension=…    remove something that no sandbox accounts for

The first is a reading subresource like `log`: nothing is stored, and a viewer may ask.
"""

from __future__ import annotations

from collections.abc import Collection

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandboxer.api.answers import json_response
from sandboxer.api.entering import status_of
from sandboxer.api.hosts import OF_HOST, asked_host, asked_remains
from sandboxer.api.users import user_of
from sandboxer.errors import SandboxerError
from sandboxer.extension import LABEL_EXTENSION, LABEL_NAME, LABEL_NAMESPACE, Observation
from sandboxer.kinds.host import Host
from sandboxer.kinds.inventory import FoundSandbox, HostInventory, Reaping
from sandboxer.store import Store


async def _inventory(request: Request) -> Response:
    store, entrance, host = asked_host(request)
    try:
        report, seen = await entrance.look(host)
    except SandboxerError as error:
        raise status_of(error) from error
    inventory = HostInventory(
        round_trip_ms=report.round_trip_ms,
        facts=report.facts,
        load=report.load,
        sandboxes=tuple(await _found_sandboxes(store, host, seen)),
        problems=dict(report.problems),
    )
    return json_response(inventory.to_document())


async def _reap(request: Request) -> Response:
    _, entrance, host = asked_host(request)
    uid, extension = asked_remains(request)
    try:
        by = user_of(request.scope).name
        removed = await entrance.reap(host, uid, extension=extension, by=by)
    except SandboxerError as error:
        raise status_of(error) from error
    return json_response(Reaping(uid=uid, removed=removed).to_document())


async def _found_sandboxes(
    store: Store, host: Host, seen: Collection[Observation]
) -> list[FoundSandbox]:
    """Return what carries our label on a machine, by sandbox, and whether it belongs there."""
    # NOTE: imported late, for a command that serves the API for itself must start quickly.
    from sandboxer.engine.stale import remembers, stale_of

    stale = {(each.uid, each.extension): each for each in stale_of(store, host, seen)}
    found = []
    for observation in sorted(seen, key=lambda each: each.uid):
        extension = observation.labels.get(LABEL_EXTENSION, "")
        judged = stale.get((observation.uid, extension))
        orphan = judged is not None and judged.why == "NoSandbox"
        remembered = judged is None or await remembers(store, judged, host)
        found.append(
            FoundSandbox(
                uid=observation.uid,
                namespace=observation.labels.get(LABEL_NAMESPACE, ""),
                name=observation.labels.get(LABEL_NAME, ""),
                state=observation.state,
                resources=observation.resources,
                owned=not orphan,
                extension=extension,
                stale=judged.why if judged else "",
                evidence=judged.evidence if judged else "",
                objection=judged.objection if judged else "",
                remembered=remembered,
            )
        )
    return found


ROUTES = [
    Route(f"{OF_HOST}/inventory", _inventory),
    Route(f"{OF_HOST}/reap", _reap, methods=["POST"]),
]
