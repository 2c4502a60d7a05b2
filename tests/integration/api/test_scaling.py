"""The `/scale` subresource over a real store."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from sandboxer.kinds.pool import SandboxPool
from sandboxer.store import Store

GROUP = "/apis/sandboxer.dev/v1alpha1"
POOL = f"{GROUP}/namespaces/default/sandboxpools/p"
MERGE = {"content-type": "application/merge-patch+json"}


@pytest.fixture(autouse=True)
async def pool(client: httpx.AsyncClient, store: Store) -> SandboxPool:
    """A pool of two."""
    body = {"metadata": {"name": "p"}, "spec": {"replicas": 2}}
    await client.post(f"{GROUP}/namespaces/default/sandboxpools?fieldManager=maker", json=body)
    created = store.get(SandboxPool, "p")
    assert created is not None
    status = created.status.model_copy(update={"replicas": 1, "selector": "a=b"})
    return await store.update_status(created.model_copy(update={"status": status}))


async def test_read(client: httpx.AsyncClient, pool: SandboxPool) -> None:
    """A Scale shows what is wanted, what there is, and how to find it."""
    scale = (await client.get(f"{POOL}/scale")).json()

    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 1, "selector": "a=b"})
    assert scale["metadata"]["uid"] == pool.metadata.uid
    assert scale["metadata"]["resourceVersion"] == pool.metadata.resource_version


async def test_replace_without_media_type(client: httpx.AsyncClient, store: Store) -> None:
    """A PUT without Content-Type, as kubectl sends it, scales."""
    scale = (await client.get(f"{POOL}/scale")).content.replace(b'"replicas":2', b'"replicas":5')
    request = client.build_request("PUT", f"{POOL}/scale", content=scale)
    assert "content-type" not in request.headers

    answer = await client.send(request)

    found = store.get(SandboxPool, "p")
    assert answer.status_code == 200
    assert answer.json()["spec"] == {"replicas": 5}
    assert found is not None
    assert (found.spec.replicas, found.metadata.generation) == (5, 2)
    assert found.status.replicas == 1


async def test_replace_at_another_version(client: httpx.AsyncClient) -> None:
    """A Scale that was read before a change is refused."""
    scale = (await client.get(f"{POOL}/scale")).json()
    await client.patch(f"{POOL}/scale", json={"spec": {"replicas": 3}}, headers=MERGE)

    answer = await client.put(f"{POOL}/scale", json=scale)

    assert (answer.status_code, answer.json()["reason"]) == (409, "Conflict")


@pytest.mark.parametrize(
    ("patch", "type_"),
    [
        pytest.param({"spec": {"replicas": 4}}, "merge-patch", id="merge"),
        pytest.param(
            [{"op": "replace", "path": "/spec/replicas", "value": 4}], "json-patch", id="json"
        ),
    ],
)
async def test_patch(client: httpx.AsyncClient, store: Store, patch: Any, type_: str) -> None:
    """A PATCH of a Scale scales, and notes who did it."""
    answer = await client.patch(
        f"{POOL}/scale?fieldManager=me",
        json=patch,
        headers={"content-type": f"application/{type_}+json"},
    )

    found = store.get(SandboxPool, "p")
    assert answer.json()["spec"] == {"replicas": 4}
    assert found is not None
    assert (found.spec.replicas, found.status.replicas) == (4, 1)
    assert [owner.manager for owner in found.metadata.managed_fields] == ["me"]


@pytest.mark.parametrize("replicas", [-1, 1001, "3", 1.5, True, None, {}])
async def test_what_is_no_number_of_replicas(
    client: httpx.AsyncClient, store: Store, replicas: Any
) -> None:
    """The kind judges the number, and nothing is written."""
    body = {"metadata": {"name": "p"}, "spec": {"replicas": replicas}}

    answer = await client.put(f"{POOL}/scale", json=body)

    found = store.get(SandboxPool, "p")
    assert answer.status_code == 422
    assert answer.json()["details"]["causes"][0]["field"] == "spec.replicas"
    assert found is not None
    assert found.spec.replicas == 2


async def test_dry_run(client: httpx.AsyncClient, store: Store) -> None:
    """A rehearsal shows the new number and keeps the old one."""
    answer = await client.patch(
        f"{POOL}/scale?dryRun=All", json={"spec": {"replicas": 9}}, headers=MERGE
    )

    found = store.get(SandboxPool, "p")
    assert answer.json()["spec"] == {"replicas": 9}
    assert found is not None
    assert found.spec.replicas == 2


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH"])
async def test_kinds_that_do_not_scale(client: httpx.AsyncClient, method: str) -> None:
    """A kind without replicas has no Scale."""
    path = f"{GROUP}/namespaces/default/sandboxes/a/scale"

    answer = await client.request(method, path, json={}, headers=MERGE)

    assert (answer.status_code, answer.json()["kind"]) == (404, "Status")


async def test_scale_of_nothing(client: httpx.AsyncClient) -> None:
    """An object that is not there has no Scale."""
    path = f"{GROUP}/namespaces/default/sandboxpools/none/scale"

    answers = [
        await client.get(path),
        await client.patch(path, json={"spec": {"replicas": 1}}, headers=MERGE),
    ]

    assert [answer.status_code for answer in answers] == [404, 404]
