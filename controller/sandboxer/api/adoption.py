"""
Sandboxes whose objects were lost, as their hosts list them.

    GET  hosts/NAME/lost?trust=…                         what no sandbox accounts for
    POST hosts/NAME/adopt?uid=UID&extension=…&trust=…    take one in

The first lists those of every installation. Both are for admins: what is read comes from machines
and may be somebody else's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandboxer.api.answers import StatusError, json_response
from sandboxer.api.causes import cause_of
from sandboxer.api.entering import flag, status_of
from sandboxer.errors import SandboxerError
from sandboxer.kinds.adoption import Adopted, LostSandbox, LostSandboxes
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import API_VERSION, GROUP
from sandboxer.store import Store

if TYPE_CHECKING:
    # NOTE: a command that serves the API for itself must not load the way to the hosts for it.
    from sandboxer.engine.adoption import Lost
    from sandboxer.engine.inside import Entrance


class _Asked(NamedTuple):
    """What a request is about, and the way there."""

    store: Store
    entrance: Entrance
    host: Host


def _asked(request: Request) -> _Asked:
    state, name = request.app.state, request.path_params["name"]
    store: Store | None = getattr(state, "store", None)
    entrance: Entrance | None = getattr(state, "entrance", None)
    if store is None or entrance is None:
        raise StatusError(503, "this server has no way to the hosts; ask the controller's")
    host = store.get(Host, name)
    if host is None:
        details = {"name": name, "group": GROUP, "kind": Host.plural}
        raise StatusError(404, f'{Host.plural}.{GROUP} "{name}" not found', details=details)
    return _Asked(store, entrance, host)


async def _lost(request: Request) -> Response:
    store, entrance, host = _asked(request)
    try:
        found, problems = await entrance.adoption.survey(host, trusts=flag(request, "trust"))
    except SandboxerError as error:
        raise status_of(error) from error
    answer = LostSandboxes(
        environment=store.environment,
        sandboxes=tuple(map(_described, found)),
        problems=dict(problems),
    )
    return json_response(answer.to_document())


async def _adopt(request: Request) -> Response:
    _, entrance, host = _asked(request)
    uid, extension = (request.query_params.get(each, "") for each in ("uid", "extension"))
    if not uid or not extension:
        raise StatusError(400, "uid and extension must say what is to be adopted")
    try:
        found = await entrance.adoption.adopt(
            host, uid, extension=extension, cause=cause_of(request), trusts=flag(request, "trust")
        )
    except SandboxerError as error:
        raise status_of(error) from error
    if found is None:
        answer = Adopted(uid=uid, adopted=False, message="It is not lost any more.")
    elif found.objection or found.rebuilt is None:
        answer = Adopted(uid=uid, adopted=False, message=found.objection)
    else:
        answer = Adopted(uid=uid, adopted=True, message=found.rebuilt.remark)
    return json_response(answer.to_document())


def _described(lost: Lost) -> LostSandbox:
    # NOTE: imported late, for a command that serves the API for itself must start quickly.
    from sandboxer.engine.stale import contents

    rebuilt = lost.rebuilt
    return LostSandbox(
        uid=lost.seen.uid,
        namespace=lost.key.namespace,
        name=lost.key.name,
        environment=lost.environment,
        extension=lost.extension,
        state=lost.seen.state,
        contents=contents(lost.seen),
        created_at=rebuilt.sandbox.metadata.creation_timestamp if rebuilt else None,
        is_ours=lost.is_ours,
        objection=lost.objection,
        remark=rebuilt.remark if rebuilt else "",
    )


_OF_HOST = f"/apis/{API_VERSION}/{Host.plural}/{{name}}"
ROUTES = [
    Route(f"{_OF_HOST}/lost", _lost),
    Route(f"{_OF_HOST}/adopt", _adopt, methods=["POST"]),
]
