"""
The paths that lead to machines, in OpenAPI's words: log and streams of sandboxes, looks at hosts.

They are apart from `operations`, because nothing there is true of them: they read no document, and
a stream answers with another protocol when all is well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sandboxer.api.operations import (
    IN_PATH,
    JSON_TYPE,
    content,
    failures,
    in_query,
    response,
)
from sandboxer.kinds.meta import API_VERSION

JSON = dict[str, Any]

_CONTAINER: Final = in_query("container", "Which one; not needed where there is one only.")
_LOG: Final = (
    _CONTAINER,
    in_query("follow", "Go on with what is printed later.", "boolean"),
    in_query("tailLines", "The last lines only.", "integer", minimum=0),
    in_query("limitBytes", "No more than so many bytes.", "integer", minimum=1),
)
_EXEC: Final = (
    _CONTAINER,
    in_query("command", "The program; given again for each of its arguments."),
    in_query("stdin", "Pass on what the client sends.", "boolean"),
    in_query("stdout", "Send what is printed.", "boolean"),
    in_query("stderr", "Send what is printed about errors.", "boolean"),
    in_query("tty", "On a terminal of its own.", "boolean"),
)
_FORWARD: Final = (_CONTAINER, in_query("ports", "The port inside.", "integer"))

_STREAMS: Final[Mapping[str, tuple[str, Sequence[JSON]]]] = {
    "exec": ("Run a command, over a websocket (v5.channel.k8s.io, v4.channel.k8s.io).", _EXEC),
    "portforward": ("Connect to a port, over a websocket (v4.channel.k8s.io).", _FORWARD),
    "attach": ("Always refused: nothing keeps the input of a sandbox's own process.", ()),
}

_SWITCHED: Final = {"101": {"description": "The stream is open"}}
_FOUND: Final = {"type": "object", "description": "What is there now.", "properties": {}}
_REMOVED: Final = {"type": "object", "description": "What was removed.", "properties": {}}


def inside_paths(group: str, version: str) -> JSON:
    """Return the paths of one group and version that lead to machines."""
    if (group, version) == ("", "v1"):
        return _into("/api/v1/namespaces/{namespace}/pods/{name}", "Pod")
    if f"{group}/{version}" != API_VERSION:
        return {}
    root = f"/apis/{API_VERSION}"
    return _into(f"{root}/namespaces/{{namespace}}/sandboxes/{{name}}", "Sandbox") | _of_hosts(root)


def _into(one: str, kind: str) -> JSON:
    where = _where("namespace", "name")
    found: JSON = {f"{one}/log": {"get": _log(kind), "parameters": where}}
    for name, (description, parameters) in _STREAMS.items():
        operation = {
            "description": description,
            "parameters": list(parameters),
            "responses": _SWITCHED | failures(()),
            "x-kubernetes-action": "connect",
        }
        label = f"{kind}{name.capitalize()}"
        found[f"{one}/{name}"] = {
            "get": {"operationId": f"connectGet{label}", **operation},
            "post": {"operationId": f"connectPost{label}", **operation},
            "parameters": where,
        }
    return found


def _log(kind: str) -> JSON:
    text = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "operationId": f"read{kind}Log",
        "description": "What it has printed.",
        "parameters": list(_LOG),
        "responses": {"200": response(200, text)} | failures(()),
        "x-kubernetes-action": "get",
    }


def _of_hosts(root: str) -> JSON:
    where = _where("name")
    look = {
        "operationId": "readHostInventory",
        "description": "Probe a host now: what it is, and what of ours is there.",
        "parameters": [],
        "responses": {"200": response(200, content(_FOUND, JSON_TYPE))} | failures(()),
    }
    reap = {
        "operationId": "reapHost",
        "description": "Remove something that no sandbox accounts for.",
        "parameters": [
            in_query("uid", "Label of what is to be removed."),
            in_query("extension", "Which extension made it."),
        ],
        "responses": {"200": response(200, content(_REMOVED, JSON_TYPE))} | failures((409,)),
    }
    return _of_adoption(root, where) | {
        f"{root}/hosts/{{name}}/inventory": {"get": look, "parameters": where},
        f"{root}/hosts/{{name}}/reap": {"post": reap, "parameters": where},
    }


def _of_adoption(root: str, where: Sequence[JSON]) -> JSON:
    trust = in_query("trust", "Take manifests that somebody else has signed.", "boolean")
    lost = {
        "operationId": "listLostOnHost",
        "description": "List what is on a host and no sandbox accounts for.",
        "parameters": [trust],
        "responses": {"200": response(200, content(_FOUND, JSON_TYPE))} | failures(()),
    }
    adopt = {
        "operationId": "adoptFromHost",
        "description": "Rebuild the object of a sandbox that was lost.",
        "parameters": [
            in_query("uid", "Label of what is to be adopted."),
            in_query("extension", "Which extension made it."),
            trust,
        ],
        "responses": {"200": response(200, content(_FOUND, JSON_TYPE))} | failures(()),
    }
    return {
        f"{root}/hosts/{{name}}/lost": {"get": lost, "parameters": where},
        f"{root}/hosts/{{name}}/adopt": {"post": adopt, "parameters": where},
    }


def _where(*names: str) -> list[JSON]:
    return [
        {"name": name, "in": "path", "required": True, "schema": IN_PATH[name]} for name in names
    ]
