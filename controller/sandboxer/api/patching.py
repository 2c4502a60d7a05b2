"""
PATCH: merge patch, JSON patch and server-side apply, on objects and on their `/status`.

Strategic merge patch is refused, as Kubernetes does for custom resources. What a patch makes of an
object is judged as a whole, never the patch itself: `kubectl apply` may send annotations alone.

Source:
    RFC 7386 (merge patch), RFC 6902 (JSON patch); limits and words: apiserver
    `pkg/endpoints/handlers/patch.go`.
"""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

import jsonpatch
from jsonpointer import JsonPointer, JsonPointerException
from starlette.requests import Request
from starlette.responses import Response

from sandboxer import fields
from sandboxer.api import bodies
from sandboxer.api.answers import StatusError
from sandboxer.api.bodies import Body
from sandboxer.api.refusals import conflict, not_found, refused
from sandboxer.api.storing import Revision, Write, change, placed, store_new
from sandboxer.api.validation import Document, prune, report_fields
from sandboxer.api.writeoptions import APPLY_TYPE
from sandboxer.api.writing import answer, known, write_of
from sandboxer.errors import ConflictError, SandboxerError
from sandboxer.kinds.meta import Resource

JSON_PATCH_TYPE: Final = "application/json-patch+json"
MERGE_PATCH_TYPE: Final = "application/merge-patch+json"
PATCH_TYPES: Final = (JSON_PATCH_TYPE, MERGE_PATCH_TYPE, APPLY_TYPE)
"""Media types of patches; a strategic merge patch is none."""

MAX_OPERATIONS: Final = 10_000
"""Of one JSON patch, as in Kubernetes."""

# Times an apply starts over because the object came or went meanwhile.
_MAX_TRIES: Final = 3


async def patch(request: Request) -> Response:
    """Answer a PATCH of an object."""
    return await _patched(request, "")


async def patch_status(request: Request) -> Response:
    """Answer a PATCH of a `/status`."""
    return await _patched(request, "status")


async def _patched(request: Request, subresource: str) -> Response:
    type_ = patch_type(request)
    write = write_of(request, "patch", subresource=subresource, patch_type=type_)
    body = await read_patch(request, type_)
    if type_ == APPLY_TYPE:
        obj, code = await _apply(write, body)
        return answer(write, obj, code=code)

    def revise(live: Document) -> Revision:
        document, unknown = prune(patched(live, body.value, type_), write.model)
        write.warn(report_fields(unknown, body.duplicates, write.options.field_validation))
        return Revision(document)

    return answer(write, await change(write, revise))


def patch_type(request: Request, accepted: tuple[str, ...] = PATCH_TYPES) -> str:
    """
    Return the media type of a patch.

    Raises:
        StatusError: 415, it is not among the *accepted* ones.
    """
    type_ = bodies.media_type(request)
    if type_ not in accepted:
        raise bodies.unsupported(accepted)
    return type_


async def read_patch(request: Request, type_: str) -> Body:
    """
    Return a patch: a list of operations, or an object.

    Raises:
        StatusError: 400 or 413, it cannot be read or is too large.
    """
    syntax = bodies.YAML_TYPE if type_ == APPLY_TYPE else bodies.JSON_TYPE
    body = bodies.decode(await bodies.read(request), syntax)
    if type_ == JSON_PATCH_TYPE:
        _check_operations(body.value)
    elif not isinstance(body.value, dict):
        raise StatusError(400, "the body of the request must be one object")
    return body


def patched(document: Document, patch: Any, type_: str) -> Document:
    """
    Return what a merge patch or a JSON patch makes of a document, which stays as it is.

    Raises:
        StatusError: 413 or 422, it does not fit the document or makes it too large or too deep.
    """
    merge = type_ == MERGE_PATCH_TYPE
    result = _merged(document, patch) if merge else _operated(document, patch)
    if not isinstance(result, dict) or not bodies.is_shallow(result):
        raise StatusError(422, "the patch makes the object something that cannot be stored")
    return result


async def _apply(write: Write, body: Body) -> tuple[Resource, int]:
    """Return the applied object and 200, or 201 when there was none."""
    config = placed(write, known(write, body))
    for _ in range(_MAX_TRIES):
        if write.live() is None:
            try:
                return await store_new(write, _first(write, config)), 201
            except ConflictError:
                continue  # somebody else has just made it
        try:
            return await change(write, lambda live: _revised(write, live, config)), 200
        except StatusError as error:
            # Somebody else has just taken it away: the next try makes it anew, or finds why not.
            if error.code != HTTPStatus.NOT_FOUND:
                raise
    raise conflict(write.served, write.name)


def _first(write: Write, config: Document) -> Revision:
    """Return the revision of an apply to nothing."""
    if write.subresource:
        raise not_found(write.served, write.name)
    if uid := config["metadata"].get("uid"):
        why = (
            f"uid mismatch: the provided object specified uid {uid!s:.64}, and no existing object"
            " was found"
        )
        raise conflict(write.served, write.name, why)
    return _revised(write, None, config)


def _revised(write: Write, live: Document | None, config: Document) -> Revision:
    """Return the revision of an apply; what *config* says of uid and version must hold."""
    try:
        document = fields.apply(
            live,
            config,
            manager=write.options.manager,
            force=write.options.force,
            now=datetime.now(UTC),
            subresource=write.subresource,
        ).document
    except SandboxerError as error:
        raise refused(error, write.served, write.name) from error
    named = {k: v for k, v in config["metadata"].items() if k in ("uid", "resourceVersion")}
    metadata = {**document["metadata"], **named}
    owners = metadata.pop("managedFields", [])
    return Revision({**document, "metadata": metadata}, owners)


def _merged(target: Any, patch: Any) -> Any:
    """Return what RFC 7386 makes of *target*; null removes."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result


def _check_operations(operations: Any) -> None:
    if not isinstance(operations, list) or not all(isinstance(one, dict) for one in operations):
        raise StatusError(400, "a JSON patch is a list of operations")
    if len(operations) > MAX_OPERATIONS:
        raise StatusError(
            413,
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, "
            f"got {len(operations)}",
        )


def _operated(document: Document, operations: list[Document]) -> Any:
    """Return what RFC 6902 makes of a document, one operation after the other."""
    result: Any = copy.deepcopy(document)
    copied_bytes = 0
    for number, operation in enumerate(operations, 1):
        try:
            copied_bytes += _copied_bytes(result, operation)
            if copied_bytes > bodies.MAX_BYTES:
                raise StatusError(413, "the JSON patch copies more than can be stored")
            result = jsonpatch.JsonPatch([operation]).apply(result, in_place=True)
        except (
            jsonpatch.JsonPatchException,
            JsonPointerException,
            # What the library lets out for operations that are none, or do not fit.
            TypeError, KeyError, ValueError, IndexError, AttributeError, RecursionError,
        ) as error:  # fmt: skip
            what = f"{operation.get('op')!s:.16} {operation.get('path')!s:.128}"
            message = (
                f"the JSON patch cannot be applied: operation {number} ({what}): {error!s:.200}"
            )
            raise StatusError(422, message) from error
    return result


def _copied_bytes(document: Any, operation: Document) -> int:
    """Return the size of what a `copy` doubles: thirty of them turn one byte into a gigabyte."""
    if operation.get("op") != "copy":
        return 0
    return len(json.dumps(JsonPointer(str(operation.get("from"))).resolve(document)))
