"""
`GET hosts/NAME/inventory`: probe a host now and say what it is and what of ours is there.

A reading subresource like `log`: nothing is stored, and a viewer may ask.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandboxer.api.answers import StatusError, json_response
from sandboxer.api.entering import status_of
from sandboxer.errors import SandboxerError
from sandboxer.extension import LABEL_NAME, LABEL_NAMESPACE, Observation
from sandboxer.kinds.host import Host
from sandboxer.kinds.inventory import FoundSandbox, HostInventory
from sandboxer.kinds.meta import API_VERSION, GROUP
from sandboxer.store import Store

if TYPE_CHECKING:
    # NOTE: a command that serves the API for itself must not load the way to the hosts for it.
    from sandboxer.engine.inside import Entrance


async def _inventory(request: Request) -> Response:
    state, name = request.app.state, request.path_params["name"]
    store: Store | None = getattr(state, "store", None)
    entrance: Entrance | None = getattr(state, "entrance", None)
    if store is None or entrance is None:
        raise StatusError(503, "this server has no way to the hosts; ask the controller's")
    host = store.get(Host, name)
    if host is None:
        details = {"name": name, "group": GROUP, "kind": Host.plural}
        message = f'{Host.plural}.{GROUP} "{name}" not found'
        raise StatusError(404, message, details=details)
    try:
        report, seen = await entrance.look(host)
    except SandboxerError as error:
        raise status_of(error) from error
    inventory = HostInventory(
        round_trip_ms=report.round_trip_ms,
        facts=report.facts,
        load=report.load,
        sandboxes=tuple(found_sandboxes(seen, owners={e.uid for e in store.entries("Sandbox")})),
        problems=dict(report.problems),
    )
    return json_response(inventory.to_document())


def found_sandboxes(seen: Iterable[Observation], *, owners: set[str]) -> Iterable[FoundSandbox]:
    """Return what carries our label on a machine, by sandbox, and whether somebody owns it."""
    for observation in sorted(seen, key=lambda each: each.uid):
        yield FoundSandbox(
            uid=observation.uid,
            namespace=observation.labels.get(LABEL_NAMESPACE, ""),
            name=observation.labels.get(LABEL_NAME, ""),
            state=observation.state,
            resources=observation.resources,
            owned=observation.uid in owners,
        )


ROUTES = [Route(f"/apis/{API_VERSION}/{Host.plural}/{{name}}/inventory", _inventory)]
