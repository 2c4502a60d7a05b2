"""What requests below one Host have in common: the Host, and the way to its machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from starlette.requests import Request

from sandboxer.api.answers import StatusError
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import API_VERSION, GROUP
from sandboxer.store import Store

if TYPE_CHECKING:
    # NOTE: a command that serves the API for itself must not load the way to the hosts for it.
    from sandboxer.engine.inside import Entrance

OF_HOST: Final = f"/apis/{API_VERSION}/{Host.plural}/{{name}}"


class AskedHost(NamedTuple):
    """What a request is about, and the way there."""

    store: Store
    entrance: Entrance
    host: Host


def asked_host(request: Request) -> AskedHost:
    """
    Return what a request is about.

    Raises:
        StatusError: 404, there is no such Host; 503, this server has no way to machines.
    """
    state, name = request.app.state, request.path_params["name"]
    store: Store | None = getattr(state, "store", None)
    entrance: Entrance | None = getattr(state, "entrance", None)
    if store is None or entrance is None:
        raise StatusError(503, "this server has no way to the hosts; ask the controller's")
    host = store.get(Host, name)
    if host is None:
        details = {"name": name, "group": GROUP, "kind": Host.plural}
        message = f'{Host.plural}.{GROUP} "{name}" not found'
        raise StatusError(404, message, details=details)
    return AskedHost(store, entrance, host)


def asked_remains(request: Request) -> tuple[str, str]:
    """
    Return the uid of what is meant on a host, and its extension.

    Raises:
        StatusError: 400, one of them is missing.
    """
    uid, extension = (request.query_params.get(each, "") for each in ("uid", "extension"))
    if not uid or not extension:
        raise StatusError(400, "uid and extension must say what is meant")
    return uid, extension
