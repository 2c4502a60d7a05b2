"""
The table of all routes that write.

Handlers are loaded with the first write: patches, field owners and what profiles ask for are a
third of the API, and a command that only looks serves the API to itself.
"""

from __future__ import annotations

import importlib

from starlette.requests import Request
from starlette.responses import Response

from sandboxer.api.targets import Handler, collection_routes, object_routes


def _late(module: str, name: str) -> Handler:
    """Return a handler of a module of this package that is imported when it is needed."""

    async def handler(request: Request) -> Response:
        found: Handler = getattr(importlib.import_module(f"sandboxer.api.{module}"), name)
        return await found(request)

    return handler


# Routes of subresources come first: `/api/v1/namespaces/a/status` is a status, not the collection
# `status` of namespace a.
ROUTES = [
    *object_routes(_late("writing", "replace_status"), ["PUT"], "status"),
    *object_routes(_late("patching", "patch_status"), ["PATCH"], "status"),
    *object_routes(_late("scaling", "get_scale"), ["GET"], "scale"),
    *object_routes(_late("scaling", "replace_scale"), ["PUT"], "scale"),
    *object_routes(_late("scaling", "patch_scale"), ["PATCH"], "scale"),
    *object_routes(_late("writing", "replace"), ["PUT"]),
    *object_routes(_late("patching", "patch"), ["PATCH"]),
    *object_routes(_late("deleting", "delete"), ["DELETE"]),
    *collection_routes(_late("writing", "create"), ["POST"]),
    *collection_routes(_late("deleting", "delete_collection"), ["DELETE"]),
]
