"""Discovery in the legacy form, which every kubectl understands: groups, versions, resources."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandboxer import __version__
from sandboxer.api.answers import json_response
from sandboxer.kinds.catalog import KINDS
from sandboxer.kinds.meta import API_VERSION, GROUP, VERSION, Resource

# What can be asked of every resource so far; writing over HTTP comes with the write API.
VERBS = ["get", "list", "watch"]

_GROUP_VERSION = {"groupVersion": API_VERSION, "version": VERSION}
_API_GROUP = {"name": GROUP, "versions": [_GROUP_VERSION], "preferredVersion": _GROUP_VERSION}


def api_version_of(model: type[Resource]) -> str:
    """Return the `apiVersion` of a kind: `v1` for events, ours for everything else."""
    default: str = model.model_fields["api_version"].default
    return default


def _resource(kind: str, model: type[Resource]) -> dict[str, Any]:
    return {
        "name": model.plural,
        "singularName": kind.lower(),
        "namespaced": model.namespaced,
        "kind": kind,
        "verbs": VERBS,
        "shortNames": list(model.short_names),
        "categories": ["all", "sandboxer"] if api_version_of(model) == API_VERSION else [],
    }


def _resource_list(group_version: str) -> dict[str, Any]:
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": [
            _resource(kind, model)
            for kind, model in KINDS.items()
            if api_version_of(model) == group_version
        ],
    }


async def _core(request: Request) -> Response:
    del request
    return json_response({"kind": "APIVersions", "versions": ["v1"]})


async def _groups(request: Request) -> Response:
    del request
    return json_response({"kind": "APIGroupList", "apiVersion": "v1", "groups": [_API_GROUP]})


async def _group(request: Request) -> Response:
    del request
    return json_response({"kind": "APIGroup", "apiVersion": "v1", **_API_GROUP})


async def _core_resources(request: Request) -> Response:
    del request
    return json_response(_resource_list("v1"))


async def _resources(request: Request) -> Response:
    del request
    return json_response(_resource_list(API_VERSION))


async def _version(request: Request) -> Response:
    del request
    # NOTE: kubectl reads major and minor as the Kubernetes release whose conventions are spoken.
    return json_response(
        {"major": "1", "minor": "31", "gitVersion": f"v1.31.0+sandboxer-{__version__}"}
    )


ROUTES = [
    Route("/api", _core),
    Route("/api/v1", _core_resources),
    Route("/apis", _groups),
    Route(f"/apis/{GROUP}", _group),
    Route(f"/apis/{API_VERSION}", _resources),
    Route("/version", _version),
]
