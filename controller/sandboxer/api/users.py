"""
Who is asking, and what they may do: a user with one of two roles, and one question about them.

`Action` says what a request wants in the terms of Kubernetes' authorization (verb, resource,
name), whatever becomes of it later; `refusal` is the only rule there is.

Source:
    Verbs and paths: `pkg/endpoints/request/requestinfo.go` of k8s.io/apiserver; words of a refusal:
    `pkg/endpoints/handlers/responsewriters/errors.go` there, v0.32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.types import Scope

from sandboxer.api.answers import StatusError
from sandboxer.api.tokens import Role

READING = frozenset({"get", "list", "watch"})

# Subresources that act, whatever the HTTP method: websockets open all of them with GET.
ACTING = frozenset({"exec", "attach", "portforward"})

# Subresources that only tell something. NOTE: every other one is refused to viewers. Names that act
# are no safe list: the router takes `exec` with a line feed behind it for `exec`.
TELLING = frozenset({"", "status", "scale", "log", "inventory", "story"})

# What everybody may create: questions about themselves, by group.
REVIEWS = {
    "authorization.k8s.io": frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews"}),
    "authentication.k8s.io": frozenset({"selfsubjectreviews", "tokenreviews"}),
}

_VERBS = {
    "POST": "create",
    "GET": "get",
    "HEAD": "get",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}

_ADMINS = "sandboxer:admins"
_VIEWERS = "sandboxer:viewers"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who was let in."""

    name: str
    role: Role

    @property
    def groups(self) -> tuple[str, ...]:
        """Group of the role and the one of everybody, as `kubectl auth whoami` shows them."""
        return (_ADMINS if self.role == "admin" else _VIEWERS, "system:authenticated")


LOCAL = User("local", "admin")
"""Whoever can connect to the Unix socket or holds the application: owner of the data directory."""


def user_of(scope: Scope) -> User:
    """Return who asks; an application that is not served through `Authentication` is used locally."""
    user = scope.get("state", {}).get("user", LOCAL)
    assert isinstance(user, User), "only Authentication sets it"
    return user


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What a request wants."""

    verb: str
    path: str = ""
    """Of a request for no resource (`/version`); else empty."""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


def action_of(scope: Scope) -> Action:
    """Read what an HTTP or websocket request wants, from its path and method alone."""
    path = str(scope["path"])
    method = _VERBS.get(scope.get("method", "GET"), "unknown")
    parts = [part for part in path.split("/") if part]
    if parts[:2] == ["api", "v1"]:
        return _resource_action(method, "", parts[2:], path, scope)
    if parts[:1] == ["apis"] and len(parts) > 3:  # noqa: PLR2004 - /apis/GROUP/VERSION/RESOURCE
        return _resource_action(method, parts[1], parts[3:], path, scope)
    return Action(verb=method, path=path)


def _resource_action(method: str, group: str, parts: list[str], path: str, scope: Scope) -> Action:
    namespace = ""
    if parts[:1] == ["namespaces"] and len(parts) > 1:
        namespace = parts[1]
        # A namespace itself, and its own subresources, are named by the same path.
        if len(parts) > 2 and parts[2] not in ("status", "finalize"):  # noqa: PLR2004 - as above
            parts = parts[2:]
    resource, name, subresource = [*parts, "", "", ""][:3]
    if not resource:
        return Action(verb=method, path=path)
    return Action(
        verb=_verb(method, name, subresource, scope),
        group=group,
        resource=resource,
        subresource=subresource,
        namespace=namespace,
        name=name,
    )


def _verb(method: str, name: str, subresource: str, scope: Scope) -> str:
    if subresource in ACTING:
        return "create"
    if method == "get" and not name:
        return "watch" if _watches(scope) else "list"
    return "deletecollection" if method == "delete" and not name else method


def _watches(scope: Scope) -> bool:
    pairs = scope.get("query_string", b"").split(b"&")
    return any(pair in (b"watch=1", b"watch=true", b"watch=True") for pair in pairs)


def permits(user: User, action: Action) -> bool:
    """Tell whether somebody may do something: viewers read, everybody asks about themselves."""
    if user.role == "admin":
        return True
    if action.verb == "create" and action.resource in REVIEWS.get(action.group, ()):
        return True
    return action.verb in READING and action.subresource in TELLING


def refusal(user: User, action: Action) -> StatusError:
    """Return the 403 for an action that is not permitted, in Kubernetes' words."""
    if not action.resource:
        words = f'User "{user.name}" cannot {action.verb} path "{action.path}"'
        return StatusError(403, f"forbidden: {words}", reason="Forbidden")
    of = action.resource + (f".{action.group}" if action.group else "")
    named = f'{of} "{action.name}"' if action.name else of
    return StatusError(
        403,
        f"{named} is forbidden: {_sentence(user, action)}",
        reason="Forbidden",
        details=_details(action),
    )


def _sentence(user: User, action: Action) -> str:
    resource = "/".join(filter(None, (action.resource, action.subresource)))
    where = f'in the namespace "{action.namespace}"' if action.namespace else "at the cluster scope"
    return (
        f'User "{user.name}" cannot {action.verb} resource "{resource}" '
        f'in API group "{action.group}" {where}'
    )


def _details(action: Action) -> dict[str, Any]:
    details = {"name": action.name, "group": action.group, "kind": action.resource}
    return {key: value for key, value in details.items() if value}
