"""
GET, LIST and WATCH of every kind, straight from the store's encoded documents.

Deliberate limits: `limit` is not honoured (a list is always whole, so no `continue` either), and
an object that stops fitting a watch's selector is reported as DELETED in its new form.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from sandboxer.api import selectors
from sandboxer.api.answers import StatusError, json_bytes, list_bytes, watch_line
from sandboxer.api.discovery import api_version_of
from sandboxer.errors import InvalidSpecError
from sandboxer.kinds.catalog import KINDS
from sandboxer.kinds.meta import API_VERSION, GROUP, Key, Resource
from sandboxer.store import Change, Entry, ExpiredError, Store

# Seconds a watch lasts when the client names no time; kube-apiserver takes 30 to 60 minutes, and
# `kubectl get -w` ends when the server closes, so the longer one is kinder.
WATCH_S = 3600.0


@dataclass(frozen=True, slots=True)
class Collection:
    """What one URL stands for."""

    kind: str
    model: type[Resource]
    namespace: str | None
    """None means all, and every cluster-scoped kind."""


def _collection(request: Request, api_version: str) -> Collection:
    plural = request.path_params["plural"]
    namespace = request.path_params.get("namespace")
    for kind, model in KINDS.items():
        if model.plural == plural and api_version_of(model) == api_version:
            if namespace is None or model.namespaced:
                return Collection(kind, model, namespace)
            break
    raise StatusError(404, "the server could not find the requested resource")


def _store(request: Request) -> Store:
    store: Store | None = getattr(request.app.state, "store", None)
    if store is None:
        raise StatusError(503, "the store is not open yet")
    return store


def _not_found(collection: Collection, name: str) -> StatusError:
    group = GROUP if api_version_of(collection.model) == API_VERSION else ""
    resource = f"{collection.model.plural}.{group}".rstrip(".")
    details = {"name": name, "group": group, "kind": collection.model.plural}
    return StatusError(404, f'{resource} "{name}" not found', details=details)


async def _get(request: Request, api_version: str) -> Response:
    collection = _collection(request, api_version)
    name = request.path_params["name"]
    if collection.model.namespaced and collection.namespace is None:
        raise StatusError(404, "the server could not find the requested resource")
    entry = _store(request).entry(Key(collection.kind, collection.namespace or "", name))
    if entry is None:
        raise _not_found(collection, name)
    return json_bytes(entry.body)


async def _list(request: Request, api_version: str) -> Response:
    collection = _collection(request, api_version)
    fits = _filter(request, collection)
    store = _store(request)
    if request.query_params.get("watch") in ("1", "true"):
        return StreamingResponse(
            _watch(request, store, collection, fits), media_type="application/json"
        )
    since = _revision(request)
    if since > store.revision:
        details = {"retryAfterSeconds": 1, "causes": [{"reason": "ResourceVersionTooLarge"}]}
        raise StatusError(504, f"Too large resource version: {since}", details=details)
    found = sorted(
        (entry for entry in store.entries(collection.kind) if fits(entry)), key=lambda e: e.key
    )
    body = list_bytes(api_version, collection.kind, store.revision, (e.body for e in found))
    return json_bytes(body)


def _revision(request: Request) -> int:
    text = request.query_params.get("resourceVersion") or "0"
    if not text.isascii() or not text.isdigit() or len(text) > 18:  # noqa: PLR2004 - fits 64 bits
        raise StatusError(400, f"Invalid value: {text[:64]!r}: resourceVersion")
    return int(text)


def _filter(request: Request, collection: Collection) -> Callable[[Entry], bool]:
    try:
        wanted = selectors.parse(request.query_params.get("labelSelector", ""))
    except InvalidSpecError as error:
        raise StatusError(400, error.message) from error
    fields = _fields(request.query_params.get("fieldSelector", ""), collection)

    def fits(entry: Entry) -> bool:
        if entry.key.kind != collection.kind:
            return False
        if collection.namespace not in (None, entry.key.namespace):
            return False
        return selectors.matches(wanted, entry.labels) and _fields_fit(fields, entry)

    return fits


def _fields(text: str, collection: Collection) -> list[tuple[str, str, bool]]:
    """Read a field selector into (path, value, wanted)."""
    fields = []
    for part in filter(None, text.split(",")):
        path, operator, value = part.partition("!=" if "!=" in part else "=")
        known = path.startswith("metadata.name") or (
            collection.kind == "Event"
            and path.split(".")[0] in ("involvedObject", "reason", "type")
        )
        if not operator or not known:
            raise StatusError(400, f"field label not supported: {path}")
        fields.append((path, value.removeprefix("="), operator == "="))
    return fields


def _fields_fit(fields: list[tuple[str, str, bool]], entry: Entry) -> bool:
    if not fields:
        return True
    document = json.loads(entry.body)
    return all((_value(document, path) == value) == wanted for path, value, wanted in fields)


def _value(document: object, path: str) -> str:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return str(document or "")


async def _watch(
    request: Request, store: Store, collection: Collection, fits: Callable[[Entry], bool]
) -> AsyncIterator[bytes]:
    since = _revision(request)
    if since == 0:
        # NOTE: no await between reading the revision and the objects, or a change is lost.
        since = store.revision
        existing = [entry for entry in store.entries(collection.kind) if fits(entry)]
        for entry in existing:
            yield watch_line("ADDED", entry.body)
    timeout_s = float(request.query_params.get("timeoutSeconds") or WATCH_S)
    try:
        async with asyncio.timeout(timeout_s):
            async for change in store.watch(since=since):
                if line := _line(change, collection, fits):
                    yield line
    except TimeoutError:
        return
    except ExpiredError as error:
        gone = StatusError(410, f"too old resource version: {error}")
        yield watch_line("ERROR", json.dumps(gone.document()).encode())


def _line(change: Change, collection: Collection, fits: Callable[[Entry], bool]) -> bytes | None:
    if fits(change.entry):
        return watch_line(change.type, change.entry.body)
    if change.type == "MODIFIED" and change.entry.key.kind == collection.kind:
        in_scope = collection.namespace in (None, change.entry.key.namespace)
        return watch_line("DELETED", change.entry.body) if in_scope else None
    return None


def _routes(prefix: str, api_version: str) -> list[Route]:
    async def get_object(request: Request) -> Response:
        return await _get(request, api_version)

    async def list_objects(request: Request) -> Response:
        return await _list(request, api_version)

    namespaced = f"{prefix}/namespaces/{{namespace}}/{{plural}}"
    return [
        Route(namespaced, list_objects),
        Route(f"{namespaced}/{{name}}", get_object),
        Route(f"{namespaced}/{{name}}/status", get_object),
        Route(f"{prefix}/{{plural}}", list_objects),
        Route(f"{prefix}/{{plural}}/{{name}}", get_object),
        Route(f"{prefix}/{{plural}}/{{name}}/status", get_object),
    ]


ROUTES = [*_routes(f"/apis/{API_VERSION}", API_VERSION), *_routes("/api/v1", "v1")]
