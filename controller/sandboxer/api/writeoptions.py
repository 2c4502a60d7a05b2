"""The query parameters of writes: dryRun, fieldManager, fieldValidation, force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast, get_args

from starlette.datastructures import QueryParams
from starlette.requests import Request

from sandboxer.api.answers import StatusError
from sandboxer.api.refusals import Cause, cause, invalid_options
from sandboxer.api.validation import FieldValidation
from sandboxer.errors import InvalidSpecError
from sandboxer.fields import manager_name

APPLY_TYPE: Final = "application/apply-patch+yaml"

_OPTIONS_OF: Final = {"POST": "CreateOptions", "PUT": "UpdateOptions", "PATCH": "PatchOptions"}
_TRUE: Final = frozenset({"true", "1", "t", "T", "TRUE", "True"})
_FALSE: Final = frozenset({"false", "0", "f", "F", "FALSE", "False"})


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """What a client asks of one write besides the write itself."""

    manager: str
    """Who owns what is written."""
    field_validation: FieldValidation = "Warn"
    dry_run: bool = False
    force: bool = False
    """An apply takes fields from their owners."""


def write_options(request: Request, patch_type: str = "") -> WriteOptions:
    """
    Return the options of a POST, PUT or PATCH.

    Args:
        request: Its query and its User-Agent.
        patch_type: Media type of a PATCH.

    Raises:
        StatusError: 400 or 422, one of them has a value that is not known.
    """
    query = request.query_params
    if causes := _causes(query, request.method, patch_type):
        raise invalid_options(_OPTIONS_OF[request.method], causes)
    try:
        manager = manager_name(
            query.get("fieldManager", ""), request.headers.get("user-agent", "unknown")
        )
    except InvalidSpecError as error:
        wrong = [cause("Invalid", "fieldManager", f"Invalid value: {error}")]
        raise invalid_options(_OPTIONS_OF[request.method], wrong) from error
    return WriteOptions(
        manager=manager,
        field_validation=cast("FieldValidation", query.get("fieldValidation") or "Warn"),
        dry_run=is_dry_run(query.getlist("dryRun")),
        force=_is_true(query.get("force", "")),
    )


def _causes(query: QueryParams, method: str, patch_type: str) -> list[Cause]:
    causes = []
    if query.get("fieldValidation", "") not in ("", *get_args(FieldValidation)):
        message = (
            f'Unsupported value: "{query["fieldValidation"][:64]}": '
            'supported values: "", "Ignore", "Strict", "Warn"'
        )
        causes.append(cause("NotSupported", "fieldValidation", message))
    if method == "PATCH" and patch_type == APPLY_TYPE and not query.get("fieldManager"):
        message = "Required value: is required for apply patch"
        causes.append(cause("Required", "fieldManager", message))
    if method == "PATCH" and patch_type != APPLY_TYPE and "force" in query:
        message = "Forbidden: may not be specified for non-apply patch"
        causes.append(cause("Forbidden", "force", message))
    return causes


def is_dry_run(values: object) -> bool:
    """
    Tell whether a `dryRun`, from a query or a body, asks for nothing to be stored.

    Raises:
        StatusError: 400, it holds something else than `All`: nobody may believe in a rehearsal
            that would be a real write.
    """
    if values in (None, [], ""):
        return False
    if not isinstance(values, list) or any(value not in ("All", "") for value in values):
        raise StatusError(
            400, f'dryRun: Unsupported value: {values!s:.64}: supported values: "All"'
        )
    return "All" in values


def _is_true(text: str) -> bool:
    if text not in _TRUE | _FALSE | {""}:
        raise StatusError(400, f'force: Invalid value: "{text[:64]}": must be true or false')
    return text in _TRUE
