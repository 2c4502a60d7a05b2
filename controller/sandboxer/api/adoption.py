"""
Sandboxes whose objects were lost, as their hosts list them.

    GET  hosts/NAME/lost?trust=…                         what no sandbox accounts for
    POST hosts/NAME/adopt?uid=UID&extension=…&trust=…    take one in

The first lists those of every installation. Both are for admins: what is read comes from machines
and may be somebody else's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandboxer.api.answers import json_response
from sandboxer.api.causes import cause_of
from sandboxer.api.entering import flag, status_of
from sandboxer.api.hosts import OF_HOST, asked_host, asked_remains
from sandboxer.errors import SandboxerError
from sandboxer.kinds.adoption import Adopted, LostSandbox, LostSandboxes

if TYPE_CHECKING:
    # NOTE: a command that serves the API for itself must not load the way to the hosts for it.
    from sandboxer.engine.adoption import Lost


async def _lost(request: Request) -> Response:
    store, entrance, host = asked_host(request)
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
    _, entrance, host = asked_host(request)
    uid, extension = asked_remains(request)
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


ROUTES = [
    Route(f"{OF_HOST}/lost", _lost),
    Route(f"{OF_HOST}/adopt", _adopt, methods=["POST"]),
]
