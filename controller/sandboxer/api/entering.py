"""From a request to the inside of a sandbox: which one, which container, and whether it can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from starlette.requests import HTTPConnection

from sandboxer.api.answers import StatusError
from sandboxer.api.podform import container_name
from sandboxer.api.pods import Pods
from sandboxer.errors import (
    InvalidSpecError,
    NotFoundError,
    SandboxerError,
    TransientError,
    UnreachableError,
)
from sandboxer.extension import Capability
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Store

if TYPE_CHECKING:
    # NOTE: a command that serves the API for itself must not load the way to the hosts for it.
    from sandboxer.engine.inside import Entrance, Inside

_TRUE = frozenset({"true", "True", "TRUE", "1", "t", "T"})
_FORM = "%Y-%m-%dT%H:%M:%SZ"
_FALSE = frozenset({"false", "False", "FALSE", "0", "f", "F", ""})


class Entered(NamedTuple):
    """What a request reaches into."""

    inside: Inside
    container: str
    """Compose service; empty means the first one."""
    host: Host | None = None
    """Where that is, as the store knows it."""

    def refusal(self, error: SandboxerError) -> StatusError:
        """Return the answer to an error from the inside; see `status_of`."""
        return status_of(with_age(error, self.host))


async def enter(connection: HTTPConnection, *, needs: Capability) -> Entered:
    """
    Return the inside of what a path names, a Pod or a Sandbox.

    Raises:
        StatusError: It is not there, or cannot be entered.
    """
    state = connection.app.state
    store: Store | None = getattr(state, "store", None)
    entrance: Entrance | None = getattr(state, "entrance", None)
    if store is None or entrance is None:
        raise StatusError(503, "this server has no way to the hosts; ask the controller's")
    sandbox, container = _named(connection, store)
    host = store.get(Host, sandbox.status.host) if sandbox.status.host else None
    try:
        return Entered(await entrance.enter(sandbox, needs=needs), container, host)
    except SandboxerError as error:
        raise status_of(with_age(error, host)) from error


def with_age(error: SandboxerError, host: Host | None) -> SandboxerError:
    """Return an error of a host that does not answer with since when, and when it last did."""
    reachable = host.status.condition("Reachable") if host is not None else None
    if host is None or reachable is None or not isinstance(error, UnreachableError):
        return error
    last, name = host.status.last_probe_time, host.metadata.name
    known = f" It answered at {last:{_FORM}}." if last is not None else ""
    if reachable.status == "False":
        known = (
            f" Host {name} has not answered since {reachable.last_transition_time:{_FORM}}.{known}"
        )
    message = f"{error.message}{known}"
    return UnreachableError(message, reason=error.reason, remedy=error.remedy)


def status_of(error: SandboxerError) -> StatusError:
    """
    Return the answer to an error of a host or an extension.

    Without Retry-After: client-go would silently try ten times, and a person waits.
    However a host was found not to answer, one cause says in one word that it does not.
    """
    codes = ((NotFoundError, 404), (InvalidSpecError, 400), (TransientError, 503))
    code = next((code for kind, code in codes if isinstance(error, kind)), 500)
    silent = [UnreachableError.default_reason] if isinstance(error, UnreachableError) else []
    reasons = dict.fromkeys([error.reason, *silent])
    details = {"causes": [{"reason": reason, "message": error.message} for reason in reasons]}
    return StatusError(code, str(error), reason=error.reason, details=details)


def flag(connection: HTTPConnection, name: str) -> bool:
    """
    Return a parameter that is true or false, false when it is left out.

    Raises:
        StatusError: It is something else.
    """
    text = connection.query_params.get(name, "")
    if text not in _TRUE | _FALSE:
        raise StatusError(400, f"{name} must be true or false, and is {text[:32]!r}")
    return text in _TRUE


def number(connection: HTTPConnection, name: str, *, least: int) -> int | None:
    """
    Return a parameter that is a whole number, None when it is left out.

    Raises:
        StatusError: It is no number, or below *least*.
    """
    text = connection.query_params.get(name, "")
    if not text:
        return None
    # Ten digits are more lines and bytes than anybody keeps.
    if not (text.isascii() and text.isdigit() and len(text) <= 10) or int(text) < least:  # noqa: PLR2004 - said above
        raise StatusError(400, f"{name} must be a whole number from {least}, and is {text[:32]!r}")
    return int(text)


def _named(connection: HTTPConnection, store: Store) -> tuple[Sandbox, str]:
    path = connection.path_params
    namespace, container = path["namespace"], connection.query_params.get("container", "")
    if "pod" in path:
        return _of_pod(store, namespace, path["pod"], container)
    sandbox = store.get(Sandbox, path["sandbox"], namespace)
    if sandbox is None:
        raise _not_found("sandboxes", "sandboxer.dev", path["sandbox"])
    return sandbox, container


def _of_pod(store: Store, namespace: str, name: str, container: str) -> tuple[Sandbox, str]:
    found = Pods(store).find(namespace, name)
    sandbox = store.get(Sandbox, found[0].key.name, namespace) if found else None
    if found is None or sandbox is None:
        raise _not_found("pods", "", name)
    service = found[1].service
    if container not in ("", container_name(service)):
        raise StatusError(400, f"container {container[:63]} is not valid for pod {name}")
    return sandbox, service


def _not_found(plural: str, group: str, name: str) -> StatusError:
    resource = f"{plural}.{group}".rstrip(".")
    details = {"name": name, "group": group, "kind": plural}
    return StatusError(404, f'{resource} "{name}" not found', details=details)
