"""
Discovery: groups, versions and resources, in the legacy form and in the aggregated one.

The aggregated form is one document for all groups. There are two versions of it, and a client gets
only what its `Accept` lists: kubectl 1.29 knows `v2beta1` only and silently finds nothing in a
`v2` document.

Source:
    `APIGroupDiscoveryList` of apidiscovery.k8s.io; `APIResourceList` of v1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandboxer.api.answers import StatusError, json_bytes, json_response
from sandboxer.api.negotiation import clauses
from sandboxer.api.resources import SERVED
from sandboxer.api.served import Served
from sandboxer.api.targets import NO_SUCH_RESOURCE

JSON = dict[str, Any]

_DISCOVERY_GROUP: Final = "apidiscovery.k8s.io"


@dataclass(frozen=True, slots=True)
class Review:
    """A resource that is only asked: its answer is in the object a create returns."""

    group: str
    version: str
    kind: str
    plural: str


REVIEWS: Final = (
    Review("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews"),
    Review("authentication.k8s.io", "v1", "TokenReview", "tokenreviews"),
    Review("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews"),
    Review("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews"),
)


@dataclass(frozen=True, slots=True)
class _Subresource:
    """How a subresource is listed; without group and kind it is the object itself."""

    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""
    kind: str = ""


_SUBRESOURCES: Final = {
    "status": _Subresource(("get", "patch", "update")),
    "scale": _Subresource(("get", "patch", "update"), "autoscaling", "v1", "Scale"),
    "log": _Subresource(("get",)),
    "attach": _Subresource(("create", "get"), "", "v1", "PodAttachOptions"),
    "exec": _Subresource(("create", "get"), "", "v1", "PodExecOptions"),
    "portforward": _Subresource(("create", "get"), "", "v1", "PodPortForwardOptions"),
}


_RESOURCES: Final[tuple[Served | Review, ...]] = (*SERVED, *REVIEWS)


def groups() -> dict[str, list[str]]:
    """Return the versions of each group except the core one, our own group first."""
    found: dict[str, list[str]] = {}
    for resource in _RESOURCES:
        versions = found.setdefault(resource.group, [])
        if resource.version not in versions:
            versions.append(resource.version)
    del found[""]
    return found


def resources_of(group: str, version: str) -> list[Served | Review]:
    """Return the resources of one group and version; empty when there is none."""
    return [
        resource
        for resource in _RESOURCES
        if (resource.group, resource.version) == (group, version)
    ]


# The legacy form.


def _api_group(group: str, versions: Iterable[str]) -> JSON:
    named = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": named, "preferredVersion": named[0]}


def _api_resources(resource: Served | Review) -> list[JSON]:
    if isinstance(resource, Review):
        return [
            {
                "name": resource.plural,
                "singularName": resource.kind.lower(),
                "namespaced": False,
                "kind": resource.kind,
                "verbs": ["create"],
            }
        ]
    main = {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    main |= {"shortNames": list(resource.short_names)} if resource.short_names else {}
    main |= {"categories": list(resource.categories)} if resource.categories else {}
    return [main, *(_api_subresource(resource, name) for name in resource.subresources)]


def _api_subresource(resource: Served, name: str) -> JSON:
    form = _SUBRESOURCES[name]
    document: JSON = {
        "name": f"{resource.plural}/{name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": form.kind or resource.kind,
        "verbs": list(form.verbs),
    }
    if form.version and form.group != resource.group:
        document |= {"group": form.group, "version": form.version}
    return document


def _resource_list(group: str, version: str) -> JSON:
    found = resources_of(group, version)
    if not found:
        raise StatusError(404, NO_SUCH_RESOURCE)
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": [document for resource in found for document in _api_resources(resource)],
    }


# The aggregated form.


def _aggregated_group(group: str, versions: Iterable[str]) -> JSON:
    return {
        "metadata": {"name": group, "creationTimestamp": None},
        "versions": [
            {
                "version": version,
                "freshness": "Current",
                "resources": [_aggregated(resource) for resource in resources_of(group, version)],
            }
            for version in versions
        ],
    }


def _aggregated(resource: Served | Review) -> JSON:
    kind = _kind(resource.group, resource.version, resource.kind)
    document: JSON = {
        "resource": resource.plural,
        "responseKind": kind,
        "scope": "Cluster",
        "singularResource": resource.kind.lower(),
        "verbs": ["create"],
    }
    if isinstance(resource, Review):
        return document
    document |= {
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "verbs": list(resource.verbs),
    }
    document |= {"shortNames": list(resource.short_names)} if resource.short_names else {}
    document |= {"categories": list(resource.categories)} if resource.categories else {}
    if resource.subresources:
        document["subresources"] = [_aggregated_subresource(kind, n) for n in resource.subresources]
    return document


def _aggregated_subresource(kind: JSON, name: str) -> JSON:
    form = _SUBRESOURCES[name]
    response = _kind(form.group, form.version, form.kind) if form.kind else kind
    return {"subresource": name, "responseKind": response, "verbs": list(form.verbs)}


def _kind(group: str, version: str, kind: str) -> JSON:
    return {"group": group, "version": version, "kind": kind}


def _aggregated_version(accept: str) -> str:
    """Return the first version of the aggregated form a client lists; empty for the legacy one."""
    for media, parameters in clauses(accept):
        if media != "application/json" or parameters.get("g") not in (None, _DISCOVERY_GROUP):
            continue
        if parameters.get("as") == "APIGroupDiscoveryList":
            if (version := parameters.get("v", "")) in ("v2", "v2beta1"):
                return version
        elif "as" not in parameters:
            return ""
    return ""


def _negotiated(request: Request, legacy: JSON, items: list[JSON]) -> Response:
    """Answer with the form the client wants; unchanged since it last asked is a 304."""
    version = _aggregated_version(request.headers.get("accept", ""))
    if not version:
        return json_response(legacy)
    document = {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"{_DISCOVERY_GROUP}/{version}",
        "metadata": {},
        "items": items,
    }
    body = json.dumps(document, separators=(",", ":")).encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32].upper()}"'
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": etag, "Vary": "Accept"})
    response = json_bytes(body)
    response.headers["Content-Type"] = (
        f"application/json;g={_DISCOVERY_GROUP};v={version};as=APIGroupDiscoveryList"
    )
    response.headers["ETag"] = etag
    response.headers["Vary"] = "Accept"
    return response


async def _core(request: Request) -> Response:
    legacy: JSON = {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    core = _aggregated_group("", ["v1"])
    del core["metadata"]["name"]
    return _negotiated(request, legacy, [core])


async def _groups(request: Request) -> Response:
    known = groups().items()
    legacy: JSON = {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [_api_group(*item) for item in known],
    }
    return _negotiated(request, legacy, [_aggregated_group(*item) for item in known])


async def _group(request: Request) -> Response:
    group = request.path_params["group"]
    versions = groups().get(group)
    if versions is None:
        raise StatusError(404, NO_SUCH_RESOURCE)
    return json_response({"kind": "APIGroup", "apiVersion": "v1", **_api_group(group, versions)})


async def _resources(request: Request) -> Response:
    path = request.path_params
    return json_response(_resource_list(path.get("group", ""), path["version"]))


ROUTES = [
    Route("/api", _core),
    Route("/api/{version}", _resources),
    Route("/apis", _groups),
    Route("/apis/{group}", _group),
    Route("/apis/{group}/{version}", _resources),
]
