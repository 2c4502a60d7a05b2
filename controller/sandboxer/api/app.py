"""
The HTTP API, read-only so far, as an ASGI application.

`create_app(store)` serves an open store (that is what the controller does on its Unix socket);
`app` opens the store named by the environment when its server starts, for
`uvicorn sandboxer.api.app:app`. Nothing here authenticates: whoever can connect can read, so serve
it on a Unix socket or behind something that checks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sandboxer.api import discovery, objects
from sandboxer.api.answers import StatusError, json_response, status_response
from sandboxer.clock import SystemClock
from sandboxer.settings import settings_from_environment
from sandboxer.store import Store

WRITES_LATER = "This API is read-only; change objects with the sandboxer command on this machine."


async def _healthy(request: Request) -> Response:
    del request
    return PlainTextResponse("ok")


async def _ready(request: Request) -> Response:
    if getattr(request.app.state, "store", None) is None:
        raise StatusError(503, "the store is not open yet")
    return PlainTextResponse("ok")


async def _http_error(request: Request, error: Exception) -> Response:
    """Answer what the router refuses: unknown paths and verbs."""
    assert isinstance(error, HTTPException), "registered for HTTPException only"
    code = error.status_code
    if code == 405 or request.method not in ("GET", "HEAD"):  # noqa: PLR2004 - HTTP
        return json_response(StatusError(405, WRITES_LATER).document(), code=405)
    message = "the server could not find the requested resource" if code == 404 else error.detail  # noqa: PLR2004 - HTTP
    return json_response(StatusError(code, message).document(), code=code)


async def _internal_error(request: Request, error: Exception) -> Response:
    """Answer a bug without its details; the server logs them."""
    del request, error
    status = StatusError(500, "an error in the controller; its log has the details")
    return json_response(status.document(), code=500)


@asynccontextmanager
async def _store_from_environment(app: Starlette) -> AsyncIterator[None]:
    if getattr(app.state, "store", None) is not None:
        yield
        return
    settings = settings_from_environment()
    app.state.store = await Store.open(settings.database_path, clock=SystemClock())
    try:
        yield
    finally:
        await app.state.store.close()
        app.state.store = None


def create_app(store: Store | None = None) -> Starlette:
    """
    Return the application.

    Args:
        store: An open store that stays the caller's; None opens one when the server starts.
    """
    application = Starlette(
        routes=[
            Route("/healthz", _healthy),
            Route("/livez", _healthy),
            Route("/readyz", _ready),
            *discovery.ROUTES,
            *objects.ROUTES,
        ],
        exception_handlers={
            StatusError: status_response,
            HTTPException: _http_error,
            Exception: _internal_error,
        },
        lifespan=_store_from_environment,
    )
    application.state.store = store
    return application


app = create_app()
