"""Real orphans: sandboxes whose objects are taken out of the store while what they made stays."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from sandboxer.clock import SystemClock
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Store
from tests.e2e.installation import Installation
from tests.rig import Rig


def short_id(installation: Installation, name: str) -> str:
    """Return the name of what a sandbox is made of."""
    uid = str(installation.sandboxes()[name]["metadata"]["uid"])
    return f"sbx-{uid.replace('-', '')[:12]}"


def orphan(installation: Installation, *names: str) -> None:
    """Remove sandboxes from the store with their finalizers, as a person can by mistake."""

    async def remove() -> None:
        path = installation.directory / "data/store.db"
        store = await Store.open(path, clock=SystemClock())
        for name in names:
            sandbox = await store.delete(Sandbox, name, "default")
            assert sandbox is not None, "it has a finalizer"
            metadata = sandbox.metadata.model_copy(update={"finalizers": ()})
            await store.update(sandbox.model_copy(update={"metadata": metadata}))
        await store.close()

    asyncio.run(remove())


def stale(installation: Installation) -> dict[str, dict[str, Any]]:
    """Return what `inspect stale` lists, by name of the sandbox."""
    listed = json.loads(installation.ok("inspect", "stale", "-o", "json"))
    return {each["name"]: each for each in listed}


def compose_sandbox(rig: Rig, name: str, host: str) -> str:
    """Return the document of a sandbox with one container, one volume and one network."""
    service = {"image": rig.image, "command": "sleep 100000", "volumes": ["d:/d"]}
    compose = {"services": {"main": service}, "volumes": {"d": {}}}
    spec = {
        "profile": "profile.compose-e2e",
        "placement": {"host": host},
        "inputs": {"compose": json.dumps(compose)},
    }
    head = {"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Sandbox"}
    return json.dumps({**head, "metadata": {"name": name}, "spec": spec})


def containers(rig: Rig, host: str) -> set[str]:
    """Return the ids of all containers on a host of the rig."""
    return set(rig.ssh(host, "podman ps -aq --no-trunc").stdout.split())


def workspaces(root: Path) -> set[str]:
    """Return the names of what lies in a work root."""
    return {path.name for path in root.iterdir() if not path.name.startswith(".")}
