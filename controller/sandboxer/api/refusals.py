"""
The errors of `sandboxer.errors` as Kubernetes' `Status`, word for word where clients read words.

Source:
    apimachinery `pkg/api/errors/errors.go` and apiserver `pkg/registry/generic/registry/store.go`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from sandboxer.api.answers import StatusError, status_response
from sandboxer.api.served import Served
from sandboxer.errors import (
    ConflictError,
    InvalidSpecError,
    NotFoundError,
    SandboxerError,
    TransientError,
)
from sandboxer.fields import FieldConflictError
from sandboxer.store import ExpiredError

MODIFIED: Final = (
    "the object has been modified; please apply your changes to the latest version and try again"
)

# Seconds a client waits before it asks again; client-go does so ten times by itself.
RETRY_AFTER_S: Final = 1

Cause = dict[str, str]
"""One entry of `details.causes`: reason, message, field."""


def cause(reason: str, field: str, message: str) -> Cause:
    """Return one cause; the reason without its prefix: `Invalid`, `Required`, `NotSupported`."""
    return {"reason": f"FieldValue{reason}", "message": message, "field": field}


def not_found(served: Served, name: str) -> StatusError:
    """Return the 404 of one object."""
    return _about(served, name, 404, f'{served.group_resource} "{name}" not found')


def conflict(served: Served, name: str, why: str = MODIFIED) -> StatusError:
    """Return the 409 of a write that came too late or was meant for another object."""
    message = f'Operation cannot be fulfilled on {served.group_resource} "{name}": {why}'
    return _about(served, name, 409, message)


def already_exists(served: Served, name: str, *, addition: str = "") -> StatusError:
    """Return the 409 of a create."""
    message = f'{served.group_resource} "{name}" already exists{addition}'
    return _about(served, name, 409, message, reason="AlreadyExists")


def invalid(served: Served, name: str, causes: Sequence[Cause]) -> StatusError:
    """Return the 422 that lists everything wrong with a document."""
    kind = f"{served.kind}.{served.group}".rstrip(".")
    details = {"group": served.group, "kind": served.kind, "name": name}
    return _invalid(kind, name, causes, details)


def invalid_options(options: str, causes: Sequence[Cause]) -> StatusError:
    """Return the 422 of wrong parameters: `PatchOptions`, `DeleteOptions`…"""
    details = {"group": "meta.k8s.io", "kind": options}
    return _invalid(f"{options}.meta.k8s.io", "", causes, details)


def not_supported(served: Served, action: str) -> StatusError:
    """Return the 405 of a verb this resource does not have."""
    message = f'{action} is not supported on resources of kind "{served.group_resource}"'
    details = {"group": served.group, "kind": served.plural}
    return StatusError(405, message, details=details)


def refused(error: SandboxerError, served: Served, name: str) -> StatusError:
    """Return the answer to a write that the store or the field owners refused."""
    match error:
        case FieldConflictError():
            return _field_conflict(error)
        case ConflictError() if error.reason == "AlreadyExists":
            return already_exists(served, name)
        case ConflictError():
            return conflict(served, name)
        case NotFoundError():
            return not_found(served, name)
        case InvalidSpecError():
            forbidden = error.reason == "Forbidden"
            reason, word = ("Forbidden",) * 2 if forbidden else ("Invalid", "Invalid value")
            wrong = cause(reason, error.field or "metadata", f"{word}: {error}")
            return invalid(served, name, [wrong])
        case _:
            return unavailable_or_failed(error)


def unavailable_or_failed(error: SandboxerError) -> StatusError:
    """Return the answer to an error that is about no field: 400, 409, 410, 500 or 503."""
    if isinstance(error, TransientError):
        details = {"retryAfterSeconds": RETRY_AFTER_S}
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        return StatusError(503, str(error), details=details, headers=headers)
    codes = (
        (InvalidSpecError, 400),
        (NotFoundError, 404),
        (ConflictError, 409),
        (ExpiredError, 410),
    )
    code = next((code for kind, code in codes if isinstance(error, kind)), 500)
    return StatusError(code, str(error), details={"causes": [{"message": str(error)}]})


async def refusal_response(request: Request, error: Exception) -> Response:
    """Answer an error of ours that no handler has put into a `Status`."""
    assert isinstance(error, SandboxerError), "registered for SandboxerError only"
    return await status_response(request, unavailable_or_failed(error))


def _about(served: Served, name: str, code: int, message: str, *, reason: str = "") -> StatusError:
    details = {"name": name, "group": served.group, "kind": served.plural}
    return StatusError(code, message, reason=reason, details=details)


def _invalid(kind: str, name: str, causes: Sequence[Cause], details: dict[str, Any]) -> StatusError:
    problems = [f"{one['field']}: {one['message']}" for one in causes]
    text = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
    return StatusError(
        422, f'{kind} "{name}" is invalid: {text}', details={**details, "causes": list(causes)}
    )


def _field_conflict(error: FieldConflictError) -> StatusError:
    causes = [
        {"reason": "FieldManagerConflict", "message": one.message, "field": one.field}
        for one in error.causes
    ]
    return StatusError(409, error.message, details={"causes": causes})
