"""
Questions people ask about themselves: who am I, may I, what may I.

`kubectl auth whoami`, `auth can-i` and `auth can-i --list` send them, from 1.32 in protobuf. The
answers come from the same rule that lets requests through (`sandboxer.api.users.permits`). The
client library kr8s asks with a TokenReview instead.
"""

from __future__ import annotations

import hmac
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandboxer.api import bodies
from sandboxer.api.answers import StatusError, json_response
from sandboxer.api.users import READING, REVIEWS, Action, User, permits, user_of

AUTHORIZATION = "authorization.k8s.io/v1"
AUTHENTICATION = "authentication.k8s.io/v1"

# Bytes of a question, which has a dozen short fields. Everybody may ask, and 3 MiB of small items
# take seconds to decode, in which nobody else is answered.
_MAX_BYTES = 16 * 1024

_EVERYTHING = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}

_READ_RULES = [
    {"verbs": sorted(READING), "apiGroups": ["*"], "resources": ["*"]},
    *(
        {"verbs": ["create"], "apiGroups": [group], "resources": sorted(reviews)}
        for group, reviews in REVIEWS.items()
    ),
]


class _Attributes(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, strict=True)


class _ResourceAttributes(_Attributes):
    namespace: str = ""
    verb: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""


class _PathAttributes(_Attributes):
    path: str = ""
    verb: str = ""


class _AccessSpec(_Attributes):
    resource_attributes: _ResourceAttributes | None = None
    non_resource_attributes: _PathAttributes | None = None

    def action(self) -> Action:
        """Return what is asked about."""
        asked, path = self.resource_attributes, self.non_resource_attributes
        if (asked is None) == (path is None):
            message = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            raise StatusError(422, f"spec: Invalid value: {message}", reason="Invalid")
        if path is not None:
            return Action(verb=path.verb, path=path.path)
        assert asked is not None, "one of the two"
        return Action(**asked.model_dump())


async def _access(request: Request) -> Response:
    document = await _document(request, AUTHORIZATION, "SelfSubjectAccessReview")
    user = user_of(request.scope)
    try:
        allowed = permits(user, _AccessSpec.model_validate(document.get("spec", {})).action())
    except ValidationError as error:
        raise StatusError(400, f"spec: {error.errors()[0]['msg']}") from error
    status = {"allowed": True} if allowed else {"allowed": False, "reason": _why_not(user)}
    return _answer(document, status)


def _why_not(user: User) -> str:
    return f"the role of {user.name} is {user.role}, which may only read"


async def _rules(request: Request) -> Response:
    document = await _document(request, AUTHORIZATION, "SelfSubjectRulesReview")
    return _answer(document, _rules_of(user_of(request.scope)))


def _rules_of(user: User) -> dict[str, Any]:
    rules = [_EVERYTHING] if user.role == "admin" else _READ_RULES
    paths = ["*"] if user.role == "admin" else ["get"]
    return {
        "resourceRules": rules,
        "nonResourceRules": [{"verbs": paths, "nonResourceURLs": ["*"]}],
        "incomplete": False,
    }


async def _identity(request: Request) -> Response:
    document = await _document(request, AUTHENTICATION, "SelfSubjectReview")
    return _answer(document, {"userInfo": _info(user_of(request.scope))})


async def _token(request: Request) -> Response:
    """Answer a TokenReview of the caller's own token; about others' nothing is told."""
    document = await _document(request, AUTHENTICATION, "TokenReview")
    spec = document.get("spec")
    token = spec.get("token") if isinstance(spec, dict) else None
    if not isinstance(token, str) or not token:
        raise StatusError(422, "spec.token: Required value", reason="Invalid")
    own = request.headers.get("authorization", "")
    if not hmac.compare_digest(own.encode(), f"Bearer {token}".encode()):
        why = "only the token a request is made with is reviewed"
        return _answer(document, {"authenticated": False, "error": why})
    return _answer(document, {"authenticated": True, "user": _info(user_of(request.scope))})


def _info(user: User) -> dict[str, Any]:
    return {"username": user.name, "groups": list(user.groups)}


async def _document(request: Request, api_version: str, kind: str) -> dict[str, Any]:
    """Return the body, which is a review of that kind, in JSON or in protobuf."""
    document: dict[str, Any] = (await bodies.read_object(request, limit=_MAX_BYTES)).value
    named = (document.get("apiVersion", api_version), document.get("kind", kind))
    if named != (api_version, kind):
        raise StatusError(400, f"the body is not a {kind} of {api_version}")
    return document | {"apiVersion": api_version, "kind": kind}


def _answer(document: dict[str, Any], status: dict[str, Any]) -> Response:
    return json_response({"metadata": {}, **document, "status": status}, code=201)


ROUTES = [
    Route(f"/apis/{AUTHORIZATION}/selfsubjectaccessreviews", _access, methods=["POST"]),
    Route(f"/apis/{AUTHORIZATION}/selfsubjectrulesreviews", _rules, methods=["POST"]),
    Route(f"/apis/{AUTHENTICATION}/selfsubjectreviews", _identity, methods=["POST"]),
    Route(f"/apis/{AUTHENTICATION}/tokenreviews", _token, methods=["POST"]),
]
