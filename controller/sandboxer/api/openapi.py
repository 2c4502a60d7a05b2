"""
The API described in OpenAPI: for `kubectl explain`, and for checks before kubectl sends anything.

Version 3 has one document per group and version, named with the hash of its content, so that a
client downloads it once; with an old hash it is sent to the present one. Version 2 is a constant:
kubectl wants to see one before it applies a `List` or explains an unknown kind, and reads nothing
in it that version 3 has not told it better.

Source:
    kube-openapi `pkg/handler3/handler.go` for hashes and headers. The bytes of version 2 are the
    protobuf of `swagger: "2.0", info: {title: "x", version: "v0.1"}`, tried with kubectl 1.27 to
    1.33.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sandboxer import __version__
from sandboxer.api.answers import StatusError, json_bytes, json_response
from sandboxer.api.discovery import groups, resources_of
from sandboxer.api.targets import NO_SUCH_RESOURCE

_V2_ACCEPTED: Final = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
# NOTE: a dot where the client writes @, which is no character of a media type.
_V2_TYPE: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_V2_PROTOBUF: Final = bytes.fromhex("0a03322e3012090a0178120476302e31")
_V2_JSON: Final = b'{"swagger":"2.0","info":{"title":"x","version":"v0.1"},"paths":{}}'

# How long a document with its hash in its address may be kept.
_KEPT: Final = timedelta(days=365)


@cache
def document(group: str, version: str) -> tuple[bytes, str]:
    """Return the encoded document of a group and version, and its hash; empty for an unknown one."""
    # A command that serves the API to itself never asks for it, and must not wait for its making.
    from sandboxer.api.components import components
    from sandboxer.api.operations import paths
    from sandboxer.api.operations_inside import inside_paths

    resources = resources_of(group, version)
    if not resources:
        return b"", ""
    body = json.dumps(
        {
            "openapi": "3.0.0",
            "info": {"title": "sandboxer", "version": __version__},
            "paths": paths(resources) | inside_paths(group, version),
            "components": {"schemas": components(resources)},
        },
        separators=(",", ":"),
    ).encode()
    return body, hashlib.sha512(body).hexdigest().upper()


async def _index(request: Request) -> Response:
    del request
    known = [("", "v1"), *((group, version) for group, vs in groups().items() for version in vs)]
    return json_response(
        {
            "paths": {
                _name(group, version): {"serverRelativeURL": _url(group, version)}
                for group, version in known
            }
        }
    )


def _name(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _url(group: str, version: str) -> str:
    return f"/openapi/v3/{_name(group, version)}?hash={document(group, version)[1]}"


async def _document(request: Request) -> Response:
    group, version = request.path_params.get("group", ""), request.path_params["version"]
    body, current = document(group, version)
    if not body:
        raise StatusError(404, NO_SUCH_RESOURCE)
    asked = request.query_params.get("hash")
    if asked and asked != current:
        return RedirectResponse(_url(group, version), status_code=301)
    headers = {"ETag": f'"{current}"', "Vary": "Accept", "Cache-Control": "no-cache, private"}
    if asked:
        headers["Cache-Control"] = "public, immutable"
        headers["Expires"] = format_datetime(datetime.now(UTC) + _KEPT, usegmt=True)
    return _unless_known(request, json_bytes(body), headers)


async def _v2(request: Request) -> Response:
    accept = request.headers.get("accept", "")
    protobuf = _V2_ACCEPTED in accept or _V2_TYPE in accept
    body = _V2_PROTOBUF if protobuf else _V2_JSON
    response = Response(body, media_type=_V2_TYPE if protobuf else "application/json")
    etag = f'"{hashlib.sha512(body).hexdigest().upper()}"'
    return _unless_known(request, response, {"ETag": etag, "Vary": "Accept"})


def _unless_known(request: Request, response: Response, headers: dict[str, str]) -> Response:
    """Return the answer, or a 304 when the client has it already."""
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return response


ROUTES = [
    Route("/openapi/v2", _v2),
    Route("/openapi/v3", _index),
    Route("/openapi/v3/api/{version}", _document),
    Route("/openapi/v3/apis/{group}/{version}", _document),
]
