"""
POST and PUT of every kind.

Source:
    apiserver `pkg/endpoints/handlers/{create,update}.go`; names for generateName:
    `pkg/storage/names/generate.go` and `maxNameGenerationCreateAttempts`.
"""

from __future__ import annotations

import secrets
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from sandboxer.api.answers import StatusError, json_response
from sandboxer.api.bodies import Body, read_object
from sandboxer.api.causes import cause_of
from sandboxer.api.refusals import already_exists, cause, invalid, not_supported
from sandboxer.api.served import Served
from sandboxer.api.storing import Revision, Write, change, store_new
from sandboxer.api.targets import NO_SUCH_RESOURCE, NOT_ALLOWED, store_of, target_of
from sandboxer.api.validation import Document, prune, report_fields
from sandboxer.api.writeoptions import write_options
from sandboxer.errors import ConflictError
from sandboxer.kinds.meta import Resource

_MAX_NAMES: Final = 8
"""Names tried for one generateName."""

# Letters of generated names: no vowels and nothing to mistake for another, as Kubernetes takes.
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_RANDOM_LETTERS: Final = 5
_MAX_PREFIX: Final = 63 - _RANDOM_LETTERS
"""Characters kept of a generateName, so that the whole fits into a name."""


def write_of(request: Request, verb: str, *, subresource: str = "", patch_type: str = "") -> Write:
    """
    Return the write a request asks for.

    Args:
        request: Its path and query.
        verb: As discovery calls it: `create`, `update`, `patch`.
        subresource: `status` or `scale`, when it is about one.
        patch_type: Media type of a PATCH.

    Raises:
        StatusError: 404 and 405 for what cannot be written, 400 and 422 for wrong options.
    """
    target = target_of(request)
    served = target.served
    if subresource and subresource not in served.subresources:
        raise StatusError(404, NO_SUCH_RESOURCE)
    if served.model is None or verb not in served.verbs:
        raise not_supported(served, verb)
    if served.namespaced and target.namespace is None:
        raise StatusError(405, NOT_ALLOWED)
    # A refusal is answered elsewhere and carries the same warnings.
    warnings: list[str] = []
    request.state.warnings = warnings
    return Write(
        store=store_of(request),
        served=served,
        model=served.model,
        namespace=target.namespace or "",
        name=target.name,
        options=write_options(request, patch_type),
        cause=cause_of(request),
        registry=getattr(request.app.state, "registry", None),
        subresource=subresource,
        warnings=warnings,
    )


async def create(request: Request) -> Response:
    """Answer a POST to a collection."""
    write = write_of(request, "create")
    document = known(write, await read_object(request))
    metadata = document.get("metadata")
    given = metadata if isinstance(metadata, dict) else {}
    prefix = given.get("generateName")
    if isinstance(prefix, str) and prefix and not given.get("name"):
        return answer(write, await _store_generated(write, document, prefix), code=201)
    try:
        obj = await store_new(write, Revision(document))
    except ConflictError as error:
        name = document["metadata"]["name"]
        raise already_exists(write.served, name) from error
    return answer(write, obj, code=201)


async def _store_generated(write: Write, document: Document, prefix: str) -> Resource:
    """Create an object under a name nobody has yet."""
    for _ in range(_MAX_NAMES):
        ending = "".join(secrets.choice(_LETTERS) for _ in range(_RANDOM_LETTERS))
        name = prefix[:_MAX_PREFIX] + ending
        named = {**document, "metadata": {**document["metadata"], "name": name}}
        try:
            return await store_new(write, Revision(named))
        except ConflictError:
            continue
    addition = ", the server was not able to generate a unique name for the object"
    raise already_exists(write.served, name, addition=addition)


async def replace(request: Request) -> Response:
    """Answer a PUT of an object."""
    return await _replaced(request, "")


async def replace_status(request: Request) -> Response:
    """Answer a PUT of a `/status`."""
    return await _replaced(request, "status")


async def _replaced(request: Request, subresource: str) -> Response:
    write = write_of(request, "update", subresource=subresource)
    document = known(write, await read_object(request))
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("resourceVersion"):
        words = "Invalid value: 0x0: must be specified for an update"
        causes = [cause("Invalid", "metadata.resourceVersion", words)]
        raise invalid(write.served, write.name, causes)
    return answer(write, await change(write, lambda _: Revision(document)))


def known(write: Write, body: Body) -> Document:
    """
    Return the known part of a whole object, and tell the client about the rest as it asked.

    Raises:
        StatusError: 400, it is of another kind, or has unknown fields and may not.
    """
    served = write.served
    typed = of_kind(body.value, served)
    document, unknown = prune(typed, write.model)
    context = f'{served.kind} in version "{served.version}" cannot be handled as a {served.kind}: '
    write.warn(
        report_fields(unknown, body.duplicates, write.options.field_validation, context=context)
    )
    return document


def of_kind(document: Document, served: Served) -> Document:
    """
    Return a document with apiVersion and kind, which typed clients leave out.

    Raises:
        StatusError: 400, it says it is something else.
    """
    version = document.get("apiVersion") or served.group_version
    if version != served.group_version:
        raise StatusError(
            400,
            f"the API version in the data ({version!s:.64}) does not match the expected API version"
            f" ({served.group_version})",
        )
    kind = document.get("kind") or served.kind
    if kind != served.kind:
        raise StatusError(
            400, f"the kind in the data ({kind!s:.64}) does not match the expected kind ({served.kind})"
        )  # fmt: skip
    return {**document, "apiVersion": version, "kind": kind}


def answer(write: Write, obj: Resource, *, code: int = 200) -> Response:
    """Return an object as stored; one that never was (a dry run) has no resourceVersion."""
    document = obj.to_document()
    if not obj.metadata.resource_version:
        del document["metadata"]["resourceVersion"]
    return json_response(document, code=code, warnings=write.warnings)
