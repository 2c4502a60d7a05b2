"""
The HTTP API as an ASGI application.

`create_app(store)` serves an open store and asks nobody who they are; who serves it decides who may
connect. `app` opens the store named by the environment when its server starts, for
`uvicorn sandboxer.api.app:app`, and asks for a token, because such a server lets everybody connect.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sandboxer.api import (
    adoption,
    discovery,
    health,
    inventory,
    openapi,
    reading,
    reviews,
    sinks,
    stories,
    streaming,
    watching,
    writes,
)
from sandboxer.api.answers import StatusError, status_response
from sandboxer.api.authentication import Authentication
from sandboxer.api.paging import HeldLists
from sandboxer.api.refusals import refusal_response
from sandboxer.api.targets import NO_SUCH_RESOURCE, NOT_ALLOWED, allowed_methods
from sandboxer.api.tokens import TokenFile
from sandboxer.clock import SystemClock
from sandboxer.errors import SandboxerError
from sandboxer.registry import Registry
from sandboxer.settings import settings_from_environment
from sandboxer.store import Store


async def _http_error(request: Request, error: Exception) -> Response:
    """Answer what the router refuses: unknown paths and verbs."""
    assert isinstance(error, HTTPException), "registered for HTTPException only"
    messages = {
        HTTPStatus.NOT_FOUND: NO_SUCH_RESOURCE,
        HTTPStatus.METHOD_NOT_ALLOWED: NOT_ALLOWED,
    }
    message = messages.get(HTTPStatus(error.status_code), error.detail)
    status = StatusError(error.status_code, message, headers=error.headers)
    return await _status(request, status)


async def _status(request: Request, error: Exception) -> Response:
    """Answer a `Status`; one about a wrong verb names the right ones."""
    response = await status_response(request, error)
    if response.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["Allow"] = allowed_methods(request)
    return response


async def _internal_error(request: Request, error: Exception) -> Response:
    """Answer a bug without its details; the server logs them."""
    del error
    status = StatusError(500, "an error in the controller; its log has the details")
    return await status_response(request, status)


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
        watching.end_watches(app)
        await app.state.store.close()
        app.state.store = None


def create_app(
    store: Store | None = None,
    *,
    registry: Registry | None = None,
    entrance: object | None = None,
) -> Starlette:
    """
    Return the application.

    Args:
        store: An open store that stays the caller's; None opens one when the server starts.
        registry: Knows what extensions can do, for warnings about what a Sandbox asks for.
        entrance: How programs in sandboxes are reached; None refuses log, exec and portforward.
    """
    application = Starlette(
        routes=[
            # NOTE: before the patterns for every resource, which would take its fixed paths.
            *stories.ROUTES,
            *sinks.ROUTES,
            # First of the rest, because most requests are of these: a route is found by trying one after another.
            *reading.ROUTES,
            *health.ROUTES,
            *discovery.ROUTES,
            *openapi.ROUTES,
            *reviews.ROUTES,
            *streaming.ROUTES,
            *inventory.ROUTES,
            *adoption.ROUTES,
            # NOTE: last; its patterns fit the fixed paths of reviews too.
            *writes.ROUTES,
        ],
        exception_handlers={
            StatusError: _status,
            SandboxerError: refusal_response,
            HTTPException: _http_error,
            Exception: _internal_error,
        },
        lifespan=_store_from_environment,
    )
    application.state.store = store
    application.state.registry = registry
    application.state.entrance = entrance
    application.state.held_lists = HeldLists(SystemClock())
    return application


@cache
def _guarded() -> Authentication:
    settings = settings_from_environment()
    return Authentication(create_app(), TokenFile(settings.tokens_path, SystemClock()))


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the store named by the environment, to those who show a token."""
    await _guarded()(scope, receive, send)
