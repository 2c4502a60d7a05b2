"""The read API over a real store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandboxer.api.app import create_app
from sandboxer.clock import SystemClock
from sandboxer.kinds.host import Host, HostSpec
from sandboxer.kinds.meta import ObjectMeta
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import EventRecorder, Store

GROUP = "/apis/sandboxer.dev/v1alpha1"
SANDBOXES = f"{GROUP}/namespaces/default/sandboxes"


def sandbox(name: str, **labels: str) -> Sandbox:
    return Sandbox(metadata=ObjectMeta(name=name, namespace="default", labels=labels))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "store.db", clock=SystemClock())
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def client(store: Store) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=create_app(store))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as opened:
        yield opened


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
async def test_health_is_plain_ok(client: httpx.AsyncClient, path: str) -> None:
    """Probes get a plain ok."""
    answer = await client.get(path)

    assert (answer.status_code, answer.text) == (200, "ok")


async def test_without_a_store_it_is_alive_and_not_ready() -> None:
    """As long as the store is not open, readiness says so and reads get a 503 Status."""
    transport = httpx.ASGITransport(app=create_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).json()["reason"] == "ServiceUnavailable"
        assert (await client.get(SANDBOXES)).status_code == 503


async def test_discovery_names_every_kind(client: httpx.AsyncClient) -> None:
    """Legacy discovery leads from the groups to the resources with their short names."""
    groups = (await client.get("/apis")).json()
    resources = (await client.get(GROUP)).json()["resources"]
    core = (await client.get("/api/v1")).json()["resources"]

    assert [group["name"] for group in groups["groups"]] == ["sandboxer.dev"]
    by_name = {resource["name"]: resource for resource in resources}
    assert set(by_name) == {"sandboxes", "hosts", "profiles", "extensions"}
    assert by_name["sandboxes"]["shortNames"] == ["sbx"]
    assert by_name["hosts"]["namespaced"] is False
    assert [resource["name"] for resource in core] == ["events"]


async def test_get_and_list(client: httpx.AsyncClient, store: Store) -> None:
    """Objects and lists come as stored, sorted, with the revision to watch from."""
    await store.create(sandbox("b"))
    created = await store.create(sandbox("a"))

    one = (await client.get(f"{SANDBOXES}/a")).json()
    several = (await client.get(f"{GROUP}/sandboxes")).json()

    assert one["metadata"]["uid"] == created.metadata.uid
    assert several["kind"] == "SandboxList"
    assert [item["metadata"]["name"] for item in several["items"]] == ["a", "b"]
    assert several["metadata"]["resourceVersion"] == str(store.revision)


async def test_selectors(client: httpx.AsyncClient, store: Store) -> None:
    """Label and field selectors narrow a list; what is not supported is a 400."""
    await store.create(sandbox("a", app="web"))
    await store.create(sandbox("b", app="api"))

    async def names(**query: str) -> list[str]:
        items = (await client.get(SANDBOXES, params=query)).json()["items"]
        return [item["metadata"]["name"] for item in items]

    assert await names(labelSelector="app in (web)") == ["a"]
    assert await names(fieldSelector="metadata.name=b") == ["b"]
    assert await names(fieldSelector="metadata.name!=b") == ["a"]
    assert (await client.get(SANDBOXES, params={"fieldSelector": "spec.x=1"})).status_code == 400
    assert (await client.get(SANDBOXES, params={"labelSelector": "a b"})).status_code == 400


async def test_cluster_scoped_kinds_have_no_namespace(
    client: httpx.AsyncClient, store: Store
) -> None:
    """Hosts are found without a namespace and nowhere else."""
    await store.create(Host(metadata=ObjectMeta(name="h1"), spec=HostSpec(address="h1.example")))

    assert (await client.get(f"{GROUP}/hosts/h1")).status_code == 200
    assert (await client.get(f"{GROUP}/namespaces/default/hosts")).status_code == 404


async def test_events_are_core_objects(client: httpx.AsyncClient, store: Store) -> None:
    """Events are found where kubectl describe looks for them."""
    created = await store.create(sandbox("a"))
    await EventRecorder(store, SystemClock()).record(created, "Tested", "It was tested.")

    query = {"fieldSelector": f"involvedObject.name=a,involvedObject.uid={created.metadata.uid}"}
    found = (await client.get("/api/v1/namespaces/default/events", params=query)).json()["items"]

    assert [event["reason"] for event in found] == ["Tested"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (f"{SANDBOXES}/nope", 'sandboxes.sandboxer.dev "nope" not found'),
        (f"{GROUP}/nopes", "the server could not find the requested resource"),
        (f"{GROUP}/sandboxes/a", "the server could not find the requested resource"),
        ("/nothing/here", "the server could not find the requested resource"),
    ],
)
async def test_absent_things_are_a_status(
    client: httpx.AsyncClient, path: str, message: str
) -> None:
    """What does not exist is a 404 Status with kubectl's words."""
    answer = await client.get(path)

    assert answer.status_code == 404
    assert answer.json() | {"details": {}} == {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "NotFound", "details": {}, "code": 404,
    }  # fmt: skip


@pytest.mark.parametrize("verb", ["POST", "PUT", "PATCH", "DELETE"])
async def test_writing_is_refused_clearly(client: httpx.AsyncClient, verb: str) -> None:
    """Every writing verb is a 405 Status that says where to write instead."""
    answer = await client.request(verb, f"{SANDBOXES}/a")

    assert answer.status_code == 405
    assert answer.json()["reason"] == "MethodNotAllowed"
    assert "sandboxer command" in answer.json()["message"]


async def watched(app: Any, query: str, lines: int) -> list[dict[str, Any]]:
    """Read that many lines of a watch by plain ASGI; httpx's transport waits for the whole body."""
    received: list[bytes] = []
    enough = asyncio.Event()

    async def send(message: dict[str, Any]) -> None:
        received.extend(message.get("body", b"").splitlines())
        if len(received) >= lines:
            enough.set()

    async def receive() -> dict[str, Any]:
        await enough.wait()
        return {"type": "http.disconnect"}

    scope = {
        "type": "http", "method": "GET", "path": SANDBOXES, "raw_path": SANDBOXES.encode(),
        "query_string": query.encode(), "headers": [], "app": app, "http_version": "1.1",
    }  # fmt: skip
    async with asyncio.timeout(10):
        await app(scope, receive, send)
    return [json.loads(line) for line in received[:lines]]


async def test_watch_shows_what_is_there_and_then_every_change(store: Store) -> None:
    """A watch from nothing begins with ADDED for what exists and goes on with changes in order."""
    created = await store.create(sandbox("a"))

    async def change() -> None:
        await store.create(sandbox("b"))
        await store.delete(Sandbox, "a", "default", uid=created.metadata.uid)

    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(watched(create_app(store), "watch=true", 3))
        tasks.create_task(change())

    seen = [(line["type"], line["object"]["metadata"]["name"]) for line in reading.result()]
    assert seen == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]


async def test_watch_goes_on_from_a_revision(store: Store) -> None:
    """A watch from a revision misses nothing after it and repeats nothing before it."""
    await store.create(sandbox("a"))
    since = store.revision
    await store.create(sandbox("b"))

    (line,) = await watched(create_app(store), f"watch=1&resourceVersion={since}", 1)

    assert (line["type"], line["object"]["metadata"]["name"]) == ("ADDED", "b")


async def test_watch_from_a_compacted_revision_is_expired(store: Store) -> None:
    """A revision that was compacted away is answered with 410, so that the client lists again."""
    for name in ("a", "b", "c", "d"):
        await store.create(sandbox(name))
    await store.compact(keep=1)

    (line,) = await watched(create_app(store), "watch=1&resourceVersion=1", 1)

    assert line["type"] == "ERROR"
    assert (line["object"]["code"], line["object"]["reason"]) == (410, "Expired")


async def test_watch_ends_after_the_time_asked_for(client: httpx.AsyncClient) -> None:
    """TimeoutSeconds bounds a watch."""
    answer = await client.get(SANDBOXES, params={"watch": "1", "timeoutSeconds": "1"})

    assert (answer.status_code, answer.text) == (200, "")


@pytest.mark.parametrize("query", ["resourceVersion=x", "resourceVersion=99999999999999999999"])
async def test_unreadable_revision_is_a_bad_request(client: httpx.AsyncClient, query: str) -> None:
    """A revision that is no number is a 400."""
    assert (await client.get(f"{SANDBOXES}?{query}")).status_code == 400


async def test_revision_of_the_future_asks_to_come_back(client: httpx.AsyncClient) -> None:
    """A revision newer than the store is a 504 with the cause clients look for."""
    answer = await client.get(SANDBOXES, params={"resourceVersion": "1000"})

    assert answer.status_code == 504
    assert answer.json()["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
