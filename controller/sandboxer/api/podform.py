"""
One Pod as a document: its name, and the sandbox's status in Kubernetes' words.

What nobody knows is left out (restarts, the Pod's address) instead of being invented; readiness is
the container's own state and health check.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sandboxer.kinds.meta import API_VERSION, GROUP, Key
from sandboxer.store import Entry

KIND = "Pod"
ONLY_CONTAINER = "main"
"""Name of the container of a sandbox that has no services."""
LABEL_SANDBOX = f"{GROUP}/sandbox"

# Characters of a Pod's name, a DNS subdomain.
NAME_MAX = 253
# `sbx-<12 hex digits>_main_1` (podman-compose) or with hyphens (docker compose).
_CONTAINER_NAME = re.compile(r"sbx-[0-9a-f]{12}[-_](?P<service>.+)[-_](?P<index>\d+)")
_ENDED = frozenset({"exited", "stopped", "dead", "ended"})
_STATUS = re.compile(r"status (\d+)")
# Resources that a sandbox with containers has besides them; where there are such and no container,
# the containers are missing.
_OF_CONTAINERS = frozenset({"container", "network", "volume"})

GONE = {"state": "removed"}
"""What is seen of a part that is not there any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one Pod stands for."""

    name: str
    """Of the Pod."""
    service: str
    """Compose service; empty for a sandbox without."""
    seen: Mapping[str, str]
    """The resource in the sandbox's status; empty for one that is gone."""


def parts_of(sandbox: Mapping[str, Any]) -> list[Part]:
    """Return the Pods of a Sandbox's document, in a stable order."""
    name, status = sandbox["metadata"]["name"], sandbox.get("status", {})
    resources = status.get("resources", [])
    containers = [seen for seen in resources if seen["kind"] == "container"]
    if containers:
        return _of_services(name, containers)
    if any(seen["kind"] in _OF_CONTAINERS for seen in resources) or not resources:
        return []
    process: Mapping[str, str] = next((seen for seen in resources if seen["kind"] == "process"), {})
    return [Part(name=name, service="", seen=process)]


def _of_services(sandbox: str, containers: Iterable[Mapping[str, str]]) -> list[Part]:
    parts: dict[str, Part] = {}
    for seen in containers:
        found = _CONTAINER_NAME.fullmatch(seen["name"])
        service, index = (found["service"], found["index"]) if found else (seen["name"], "1")
        name = _pod_name(sandbox, service if index == "1" else f"{service}-{index}")
        if name in parts:
            name = _pod_name(sandbox, f"{service}-{_digest(seen['name'])}")
        parts[name] = Part(name=name, service=service, seen=seen)
    return list(parts.values())


def container_name(service: str) -> str:
    """Return the name of a Pod's only container."""
    return _in_dns_letters(service).strip("-") or ONLY_CONTAINER


def _pod_name(sandbox: str, service: str) -> str:
    """Return a name Kubernetes allows; services may have capitals, dots and underscores."""
    name = f"{sandbox}-{_in_dns_letters(service)}".rstrip("-")
    # NOTE: it must go on beginning with the sandbox's name, by which it is found again.
    return name if len(name) <= NAME_MAX else f"{sandbox}-{_digest(service)}"


def _in_dns_letters(text: str) -> str:
    return re.sub("[^a-z0-9-]", "-", text.lower())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def pod_entry(
    sandbox: Entry, document: Mapping[str, Any], part: Part, *, host_ip: str = ""
) -> Entry:
    """Return one Pod of a sandbox as if it were stored."""
    pod = _pod(document, part, host_ip)
    metadata = pod["metadata"]
    return Entry(
        key=Key(KIND, sandbox.key.namespace, part.name),
        uid=metadata["uid"],
        revision=sandbox.revision,
        generation=sandbox.generation,
        labels=metadata["labels"],
        deleting=sandbox.deleting,
        body=json.dumps(pod, separators=(",", ":")).encode(),
    )


def _pod(sandbox: Mapping[str, Any], part: Part, host_ip: str) -> dict[str, Any]:
    metadata, status = sandbox["metadata"], sandbox.get("status", {})
    container = container_name(part.service)
    image = sandbox["spec"].get("inputs", {}).get("image") or status.get("extension", "")
    own = {
        "name": part.name,
        "namespace": metadata["namespace"],
        "uid": str(uuid.uuid5(uuid.UUID(metadata["uid"]), part.name)),
        "resourceVersion": metadata["resourceVersion"],
        "creationTimestamp": metadata["creationTimestamp"],
        "labels": {**metadata.get("labels", {}), LABEL_SANDBOX: metadata["name"]},
        "ownerReferences": [_owner(metadata)],
    }
    if deleted := metadata.get("deletionTimestamp"):
        own["deletionTimestamp"] = deleted
    return {
        "kind": KIND,
        "apiVersion": "v1",
        "metadata": own,
        "spec": {
            "containers": [{"name": container, "image": image}],
            "nodeName": status.get("host", ""),
        },
        "status": _pod_status(status, part, container, image, host_ip),
    }


def _owner(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "Sandbox",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _pod_status(
    status: Mapping[str, Any], part: Part, container: str, image: str, host_ip: str
) -> dict[str, Any]:
    phase, state = _phase_and_state(status, part.seen)
    # A container without a check has an empty health; a process space has none at all.
    ready = phase == "Running" and part.seen.get("health", "") in ("", "healthy")
    found = {
        "phase": phase,
        "conditions": [
            {"type": kind, "status": str(ready)} for kind in ("Ready", "ContainersReady")
        ],
        "containerStatuses": [
            {
                "name": container,
                "image": image,
                "imageID": "",
                "ready": ready,
                "restartCount": 0,
                "state": state,
            }
        ],
        "hostIP": host_ip,
        "startTime": status.get("provisionedAt"),
    }
    return {name: value for name, value in found.items() if value}


def _phase_and_state(
    status: Mapping[str, Any], seen: Mapping[str, str]
) -> tuple[str, dict[str, Any]]:
    """Return the Pod's phase and its container's state from the backend's words."""
    if _condition(status, "HostReachable") == "False":
        return "Unknown", {"waiting": {"reason": "HostUnreachable"}}
    word = seen.get("state", "")
    if word in _ENDED:
        found = _STATUS.search(seen.get("detail", ""))
        code = int(found[1]) if found else 0
        reason = "Error" if code else "Completed"
        phase = "Failed" if code else "Succeeded"
        return phase, {"terminated": {"exitCode": code, "reason": reason}}
    if word == "running" or (not word and _condition(status, "Ready") == "True"):
        return "Running", {"running": {"startedAt": status.get("provisionedAt")}}
    return "Pending", {"waiting": {"reason": word.capitalize() or "Pending"}}


def _condition(status: Mapping[str, Any], type_: str) -> str:
    found = (c["status"] for c in status.get("conditions", []) if c["type"] == type_)
    return next(found, "")


def address_of(host: Mapping[str, Any]) -> str:
    """Return a host's address where it is one; Kubernetes has no place for a name."""
    try:
        return str(ipaddress.ip_address(host["spec"].get("address", "")))
    except ValueError:
        return ""
