"""What a path of the API names: a resource, a namespace, an object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from sandboxer.api import resources
from sandboxer.api.answers import StatusError
from sandboxer.api.served import Served
from sandboxer.store import Store

NO_SUCH_RESOURCE = "the server could not find the requested resource"
NOT_ALLOWED = "the server does not allow this method on the requested resource"

Handler = Callable[[Request], Awaitable[Response]]

# Verbs of discovery that stand for a method.
_VERBS: Final = {
    "POST": ("create",),
    "PUT": ("update",),
    "PATCH": ("patch",),
    "DELETE": ("delete", "deletecollection"),
}

_PREFIXES = ("/apis/{group}/{version}", "/api/{version}")


@dataclass(frozen=True, slots=True)
class Target:
    """What one request is about."""

    served: Served
    namespace: str | None
    """None means all namespaces, and every cluster-scoped resource."""
    name: str = ""
    """Empty for a collection."""

    def not_found(self) -> StatusError:
        """Return the 404 of an object that does not exist."""
        served = self.served
        return StatusError(
            404,
            f'{served.group_resource} "{self.name}" not found',
            details={"name": self.name, "group": served.group, "kind": served.plural},
        )


def target_of(request: Request) -> Target:
    """
    Return what the path of *request* names.

    Raises:
        StatusError: 404, there is no such resource.
    """
    path = request.path_params
    found = resources.find(path.get("group", ""), path["version"], path["plural"])
    namespace, name = path.get("namespace"), path.get("name", "")
    if found is None or (namespace is not None and not found.namespaced):
        raise StatusError(404, NO_SUCH_RESOURCE)
    if name and found.namespaced and namespace is None:
        raise StatusError(404, NO_SUCH_RESOURCE)
    return Target(found, namespace, name)


def allowed_methods(request: Request) -> str:
    """Return the methods a path has, for `Allow`; a router knows only those of one of its routes."""
    found: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE and isinstance(route, Route):
            found |= route.methods or set()
    path = request.path_params
    served = resources.find(path.get("group", ""), path.get("version", ""), path.get("plural", ""))
    if served is not None:
        found -= {m for m, verbs in _VERBS.items() if not set(verbs) & set(served.verbs)}
    return ", ".join(sorted(found))


def store_of(request: Request) -> Store:
    """Return the open store of the application."""
    store: Store | None = getattr(request.app.state, "store", None)
    if store is None:
        raise StatusError(503, "the store is not open yet")
    return store


def collection_routes(handler: Handler, methods: Sequence[str]) -> list[Route]:
    """Return the routes of all lists: of one namespace, of all, of cluster-scoped resources."""
    return [
        Route(f"{prefix}/{where}{{plural}}", handler, methods=list(methods))
        for prefix in _PREFIXES
        for where in ("namespaces/{namespace}/", "")
    ]


def object_routes(handler: Handler, methods: Sequence[str], subresource: str = "") -> list[Route]:
    """Return the routes of single objects, or of one subresource of theirs."""
    suffix = f"/{subresource}" if subresource else ""
    return [
        Route(f"{prefix}/{where}{{plural}}/{{name}}{suffix}", handler, methods=list(methods))
        for prefix in _PREFIXES
        for where in ("namespaces/{namespace}/", "")
    ]
