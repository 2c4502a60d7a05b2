"""Pods made up from sandboxes, asked through HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from sandboxer.api import pods
from sandboxer.api.pods import Pods
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Store

PODS = "/api/v1/namespaces/default/pods"
READY = {
    "type": "Ready",
    "status": "True",
    "reason": "Running",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}


def container(service: str, state: str = "running", **fields: str) -> dict[str, str]:
    """Return a container as podman-compose names it."""
    return {"kind": "container", "name": f"sbx-0123456789ab_{service}_1", "state": state, **fields}


PROCESS = {"kind": "process", "name": "pid 7", "state": "running"}
WORKSPACE = {"kind": "workspace", "name": "sbx-0123456789ab", "state": "present"}


async def sandbox(store: Store, name: str, *resources: dict[str, str], **status: Any) -> Sandbox:
    """Store a sandbox that was seen with these resources, or see it anew."""
    found = store.get(Sandbox, name, "default")
    if found is None:
        document = {
            "apiVersion": "sandboxer.dev/v1alpha1",
            "kind": "Sandbox",
            "metadata": {"name": name, "namespace": "default", "labels": {"team": "red"}},
            "spec": {"inputs": {"image": "localhost/app:1"}},
        }
        found = await store.create(Sandbox.parse(document))
    seen = {"resources": list(resources), "host": "h1", "conditions": [READY]} | status
    document = found.to_document() | {"status": seen}
    return await store.update_status(Sandbox.parse(document))


async def names(client: httpx.AsyncClient) -> list[str]:
    """Return the names of all Pods."""
    items = (await client.get(PODS)).json()["items"]
    return sorted(item["metadata"]["name"] for item in items)


async def rows(client: httpx.AsyncClient) -> dict[str, list[Any]]:
    """Return what `kubectl get pods` prints, without age, by name."""
    table = (await client.get(PODS, headers=TABLE)).json()
    assert [each["name"] for each in table["columnDefinitions"][:4]] == [
        "Name", "Ready", "Status", "Restarts",
    ]  # fmt: skip
    return {row["cells"][0]: row["cells"][1:4] for row in table["rows"]}


async def test_each_container_is_a_pod(store: Store, client: httpx.AsyncClient) -> None:
    """A compose sandbox has one per service, another sandbox one, a new one none."""
    await sandbox(store, "shop", container("web"), container("db"), WORKSPACE)
    await sandbox(store, "solo", PROCESS, WORKSPACE)
    await sandbox(store, "fresh")

    assert await names(client) == ["shop-db", "shop-web", "solo"]


async def test_who_went_long_ago_is_forgotten(
    store: Store, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What clients were told of Pods is kept for so many sandboxes only, the newest."""
    monkeypatch.setattr(pods, "MAX_TOLD", 2)
    made = [await sandbox(store, name, PROCESS) for name in "abc"]

    assert await names(client) == ["a", "b", "c"]

    assert [bool(Pods(store).told(each.metadata.uid)) for each in made] == [False, True, True]


async def test_pod_says_whose_it_is(store: Store, client: httpx.AsyncClient) -> None:
    """Labels, owner, node and version are the sandbox's; the uid is its own and stays."""
    made = await sandbox(store, "shop", container("web"))
    pod = (await client.get(f"{PODS}/shop-web")).json()
    await sandbox(store, "shop", container("web", "exited", detail="ended with status 3"))
    later = (await client.get(f"{PODS}/shop-web")).json()

    metadata = pod["metadata"]
    assert metadata["labels"] == {"team": "red", "sandboxer.dev/sandbox": "shop"}
    assert metadata["resourceVersion"] == made.metadata.resource_version
    [owner] = metadata["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Sandbox", made.metadata.uid)
    assert pod["spec"] == {
        "containers": [{"name": "web", "image": "localhost/app:1"}],
        "nodeName": "h1",
    }
    assert metadata["uid"] == later["metadata"]["uid"] != made.metadata.uid


async def test_address_of_its_host(store: Store, client: httpx.AsyncClient) -> None:
    """A host that is known by an address shows it; one known by name does not."""
    for name, address in (("h1", "10.0.0.7"), ("h2", "build.example")):
        await store.create(
            Host.parse(
                {
                    "apiVersion": "sandboxer.dev/v1alpha1",
                    "kind": "Host",
                    "metadata": {"name": name},
                    "spec": {"transport": "ssh", "address": address, "user": "u"},
                }
            )
        )
    await sandbox(store, "one", PROCESS)
    await sandbox(store, "two", PROCESS, host="h2")

    found = [(await client.get(f"{PODS}/{name}")).json()["status"] for name in ("one", "two")]

    assert found[0]["hostIP"] == "10.0.0.7"
    assert "hostIP" not in found[1]


async def test_states_in_kubernetes_words(store: Store, client: httpx.AsyncClient) -> None:
    """What the backend says becomes phase, readiness and reason."""
    await sandbox(
        store,
        "shop",
        container("fine", health="healthy"),
        container("sick", health="unhealthy"),
        container("done", "exited", detail="service done ended with status 0"),
        container("fail", "exited", detail="service fail ended with status 3"),
        container("new", "created"),
    )
    lost = {**READY, "type": "HostReachable", "status": "False", "reason": "HostUnreachable"}
    await sandbox(store, "lost", PROCESS, conditions=[lost])

    assert await rows(client) == {
        "shop-fine": ["1/1", "Running", 0],
        "shop-sick": ["0/1", "Running", 0],
        "shop-done": ["0/1", "Completed", 0],
        "shop-fail": ["0/1", "Error", 0],
        "shop-new": ["0/1", "Created", 0],
        "lost": ["0/1", "HostUnreachable", 0],
    }
    failed = (await client.get(f"{PODS}/shop-fail")).json()["status"]
    [status] = failed["containerStatuses"]
    assert (failed["phase"], status["state"]["terminated"]["exitCode"]) == ("Failed", 3)


async def test_names_kubernetes_allows(store: Store, client: httpx.AsyncClient) -> None:
    """Capitals and underscores are replaced, and what becomes equal stays apart."""
    await sandbox(store, "shop", container("My_Web"), container("my-web"))
    await sandbox(store, "l" * 60, container("w" * 300))

    found = await names(client)

    assert "shop-my-web" in found
    assert len(set(found)) == 3
    assert all(len(name) <= 253 for name in found)
    for name in found:
        assert (await client.get(f"{PODS}/{name}")).status_code == 200, name


@pytest.mark.parametrize(
    ("service", "rival", "resource", "name"),
    [("b-c", "a-b", container("c"), "a-b-c"), ("b", "a-b", PROCESS, "a-b")],
    ids=["two containers", "container and process"],
)
async def test_one_name_is_one_pod(
    store: Store,
    client: httpx.AsyncClient,
    service: str,
    rival: str,
    resource: dict[str, str],
    name: str,
) -> None:
    """Of two sandboxes that claim a name, the one with the longest name has it."""
    await sandbox(store, "a", container(service))
    longer = await sandbox(store, rival, resource)

    pod = (await client.get(f"{PODS}/{name}")).json()

    assert await names(client) == [name]
    assert pod["metadata"]["ownerReferences"][0]["uid"] == longer.metadata.uid


async def test_selectors(store: Store, client: httpx.AsyncClient) -> None:
    """Labels of the sandbox and fields of the Pod select."""
    await sandbox(store, "shop", container("web"), container("db", "exited"))
    await sandbox(store, "solo", PROCESS)

    async def chosen(**query: str) -> list[str]:
        items = (await client.get(PODS, params=query)).json()["items"]
        return sorted(item["metadata"]["name"] for item in items)

    assert await chosen(labelSelector="sandboxer.dev/sandbox=shop") == ["shop-db", "shop-web"]
    assert await chosen(fieldSelector="status.phase=Running") == ["shop-web", "solo"]
    assert await chosen(fieldSelector="metadata.name=solo") == ["solo"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", PODS), ("PUT", f"{PODS}/solo"), ("PATCH", f"{PODS}/solo"), ("DELETE", f"{PODS}/solo"),
     ("DELETE", PODS)],
)  # fmt: skip
async def test_pods_cannot_be_written(
    store: Store, client: httpx.AsyncClient, method: str, path: str
) -> None:
    """Whoever writes is told what to change instead."""
    await sandbox(store, "solo", PROCESS)

    answer = await client.request(method, path, json={"kind": "Pod", "apiVersion": "v1"})

    assert answer.status_code == 405
    assert answer.json()["message"] == "Pods are read-only here; change the Sandbox."


async def test_changes_of_a_sandbox_are_changes_of_its_pods(store: Store) -> None:
    """A watch says what came, what changed and what has gone, and nothing twice."""
    pods = Pods(store)
    await sandbox(store, "shop", container("web"), container("old"))
    list(pods.entries())
    follow = Pods(store).follower()
    told: list[tuple[str, str, str]] = []
    unsubscribe = store.subscribe(
        lambda change: told.extend(
            (each.type, each.entry.key.name, json.loads(each.entry.body)["status"]["phase"])
            for each in follow(change)
        )
    )

    await sandbox(store, "shop", container("web"), container("new"))
    await sandbox(store, "shop", container("web"), container("new"), placementReason="Because.")
    await sandbox(store, "shop", container("web", "exited"), container("new"))
    await store.delete(Sandbox, "shop", "default")
    await asyncio.sleep(0)
    unsubscribe()

    assert sorted(told[:3]) == [
        ("ADDED", "shop-new", "Running"),
        ("DELETED", "shop-old", "Pending"),
        ("MODIFIED", "shop-web", "Running"),
    ]
    assert told[3:4] == [("MODIFIED", "shop-web", "Succeeded")]
    assert sorted(each[:2] for each in told[4:]) == [
        ("DELETED", "shop-new"),
        ("DELETED", "shop-web"),
    ]
