"""DELETE of objects and collections over a real store."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from sandboxer.kinds.meta import FINALIZER
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Store
from sandboxer.testing import builders

GROUP = "/apis/sandboxer.dev/v1alpha1"
SANDBOXES = f"{GROUP}/namespaces/default/sandboxes"


async def stored(store: Store, name: str = "a", **metadata: Any) -> Sandbox:
    plain = builders.sandbox(name)
    update = {"metadata": plain.metadata.model_copy(update=metadata)}
    return await store.create(plain.model_copy(update=update))


async def delete(
    client: httpx.AsyncClient, path: str = f"{SANDBOXES}/a", **body: Any
) -> httpx.Response:
    return await client.request("DELETE", path, json=body)


async def test_gone(client: httpx.AsyncClient, store: Store) -> None:
    """What nothing holds is gone at once, and the answer says which it was."""
    obj = await stored(store)

    answer = await delete(client, propagationPolicy="Background")

    assert answer.status_code == 200
    assert (answer.json()["kind"], answer.json()["status"]) == ("Status", "Success")
    assert answer.json()["details"] == {
        "name": "a",
        "group": "sandboxer.dev",
        "kind": "sandboxes",
        "uid": obj.metadata.uid,
    }
    assert store.get(Sandbox, "a") is None


async def test_held(client: httpx.AsyncClient, store: Store) -> None:
    """What a finalizer holds is answered as it is now, being deleted."""
    await stored(store, finalizers=(FINALIZER,))

    answer = await delete(client)
    again = await delete(client)

    assert (answer.status_code, answer.json()["kind"]) == (200, "Sandbox")
    assert answer.json()["metadata"]["deletionTimestamp"]
    assert answer.json()["metadata"]["generation"] == 2
    assert again.json() == answer.json()


async def test_absent(client: httpx.AsyncClient) -> None:
    """What is not there cannot be deleted."""
    answer = await delete(client)

    assert (answer.status_code, answer.json()["reason"]) == (404, "NotFound")
    assert answer.json()["message"] == 'sandboxes.sandboxer.dev "a" not found'


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param(f"{SANDBOXES}/a", {"dryRun": ["All"]}, id="body"),
        pytest.param(f"{SANDBOXES}/a?dryRun=All", {}, id="query"),
        pytest.param(f"{SANDBOXES}/a?dryRun=All", {"propagationPolicy": "Orphan"}, id="both"),
        pytest.param(SANDBOXES, {"dryRun": ["All"]}, id="collection"),
    ],
)
async def test_dry_run(
    client: httpx.AsyncClient, store: Store, path: str, body: dict[str, Any]
) -> None:
    """A rehearsal deletes nothing, wherever it is asked for."""
    obj = await stored(store)

    answer = await delete(client, path, **body)

    assert answer.status_code == 200
    assert store.get(Sandbox, "a") == obj


async def test_unknown_dry_run(client: httpx.AsyncClient, store: Store) -> None:
    """A rehearsal nobody knows is refused and not taken for the real thing."""
    await stored(store)

    answers = [
        await delete(client, dryRun=["Some"]),
        await delete(client, dryRun="All"),
        await delete(client, f"{SANDBOXES}/a?dryRun=true"),
    ]

    assert [answer.status_code for answer in answers] == [400, 400, 400]
    assert store.get(Sandbox, "a") is not None


@pytest.mark.parametrize(
    ("policy", "finalizers"),
    [
        pytest.param({"propagationPolicy": "Foreground"}, ["foregroundDeletion"], id="foreground"),
        pytest.param({"propagationPolicy": "Orphan"}, ["orphan"], id="orphan"),
        pytest.param({"orphanDependents": True}, ["orphan"], id="old-form"),
    ],
)
async def test_propagation(
    client: httpx.AsyncClient, store: Store, policy: dict[str, Any], finalizers: list[str]
) -> None:
    """What is to happen to dependents is a finalizer that comes with the deletion, in one write."""
    before = await stored(store)

    answer = await delete(client, **policy)

    metadata = answer.json()["metadata"]
    assert (metadata["finalizers"], bool(metadata["deletionTimestamp"])) == (finalizers, True)
    assert store.revision == int(before.metadata.resource_version) + 1


async def test_query_without_body(client: httpx.AsyncClient, store: Store) -> None:
    """Without a body the query says how; with one it does not."""
    await stored(store)
    await stored(store, "b")

    query = await client.delete(f"{SANDBOXES}/a?propagationPolicy=Orphan")
    body = await delete(client, f"{SANDBOXES}/b?propagationPolicy=Orphan", kind="DeleteOptions")

    assert query.json()["metadata"]["finalizers"] == ["orphan"]
    assert body.json()["status"] == "Success"


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        pytest.param({"propagationPolicy": "Now"}, 422, 'Unsupported value: "Now"', id="policy"),
        pytest.param(
            {"propagationPolicy": "Orphan", "orphanDependents": False},
            422,
            "cannot be both",
            id="two",
        ),
        pytest.param({"preconditions": []}, 400, "preconditions", id="preconditions"),
        pytest.param({"preconditions": {"uid": 1}}, 400, "preconditions.uid", id="uid-type"),
        pytest.param({"preconditions": {"uid": "x"}}, 409, "UID in precondition: x", id="uid"),
        pytest.param(
            {"preconditions": {"resourceVersion": "9"}},
            409,
            "ResourceVersion in precondition: 9, ResourceVersion in object meta: 1",
            id="version",
        ),
    ],
)
async def test_refused(
    client: httpx.AsyncClient, store: Store, body: dict[str, Any], code: int, words: str
) -> None:
    """Options that are wrong, and conditions that do not hold, delete nothing."""
    await stored(store)

    answer = await delete(client, **body)

    assert answer.status_code == code
    assert words in answer.json()["message"]
    assert store.get(Sandbox, "a") is not None


async def test_preconditions_hold(client: httpx.AsyncClient, store: Store) -> None:
    """The object that was meant is deleted."""
    metadata = (await stored(store)).metadata
    conditions = {"uid": metadata.uid, "resourceVersion": metadata.resource_version}

    answer = await delete(client, preconditions=conditions)

    assert answer.json()["status"] == "Success"


async def test_collection(client: httpx.AsyncClient, store: Store) -> None:
    """What the selectors pick is deleted, and nothing else; the answer lists it."""
    await stored(store, "a", labels={"app": "web"})
    await stored(store, "b", labels={"app": "web"}, finalizers=(FINALIZER,))
    await stored(store, "c", labels={"app": "db"})
    await stored(store, "d", labels={"app": "web"}, namespace="other")

    answer = await delete(client, f"{SANDBOXES}?labelSelector=app=web")

    listed = answer.json()
    assert listed["kind"] == "SandboxList"
    assert [item["metadata"]["name"] for item in listed["items"]] == ["a", "b"]
    assert "deletionTimestamp" in listed["items"][1]["metadata"]
    assert {e.key.name: e.deleting for e in store.entries("Sandbox")} == {
        "b": True,
        "c": False,
        "d": False,
    }


async def test_unreadable_selector(client: httpx.AsyncClient, store: Store) -> None:
    """A selector that cannot be read to its end picks nothing, let alone everything."""
    await stored(store)

    answer = await delete(client, f"{SANDBOXES}?fieldSelector=metadata.name%3Dx%5C")

    assert answer.status_code == 400
    assert [entry.key.name for entry in store.entries("Sandbox")] == ["a"]


async def test_all_namespaces(client: httpx.AsyncClient, store: Store) -> None:
    """A collection is that of one namespace; cluster-scoped kinds have but one."""
    await stored(store)
    await store.create(builders.host("h1"))

    refused = await delete(client, f"{GROUP}/sandboxes")
    hosts = await delete(client, f"{GROUP}/hosts")

    assert (refused.status_code, hosts.status_code) == (405, 200)
    assert [e.key.name for kind in ("Sandbox", "Host") for e in store.entries(kind)] == ["a"]


async def test_large_collection(client: httpx.AsyncClient, store: Store) -> None:
    """A collection of more than one batch goes too, with a field selector for one that stays."""
    await asyncio.gather(*(stored(store, f"a{number}") for number in range(600)))

    answer = await delete(client, f"{SANDBOXES}?fieldSelector=metadata.name!=a7")

    assert len(answer.json()["items"]) == 599
    assert [entry.key.name for entry in store.entries("Sandbox")] == ["a7"]
