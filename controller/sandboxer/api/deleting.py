"""
DELETE of one object and of a collection.

`DeleteOptions` come in the body, as kubectl sends them, or in the query when there is no body. A
`dryRun` counts wherever it stands: Kubernetes overlooks the one in the query when there is a body,
and deletes what was to be rehearsed. What propagation asks for is a finalizer that is added in the
same write, and that the controller's garbage collection acts upon.

Source:
    apiserver `pkg/endpoints/handlers/delete.go`; finalizers: apimachinery
    `pkg/apis/meta/v1/types.go`, `FinalizerOrphanDependents` and `FinalizerDeleteDependents`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from sandboxer.api import bodies
from sandboxer.api.answers import StatusError, json_bytes, json_response, list_bytes
from sandboxer.api.causes import cause_of
from sandboxer.api.listoptions import read_options
from sandboxer.api.refusals import (
    cause,
    conflict,
    invalid_options,
    not_found,
    not_supported,
    refused,
)
from sandboxer.api.selection import selection_of
from sandboxer.api.served import Served
from sandboxer.api.targets import NOT_ALLOWED, Target, store_of, target_of
from sandboxer.api.validation import Document
from sandboxer.api.writeoptions import is_dry_run
from sandboxer.errors import ConflictError, NotFoundError, SandboxerError
from sandboxer.kinds.meta import Key, Resource
from sandboxer.store import Cause, Delete, Entry, Store

FINALIZERS: Final = {
    "Background": (),
    "Foreground": ("foregroundDeletion",),
    "Orphan": ("orphan",),
}
"""What each propagation policy adds to the object."""

# Objects of a collection deleted in one transaction: others' writes wait about 50 ms for it.
_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """How a client wants something deleted."""

    cause: Cause
    """Who wants it."""
    dry_run: bool = False
    uid: str = ""
    """Only the object with this identity; empty means whichever has the name."""
    resource_version: str = ""
    """Only at this version; empty means at any."""
    finalizers: tuple[str, ...] = ()


async def delete(request: Request) -> Response:
    """Answer a DELETE of an object: a Status when it is gone, the object while it is held."""
    target = _deletable(target_of(request), "delete")
    options = await delete_options(request)
    store = store_of(request)
    entry = store.entry(_key(target))
    if entry is None:
        raise not_found(target.served, target.name)
    try:
        (result,) = await store.write(
            [_delete(target.served, entry, options)], dry_run=options.dry_run
        )
    except SandboxerError as error:
        raise refused(error, target.served, target.name) from error
    if isinstance(result, ConflictError):
        raise conflict(target.served, target.name, _mismatch(options, entry)) from result
    if isinstance(result, SandboxerError):
        raise refused(result, target.served, target.name) from result
    return json_response(_gone(target.served, entry) if result is None else result.to_document())


async def delete_collection(request: Request) -> Response:
    """Answer a DELETE of everything that fits the selectors: the list of what was there."""
    target = _deletable(target_of(request), "deletecollection")
    options = await delete_options(request)
    store = store_of(request)
    found = selection_of(target, read_options(request.query_params)).among(
        target.served.collection(store)
    )
    held = await _delete_all(store, target.served, found, options)
    shown = [held.get(entry.key, entry.body) for entry in found]
    served = target.served
    metadata = {"resourceVersion": str(store.revision)}
    return json_bytes(list_bytes(served.group_version, f"{served.kind}List", metadata, shown))


async def delete_options(request: Request) -> DeleteOptions:
    """
    Return what the body says, or the query when the body is empty.

    Raises:
        StatusError: 400, 413, 415 or 422, it cannot be read or asks for what is not known.
    """
    data = await bodies.read(request)
    query = request.query_params
    in_query = is_dry_run(query.getlist("dryRun"))
    if data.strip():
        type_ = bodies.media_type(request)
        if type_ not in bodies.READABLE:
            raise bodies.unsupported(bodies.READABLE)
        given = bodies.decode(data, type_).value
        if not isinstance(given, dict):
            raise StatusError(400, "the body of the request must be one DeleteOptions")
    else:
        given = {
            name: query[name] for name in ("propagationPolicy", "orphanDependents") if name in query
        }
    preconditions = given.get("preconditions")
    if not isinstance(preconditions, dict | None):
        raise StatusError(400, "preconditions must be a mapping")
    preconditions = preconditions or {}
    return DeleteOptions(
        dry_run=is_dry_run(given.get("dryRun")) or in_query,
        uid=_text(preconditions, "uid"),
        resource_version=_text(preconditions, "resourceVersion"),
        finalizers=_finalizers(given),
        cause=cause_of(request),
    )


def _finalizers(given: Document) -> tuple[str, ...]:
    policy, orphan = given.get("propagationPolicy"), given.get("orphanDependents")
    if policy is not None and orphan is not None:
        words = f'Invalid value: "{policy!s:.64}": orphanDependents and deletionPropagation cannot be both set'
        raise invalid_options("DeleteOptions", [cause("Invalid", "propagationPolicy", words)])
    if policy is None:
        return FINALIZERS["Orphan" if orphan in (True, "true") else "Background"]
    if not isinstance(policy, str) or policy not in FINALIZERS:
        supported = '"Background", "Foreground", "Orphan"'
        words = f'Unsupported value: "{policy!s:.64}": supported values: {supported}'
        raise invalid_options("DeleteOptions", [cause("NotSupported", "propagationPolicy", words)])
    return FINALIZERS[policy]


def _text(given: Document, name: str) -> str:
    value = given.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise StatusError(400, f"preconditions.{name} must be text")
    return value


def _deletable(target: Target, verb: str) -> Target:
    if target.served.model is None or verb not in target.served.verbs:
        raise not_supported(target.served, verb)
    if target.served.namespaced and target.namespace is None:
        raise StatusError(405, NOT_ALLOWED)  # nobody means all namespaces at once
    return target


def _key(target: Target) -> Key:
    return Key(target.served.kind, target.namespace or "", target.name)


def _delete(served: Served, entry: Entry, options: DeleteOptions) -> Delete:
    assert served.model is not None, "checked before"
    return Delete(
        served.model,
        entry.key.name,
        entry.key.namespace,
        uid=options.uid,
        resource_version=options.resource_version,
        finalizers=options.finalizers,
        cause=options.cause,
    )


def _mismatch(options: DeleteOptions, entry: Entry) -> str:
    """Return which precondition does not hold, in Kubernetes' words."""
    if options.uid and options.uid != entry.uid:
        return (
            f"Precondition failed: UID in precondition: {options.uid:.64}, "
            f"UID in object meta: {entry.uid}"
        )
    return (
        f"Precondition failed: ResourceVersion in precondition: {options.resource_version:.64}, "
        f"ResourceVersion in object meta: {entry.revision}"
    )


def _gone(served: Served, entry: Entry) -> Document:
    """Return the Status of an object that is no more."""
    details = {
        "name": entry.key.name,
        "group": served.group,
        "kind": served.plural,
        "uid": entry.uid,
    }
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    }


async def _delete_all(
    store: Store, served: Served, found: Sequence[Entry], options: DeleteOptions
) -> dict[Key, bytes]:
    """Delete in batches and return the bodies of those that wait for their finalizers."""
    held: dict[Key, bytes] = {}
    for start in range(0, len(found), _BATCH):
        batch = found[start : start + _BATCH]
        operations = [_delete(served, entry, options) for entry in batch]
        try:
            results: list[Any] = await store.write(operations, dry_run=options.dry_run)
        except SandboxerError as error:
            raise refused(error, served, "") from error
        for entry, result in zip(batch, results, strict=True):
            if isinstance(result, Resource):
                held[entry.key] = json.dumps(result.to_document()).encode()
            elif isinstance(result, SandboxerError) and not isinstance(result, NotFoundError):
                raise refused(result, served, entry.key.name) from result
    return held
