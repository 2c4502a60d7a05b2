"""
The `/scale` of kinds that can be scaled: an `autoscaling/v1` Scale that stands for their replicas.

Where a kind keeps its numbers is said by its `ScalePaths`; writing a Scale writes that one field of
the object, judged by the kind like any other write.

Source:
    apiextensions-apiserver `pkg/registry/customresource/etcd.go`, `ScaleREST`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from sandboxer.api.answers import StatusError, json_response
from sandboxer.api.bodies import read_object
from sandboxer.api.patching import (
    JSON_PATCH_TYPE,
    MERGE_PATCH_TYPE,
    patch_type,
    patched,
    read_patch,
)
from sandboxer.api.refusals import cause, invalid
from sandboxer.api.storing import Revision, Write, change
from sandboxer.api.targets import NO_SUCH_RESOURCE, store_of, target_of
from sandboxer.api.validation import Document
from sandboxer.api.writing import write_of
from sandboxer.kinds.meta import Key, Resource, ScalePaths


async def get_scale(request: Request) -> Response:
    """Answer a GET of a `/scale`."""
    target = target_of(request)
    paths = _paths(target.served.model)
    entry = store_of(request).entry(Key(target.served.kind, target.namespace or "", target.name))
    if entry is None:
        raise target.not_found()
    return json_response(scale_of(json.loads(entry.body), paths))


async def replace_scale(request: Request) -> Response:
    """Answer a PUT of a `/scale`; kubectl sends it without a media type."""
    write = _write_of(request, "update")
    body = await read_object(request)
    return await _scaled(write, lambda _: body.value)


async def patch_scale(request: Request) -> Response:
    """Answer a PATCH of a `/scale`."""
    type_ = patch_type(request, (JSON_PATCH_TYPE, MERGE_PATCH_TYPE))
    write = _write_of(request, "patch")
    body = await read_patch(request, type_)
    return await _scaled(write, lambda scale: patched(scale, body.value, type_))


def scale_of(document: Document, paths: ScalePaths) -> Document:
    """Return the Scale of a stored document."""
    metadata = document["metadata"]
    names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status = {
        "replicas": _at(document, paths.status_replicas) or 0,
        "selector": _at(document, paths.label_selector) or "",
    }
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in names if name in metadata},
        "spec": {"replicas": _at(document, paths.spec_replicas) or 0},
        "status": status,
    }


def _write_of(request: Request, verb: str) -> Write:
    _paths(target_of(request).served.model)
    return write_of(request, verb, patch_type="scale")


def _paths(model: type[Resource] | None) -> ScalePaths:
    if model is None or model.scale is None:
        raise StatusError(404, NO_SUCH_RESOURCE)
    return model.scale


async def _scaled(write: Write, rescale: Callable[[Document], Document]) -> Response:
    """Write the replicas of a Scale into its object and answer with the Scale after it."""
    paths = _paths(write.model)

    def revise(live: Document) -> Revision:
        wanted = rescale(scale_of(live, paths))
        replicas = _wanted_replicas(wanted)
        if type(replicas) is not int:
            words = f"Invalid value: {json.dumps(replicas)[:64]}: must be a whole number"
            raise invalid(write.served, write.name, [cause("Invalid", "spec.replicas", words)])
        document = _with(live, paths.spec_replicas, replicas)
        metadata = {**live["metadata"], **_named(wanted)}
        return Revision({**document, "metadata": metadata})

    obj = await change(write, revise)
    return json_response(scale_of(obj.to_document(), paths), warnings=write.warnings)


def _wanted_replicas(scale: Document) -> Any:
    """Return `spec.replicas`; a typed client leaves a zero out, so nothing is zero."""
    spec = scale.get("spec")
    return spec.get("replicas", 0) if isinstance(spec, dict) else None


def _named(scale: Document) -> Document:
    """Return what a Scale says of the object it is meant for; a precondition of the write."""
    metadata = scale.get("metadata")
    names = ("name", "namespace", "uid", "resourceVersion")
    given = metadata if isinstance(metadata, dict) else {}
    return {name: given[name] for name in names if given.get(name)}


def _at(document: Any, path: str) -> Any:
    """Return what stands at a simple JSONPath (`.spec.replicas`), or None."""
    for name in path.strip(".").split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _with(document: Document, path: str, value: Any) -> Document:
    """Return a document with another value at a simple JSONPath."""
    name, _, rest = path.strip(".").partition(".")
    inner = _with(document.get(name) or {}, rest, value) if rest else value
    return {**document, name: inner}
