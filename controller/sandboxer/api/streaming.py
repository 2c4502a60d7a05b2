"""
The subresources that reach into a sandbox: `log`, `exec` and `portforward`, of Pods and Sandboxes.

What is refused is refused in words: everything over SPDY, and `attach`, because nothing keeps the
input of a sandbox's own process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from sandboxer.api.answers import StatusError
from sandboxer.api.denial import deny
from sandboxer.api.entering import enter
from sandboxer.api.execution import WEBSOCKETS_ONLY, run_command, wished_command
from sandboxer.api.forwarding import NOT_FOR_KUBECTL, forward_ports
from sandboxer.api.logs import read_log
from sandboxer.api.pods import READ_ONLY
from sandboxer.kinds.meta import API_VERSION

NO_ATTACH = "attach is not supported: the input of what a sandbox runs belongs to nobody; use exec"

_OBJECTS = (
    "/api/v1/namespaces/{namespace}/pods/{pod}",
    f"/apis/{API_VERSION}/namespaces/{{namespace}}/sandboxes/{{sandbox}}",
)

Serve = Callable[[WebSocket], Awaitable[None]]


Check = Callable[[HTTPConnection], Awaitable[object]]


def _refusing(message: str, check: Check) -> Callable[[Request], Awaitable[Response]]:
    """
    Return what answers a request that is no websocket.

    kubectl comes this way after every websocket that was refused, and shows only what it hears
    here. So what was wrong with the request itself is said first.
    """

    async def refuse(request: Request) -> Response:
        await check(request)
        raise StatusError(400, message)

    return refuse


async def _check_nothing(connection: HTTPConnection) -> None:
    del connection


def _websocket(serve: Serve) -> Serve:
    async def answer(websocket: WebSocket) -> None:
        try:
            await serve(websocket)
        except StatusError as error:
            await deny(error, websocket.scope, websocket.receive, websocket.send)

    return answer


async def _check_forward(connection: HTTPConnection) -> None:
    await enter(connection, needs="forward")


async def _no_attach(websocket: WebSocket) -> None:
    del websocket
    raise StatusError(400, NO_ATTACH)


def _streams(path: str, serve: Serve, refusal: str, check: Check) -> list[BaseRoute]:
    """Return the routes of one kind of stream: over a websocket, and in any other way."""
    return [
        WebSocketRoute(path, _websocket(serve)),
        Route(path, _refusing(refusal, check), methods=["GET", "POST"]),
    ]


async def _read_only(request: Request) -> Response:
    del request
    raise StatusError(405, READ_ONLY)


ROUTES: list[BaseRoute] = [
    Route("/api/v1/namespaces/{namespace}/pods", _read_only, methods=["POST", "DELETE"]),
    Route(_OBJECTS[0], _read_only, methods=["PUT", "PATCH", "DELETE"]),
]
"""Before the routes that write: they would refuse Pods too, in fewer words."""

ROUTES += [
    route
    for path in _OBJECTS
    for route in (
        Route(f"{path}/log", read_log, methods=["GET"]),
        *_streams(f"{path}/exec", run_command, WEBSOCKETS_ONLY, wished_command),
        *_streams(f"{path}/portforward", forward_ports, NOT_FOR_KUBECTL, _check_forward),
        *_streams(f"{path}/attach", _no_attach, NO_ATTACH, _check_nothing),
    )
]
