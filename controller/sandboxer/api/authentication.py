"""
The door of the application: who asks, and whether they may.

Trust belongs to the listener, never to the request: the server that listens on the Unix socket
wraps the application with nothing, the one that listens on the network wraps it with
`Authentication`. Plain ASGI, because streams and websockets pass through it untouched.

Refused alternative: telling the two apart by the peer's address. A proxy in front, or a server
that reports none, would open the door.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sandboxer.api.answers import StatusError
from sandboxer.api.denial import deny
from sandboxer.api.tokens import TokenFile
from sandboxer.api.users import User, action_of, permits, refusal

# Asked by load balancers and by `kubectl version`, who have no token.
ANONYMOUS_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/version"})

# How a browser, which cannot set headers on a websocket, and old clients of Kubernetes send it:
# among the subprotocols, as unpadded base64url.
# Source: `pkg/authentication/request/websocket/protocol.go` of k8s.io/apiserver.
_SUBPROTOCOL = "base64url.bearer.authorization.k8s.io."


class Authentication:
    """
    Lets in who shows a token, as far as its role goes.

    Args:
        app: What is behind the door; finds the user by `sandboxer.api.users.user_of`.
        tokens: Who has one.
    """

    def __init__(self, app: ASGIApp, tokens: TokenFile) -> None:
        self._app = app
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its user, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            scope = self._admitted(scope)
        except StatusError as error:
            await deny(error, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _admitted(self, scope: Scope) -> Scope:
        """Return the request as the application may see it."""
        if _is_public(scope):
            return scope
        user = self._user(_shown_token(scope))
        if not permits(user, action := action_of(scope)):
            raise refusal(user, action)
        admitted = {**scope, "state": {**scope.get("state", {}), "user": user}}
        if scope["type"] == "websocket":
            admitted["subprotocols"] = [
                each for each in scope["subprotocols"] if not each.startswith(_SUBPROTOCOL)
            ]
        return admitted

    def _user(self, token: str) -> User:
        found = self._tokens.find(token) if token else None
        if found is None:
            raise _unauthorized("Unauthorized")
        if self._tokens.has_expired(found):
            # Only who had the token is told so much.
            raise _unauthorized(f"Unauthorized: the token of {found.name} has expired")
        return User(found.name, found.role)


def _unauthorized(message: str) -> StatusError:
    return StatusError(401, message, headers={"WWW-Authenticate": 'Bearer realm="sandboxer"'})


def _is_public(scope: Scope) -> bool:
    return (
        scope["type"] == "http"
        and scope["path"] in ANONYMOUS_PATHS
        and scope["method"] in ("GET", "HEAD")
    )


def _shown_token(scope: Scope) -> str:
    """Return the bearer token of a request, empty when it has none."""
    scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return _token_among(scope.get("subprotocols", ()))


def _token_among(subprotocols: Iterable[str]) -> str:
    for each in subprotocols:
        if each.startswith(_SUBPROTOCOL):
            coded = each.removeprefix(_SUBPROTOCOL)
            try:
                return base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4)).decode()
            except ValueError:  # no base64, or no text inside
                return ""
    return ""
