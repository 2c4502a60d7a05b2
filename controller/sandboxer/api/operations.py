"""
The paths of the API in OpenAPI's words, written from one table: verb, method, path, codes.

Every answer the server can give is here: what a verb returns, and each error with its `Status`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sandboxer.api.components import META, SCALE, kind_mark, name_of, reference
from sandboxer.api.discovery import Review
from sandboxer.api.served import Served
from sandboxer.kinds.meta import NAME_PATTERN, NAMESPACE_PATTERN

JSON = dict[str, Any]

JSON_TYPE: Final = "application/json"
_YAML_TYPE: Final = "application/yaml"

# Errors any request can have: not understood, unknown caller, not allowed, no such thing, wrong
# method, a bug of ours, starting or stopping.
_ALWAYS: Final = (400, 401, 403, 404, 405, 500, 503)
_READ: Final = (406, 422, 504)
_WRITE: Final = (409, 413, 415, 422)

_REASONS: Final = {
    200: "OK",
    201: "Created",
    400: "The request cannot be understood",
    401: "Nobody is known by this token",
    403: "This user may not do this",
    404: "No such object or resource",
    405: "This resource does not have this verb",
    406: "Only JSON can be given",
    409: "Somebody was quicker, or a precondition does not hold",
    410: "The version is too old; list again",
    413: "The body is too large",
    415: "The body is in a form that is not read",
    422: "The document or an option is not valid",
    500: "An error in the controller; its log has the details",
    503: "Starting, stopping or busy; come back",
    504: "The version asked for is not there yet; come back",
}


def in_query(name: str, description: str, type_: str = "string", **more: Any) -> JSON:
    """Return one parameter of the query."""
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"type": type_, **more},
    }


_NEWER_THAN: Final = (
    in_query("resourceVersion", "How new the answer must be at least.", pattern="^[0-9]{0,18}$"),
)
_SELECT: Final = (
    in_query("labelSelector", "Only objects whose labels fulfil it."),
    in_query("fieldSelector", "Only objects whose fields fulfil it."),
)
_LIST: Final = (
    *_SELECT,
    *_NEWER_THAN,
    in_query(
        "resourceVersionMatch", "How resourceVersion is meant.", enum=["Exact", "NotOlderThan"]
    ),
    in_query("limit", "Objects of one page; 0 means all.", "integer", format="int64"),
    in_query("continue", "Token of the page before."),
    in_query("watch", "Follow changes instead of listing.", "boolean"),
    in_query("allowWatchBookmarks", "Send bookmarks in a watch.", "boolean"),
    in_query("sendInitialEvents", "Begin a watch with what there is.", "boolean"),
    in_query("timeoutSeconds", "How long a watch lasts.", "integer", format="int64"),
)
IN_PATH: Final[Mapping[str, JSON]] = {
    "namespace": {"type": "string", "pattern": NAMESPACE_PATTERN, "maxLength": 63},
    "name": {"type": "string", "pattern": NAME_PATTERN, "maxLength": 63},
}
_DRY_RUN: Final = in_query("dryRun", "All judges the write and stores nothing.", enum=["All"])
_WRITING: Final = (
    _DRY_RUN,
    in_query("fieldManager", "Who owns the fields that are written.", maxLength=128),
    in_query(
        "fieldValidation",
        "What becomes of unknown and repeated fields.",
        enum=["Ignore", "Warn", "Strict"],
    ),
)
_PATCHING: Final = (
    *_WRITING,
    in_query("force", "Take fields over from other managers; for apply only.", "boolean"),
)
_DELETING: Final = (
    _DRY_RUN,
    in_query("gracePeriodSeconds", "Read and not used.", "integer", format="int64"),
    in_query(
        "propagationPolicy",
        "What happens to the objects it owns.",
        enum=["Background", "Foreground", "Orphan"],
    ),
)


@dataclass(frozen=True, slots=True)
class _Operation:
    """One row of the table."""

    verb: str
    """As discovery lists it."""
    method: str
    action: str
    """`x-kubernetes-action`, and the beginning of the operationId."""
    parameters: Sequence[JSON]
    errors: Sequence[int]
    successes: Sequence[int] = (200,)
    body: str = ""
    """`object`, `patch`, `options` or empty."""


_ON_COLLECTION: Final = (
    _Operation("list", "get", "list", _LIST, (*_READ, 410)),
    _Operation("create", "post", "post", _WRITING, _WRITE, (200, 201), "object"),
    _Operation(
        "deletecollection", "delete", "deletecollection", (*_SELECT, *_DELETING), (*_WRITE, 504),
        body="options",
    ),
)  # fmt: skip
_ON_OBJECT: Final = (
    _Operation("get", "get", "get", _NEWER_THAN, _READ),
    _Operation("update", "put", "put", _WRITING, _WRITE, body="object"),
    _Operation("patch", "patch", "patch", _PATCHING, _WRITE, (200, 201), "patch"),
    _Operation("delete", "delete", "delete", _DELETING, _WRITE, body="options"),
)
_ON_SUBRESOURCE: Final = tuple(row for row in _ON_OBJECT if row.verb != "delete")


def paths(resources: Sequence[Served | Review]) -> JSON:
    """Return the paths of the resources of one group and version."""
    found: JSON = {}
    for resource in resources:
        if isinstance(resource, Review):
            found |= _review_path(resource)
        else:
            found |= dict(_paths_of(resource))
    return found


def _root(resource: Served | Review) -> str:
    if not resource.group:
        return f"/api/{resource.version}"
    return f"/apis/{resource.group}/{resource.version}"


def _paths_of(served: Served) -> Iterator[tuple[str, JSON]]:
    root = _root(served)
    if served.namespaced:
        everywhere = [row for row in _ON_COLLECTION if row.verb == "list"]
        yield f"{root}/{served.plural}", _path(served, everywhere, scope="ForAllNamespaces")
        root = f"{root}/namespaces/{{namespace}}"
    scope = "Namespaced" if served.namespaced else ""
    yield f"{root}/{served.plural}", _path(served, _ON_COLLECTION, scope=scope)
    one = f"{root}/{served.plural}/{{name}}"
    yield one, _path(served, _ON_OBJECT, scope=scope, named=True)
    for name in served.subresources:
        if name in ("status", "scale"):
            yield f"{one}/{name}", _path(served, _ON_SUBRESOURCE, scope, named=True, sub=name)


def _path(
    served: Served,
    rows: Sequence[_Operation],
    scope: str,
    *,
    named: bool = False,
    sub: str = "",
) -> JSON:
    in_path = (["namespace"] if scope == "Namespaced" else []) + (["name"] if named else [])
    document: JSON = {
        row.method: _operation(served, row, scope, sub) for row in rows if row.verb in served.verbs
    }
    document["parameters"] = [
        {"name": name, "in": "path", "required": True, "schema": IN_PATH[name]} for name in in_path
    ]
    return document


def _operation(served: Served, row: _Operation, scope: str, sub: str) -> JSON:
    name = SCALE if sub == "scale" else name_of(served)
    kind = ("autoscaling", "v1", "Scale") if sub == "scale" else _kind(served)
    group = served.group.partition(".")[0].capitalize() or "Core"
    suffix = sub.capitalize() or ("List" if row.verb == "list" else "")
    document: JSON = {
        "operationId": f"{row.action}{group}{served.version.capitalize()}{scope}{served.kind}{suffix}",
        "tags": [f"{served.group or 'core'}_{served.version}"],
        "description": f"{row.verb.capitalize()} {served.plural}.",
        "parameters": list(row.parameters),
        "responses": _responses(row, name),
        "x-kubernetes-action": row.action,
        "x-kubernetes-group-version-kind": kind_mark(*kind),
    }
    if row.body:
        bodies = _bodies(row.body, name)
        document["requestBody"] = {"content": bodies, "required": row.body != "options"}
    return document


def _kind(resource: Served | Review) -> tuple[str, str, str]:
    return resource.group, resource.version, resource.kind


def _bodies(body: str, name: str) -> JSON:
    if body == "options":
        return content(reference(f"{META}.DeleteOptions"), JSON_TYPE, _YAML_TYPE)
    if body == "object":
        return content(reference(name), JSON_TYPE, _YAML_TYPE)
    # NOTE: naming strategic merge here would make kubectl use it.
    patch = reference(f"{META}.Patch")
    types = ["application/merge-patch+json"]
    if name != SCALE:
        types.insert(0, "application/apply-patch+yaml")
    return content(patch, *types) | content(
        reference(f"{META}.JSONPatch"), "application/json-patch+json"
    )


def _responses(row: _Operation, name: str) -> JSON:
    shown: JSON = reference(name)
    if row.verb in ("list", "deletecollection"):
        shown = reference(f"{name}List")
    elif row.verb == "delete":
        shown = {"anyOf": [reference(f"{META}.Status"), reference(name)]}
    answer = content(shown, JSON_TYPE)
    if row.verb == "list":
        answer |= content(reference(f"{META}.WatchEvent"), f"{JSON_TYPE};stream=watch")
    done = {str(code): response(code, answer) for code in row.successes}
    return done | failures(row.errors)


def failures(errors: Sequence[int]) -> JSON:
    """Return what can go wrong with any request, and these codes besides, as `Status`."""
    status = content(reference(f"{META}.Status"), JSON_TYPE)
    return {str(code): response(code, status) for code in sorted({*_ALWAYS, *errors})}


def response(code: int, forms: JSON) -> JSON:
    """Return one answer with its forms by media type."""
    return {"description": _REASONS[code], "content": forms}


def content(form: JSON, *types: str) -> JSON:
    """Return one schema under each media type."""
    return {type_: {"schema": form} for type_ in types}


def _review_path(review: Review) -> JSON:
    form = content(reference(name_of(review)), JSON_TYPE)
    post = {
        "operationId": f"create{review.kind}",
        "tags": [f"{review.group}_{review.version}"],
        "description": "Ask; the answer is in the status of what comes back.",
        "parameters": [],
        "requestBody": {"content": form, "required": True},
        "responses": {"201": response(201, form)} | failures((413, 415, 422)),
        "x-kubernetes-action": "post",
        "x-kubernetes-group-version-kind": kind_mark(*_kind(review)),
    }
    return {f"{_root(review)}/{review.plural}": {"post": post}}
