"""GET and LIST over a real store: selection, pages, versions, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandboxer.api import paging
from sandboxer.api.app import _guarded, app, create_app
from sandboxer.kinds.host import Host, HostSpec
from sandboxer.kinds.meta import ObjectMeta
from sandboxer.kinds.namespace import Namespace
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.kinds.secret import Secret
from sandboxer.store import EventRecorder, Store
from sandboxer.testing.clock import ManualClock

GROUP = "/apis/sandboxer.dev/v1alpha1"
SANDBOXES = f"{GROUP}/namespaces/default/sandboxes"


def sandbox(name: str, namespace: str = "default", **labels: str) -> Sandbox:
    return Sandbox(metadata=ObjectMeta(name=name, namespace=namespace, labels=labels))


async def fill(store: Store, count: int) -> list[str]:
    names = [f"s{number}" for number in range(count)]
    for name in names:
        await store.create(sandbox(name))
    return names


def names_of(document: Any) -> list[str]:
    return [item["metadata"]["name"] for item in document["items"]]


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
async def test_health_is_plain_ok(client: httpx.AsyncClient, path: str) -> None:
    """Probes get a plain ok, and each check by its name when they ask for it."""
    answer = await client.get(path)
    verbose = await client.get(path, params={"verbose": ""})

    assert (answer.status_code, answer.text) == (200, "ok")
    assert verbose.text.splitlines()[0] == "[+]ping ok"
    assert verbose.text.splitlines()[-1] == f"{path[1:]} check passed"


async def test_without_a_store_it_is_alive_and_not_ready() -> None:
    """As long as the store is not open, readiness says so and reads get a 503 Status."""
    transport = httpx.ASGITransport(app=create_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        assert (await client.get("/livez")).status_code == 200
        ready = await client.get("/readyz")
        assert (ready.status_code, "[-]store failed" in ready.text) == (503, True)
        assert (await client.get(SANDBOXES)).json()["reason"] == "ServiceUnavailable"


async def test_the_application_for_other_servers_asks_for_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `uvicorn sandboxer.api.app:app` serves lets nobody in who shows none."""
    monkeypatch.setenv("SANDBOXER_DATA_DIR", str(tmp_path))
    _guarded.cache_clear()
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        answers = [await client.get(SANDBOXES), await client.post(SANDBOXES, json={})]
        alive = await client.get("/livez")
    _guarded.cache_clear()

    assert [answer.status_code for answer in answers] == [401, 401]
    assert alive.status_code == 200


async def test_objects_and_lists_are_as_stored(client: httpx.AsyncClient, store: Store) -> None:
    """Bytes are the store's own; a list is sorted and names the version to watch from."""
    await store.create(sandbox("b"))
    created = await store.create(sandbox("a"))
    entry = store.entry(created.key)
    assert entry is not None

    one = await client.get(f"{SANDBOXES}/a")
    several = (await client.get(f"{GROUP}/sandboxes")).json()

    assert one.content == entry.body
    assert several["kind"] == "SandboxList"
    assert names_of(several) == ["a", "b"]
    assert {item["kind"] for item in several["items"]} == {"Sandbox"}
    assert several["metadata"] == {"resourceVersion": str(store.revision)}


async def test_status_is_read_like_the_object(client: httpx.AsyncClient, store: Store) -> None:
    """`kubectl get --subresource=status` gets the object; a kind without status has none."""
    await store.create(sandbox("a"))
    await store.create(Secret(metadata=ObjectMeta(name="s", namespace="default")))

    whole, status = [(await client.get(f"{SANDBOXES}/a{sub}")).json() for sub in ("", "/status")]

    assert status == whole
    assert (await client.get("/api/v1/namespaces/default/secrets/s/status")).status_code == 404


async def test_selectors(client: httpx.AsyncClient, store: Store) -> None:
    """Label and field selectors narrow a list; what is not supported is a 400."""
    await store.create(sandbox("a", app="web"))
    await store.create(sandbox("b", app="api"))
    await store.create(sandbox("b", namespace="other"))

    async def names(path: str = SANDBOXES, **query: str) -> list[str]:
        return names_of((await client.get(path, params=query)).json())

    everywhere = f"{GROUP}/sandboxes"
    assert await names(labelSelector="app in (web)") == ["a"]
    assert await names(fieldSelector="metadata.name=b") == ["b"]
    assert await names(fieldSelector="metadata.name==b,metadata.name!=a") == ["b"]
    assert await names(fieldSelector="metadata.name!=b") == ["a"]
    assert await names(everywhere, fieldSelector="metadata.name=b") == ["b", "b"]
    assert await names(everywhere, fieldSelector="metadata.namespace=other") == ["b"]
    assert await names(fieldSelector="metadata.name=b", labelSelector="app=web") == []


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"fieldSelector": "spec.x=1"}, "field label not supported: spec.x"),
        ({"fieldSelector": "nonsense"}, "invalid selector"),
        ({"fieldSelector": "metadata.name=b\\"}, "invalid selector"),
        ({"fieldSelector": "metadata.name=b,\\x"}, "invalid selector"),
        ({"labelSelector": "a b"}, "cannot be read"),
        ({"labelSelector": "a=" + " " * 8000 + "$"}, "cannot be read"),
        ({"labelSelector": "a," * 5000}, "more than 8192 characters"),
        ({"labelSelector": ",".join("a" * 101)}, "more than 100 requirements"),
        ({"fieldSelector": ",".join(["metadata.name!=a"] * 101)}, "more than 100 requirements"),
        ({"resourceVersion": "x"}, "invalid resourceVersion"),
        ({"resourceVersion": "9" * 20}, "invalid resourceVersion"),
        ({"resourceVersion": "-1"}, "invalid resourceVersion"),
        ({"limit": "many"}, "invalid limit"),
        ({"continue": "%%%"}, "continue key is not valid"),
        ({"continue": "e30"}, "continue key is not valid"),
        ({"continue": "W10"}, "continue key is not valid"),
        ({"continue": "x" * 2000}, "continue key is not valid"),
        ({"includeObject": "All"}, "unrecognized includeObject value"),
    ],
)
async def test_a_query_that_cannot_be_read_is_a_bad_request(
    client: httpx.AsyncClient, query: dict[str, str], message: str
) -> None:
    """Each is a 400 that says what is wrong."""
    answer = await client.get(SANDBOXES, params=query)

    assert (answer.status_code, answer.json()["reason"]) == (400, "BadRequest")
    assert message in answer.json()["message"]


async def test_pages_make_up_the_list(client: httpx.AsyncClient, store: Store) -> None:
    """Following `continue` gives every object once, and tells how many are left."""
    wanted = await fill(store, 5)

    found, left, token = [], [], ""
    while True:
        query = {"limit": "2"} | ({"continue": token} if token else {})
        page = (await client.get(SANDBOXES, params=query)).json()
        found += names_of(page)
        left.append(page["metadata"].get("remainingItemCount"))
        token = page["metadata"].get("continue", "")
        if not token:
            break

    assert (found, left) == (wanted, [3, 1, None])


async def test_all_pages_show_the_version_of_the_first(
    client: httpx.AsyncClient, store: Store
) -> None:
    """What is written between two pages is in none of them."""
    await fill(store, 4)
    first = (await client.get(SANDBOXES, params={"limit": "2"})).json()
    await store.delete(Sandbox, "s2")
    await store.create(sandbox("s21"))

    token = first["metadata"]["continue"]
    second = (await client.get(SANDBOXES, params={"limit": "2", "continue": token})).json()

    assert names_of(second) == ["s2", "s3"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"] == "4"


async def test_selected_pages_do_not_count_what_is_left(
    client: httpx.AsyncClient, store: Store
) -> None:
    """With a selector the rest is not told, as in Kubernetes."""
    await fill(store, 3)

    query = {"limit": "1", "labelSelector": "!app"}
    page = (await client.get(SANDBOXES, params=query)).json()

    assert page["metadata"]["continue"]
    assert "remainingItemCount" not in page["metadata"]


async def test_a_forgotten_page_is_gone_and_says_how_to_go_on(
    client: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that is no longer held is a 410 with a token for what is there now."""
    monkeypatch.setattr(paging, "MAX_HELD", 0)
    await fill(store, 4)
    first = (await client.get(SANDBOXES, params={"limit": "2"})).json()
    await store.delete(Sandbox, "s2")

    query = {"limit": "2", "continue": first["metadata"]["continue"]}
    gone = await client.get(SANDBOXES, params=query)
    token = gone.json()["metadata"]["continue"]
    rest = (await client.get(SANDBOXES, params={"limit": "2", "continue": token})).json()

    assert (gone.status_code, gone.json()["reason"]) == (410, "Expired")
    assert names_of(rest) == ["s3"]
    assert rest["metadata"]["resourceVersion"] == str(store.revision)


async def test_an_unchanged_store_needs_no_held_list(
    client: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nothing was written since the first page, the rest is still there."""
    monkeypatch.setattr(paging, "MAX_HELD", 0)
    await fill(store, 3)
    first = (await client.get(SANDBOXES, params={"limit": "2"})).json()

    token = first["metadata"]["continue"]
    rest = (await client.get(SANDBOXES, params={"limit": "2", "continue": token})).json()

    assert names_of(rest) == ["s2"]


async def test_held_lists_are_bounded_in_time_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old lists go, and so do the oldest when newer ones need the room."""
    monkeypatch.setattr(paging, "MAX_HELD", 4)
    clock = ManualClock()
    held = paging.HeldLists(clock)
    entries: list[Any] = [None, None]

    held.hold(("first",), entries)
    held.hold(("second",), entries)
    held.hold(("third",), entries)
    assert [held.get((name,)) is not None for name in ("first", "second", "third")] == [
        False, True, True,
    ]  # fmt: skip

    clock.advance(paging.HOLD_S + 1)
    assert held.get(("third",)) is None


async def test_exactly_one_version(client: httpx.AsyncClient, store: Store) -> None:
    """Exact is served while it is the newest version or held, and is 410 afterwards."""
    await fill(store, 3)

    async def listed(revision: str, **query: str) -> httpx.Response:
        exact = {"resourceVersion": revision, "resourceVersionMatch": "Exact"}
        return await client.get(SANDBOXES, params=exact | query)

    assert names_of((await listed("3", limit="1")).json()) == ["s0"]
    await store.delete(Sandbox, "s1")

    assert names_of((await listed("3")).json()) == ["s0", "s1", "s2"]
    assert (await listed("2")).status_code == 410


async def test_a_version_of_the_future_asks_to_come_back(client: httpx.AsyncClient) -> None:
    """A version newer than the store is a 504 with the cause clients look for."""
    answer = await client.get(SANDBOXES, params={"resourceVersion": "1000"})

    details = answer.json()["details"]
    assert (answer.status_code, answer.json()["reason"]) == (504, "Timeout")
    assert details["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert details["retryAfterSeconds"] == 1
    assert answer.headers["retry-after"] == "1"


async def test_cluster_scoped_kinds_have_no_namespace(
    client: httpx.AsyncClient, store: Store
) -> None:
    """Hosts are found without a namespace and nowhere else."""
    await store.create(Host(metadata=ObjectMeta(name="h1"), spec=HostSpec(address="h1.example")))

    assert (await client.get(f"{GROUP}/hosts/h1")).status_code == 200
    assert (await client.get(f"{GROUP}/namespaces/default/hosts")).status_code == 404


async def test_namespaces_are_those_made_and_those_in_use(
    client: httpx.AsyncClient, store: Store
) -> None:
    """`default` is always there; a namespace nobody made has the same identity every time."""
    made = await store.create(Namespace(metadata=ObjectMeta(name="made")))
    await store.create(sandbox("a", namespace="used"))

    found = (await client.get("/api/v1/namespaces")).json()
    used = (await client.get("/api/v1/namespaces/used")).json()

    assert names_of(found) == ["default", "made", "used"]
    assert found["items"][1]["metadata"]["uid"] == made.metadata.uid
    assert found["items"][2] == used
    assert used["status"] == {"phase": "Active"}
    assert (await client.get("/api/v1/namespaces/nope")).status_code == 404


async def test_events_are_found_where_kubectl_looks(
    client: httpx.AsyncClient, store: Store
) -> None:
    """`describe` filters core events by what they are about; both groups show the same ones."""
    created = await store.create(sandbox("a"))
    await EventRecorder(store, ManualClock()).record(created, "Tested", "It was tested.")

    query = {"fieldSelector": f"involvedObject.name=a,involvedObject.uid={created.metadata.uid}"}
    core = (await client.get("/api/v1/namespaces/default/events", params=query)).json()
    query = {"fieldSelector": "regarding.name=a,type=Normal"}
    new = (await client.get("/apis/events.k8s.io/v1/events", params=query)).json()
    none = (await client.get("/apis/events.k8s.io/v1/events?fieldSelector=type=Warning")).json()

    assert [event["reason"] for event in core["items"]] == ["Tested"]
    assert new["items"][0]["metadata"] == core["items"][0]["metadata"]
    assert new["items"][0]["note"] == core["items"][0]["message"]
    assert none["items"] == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (f"{SANDBOXES}/nope", 'sandboxes.sandboxer.dev "nope" not found'),
        ("/api/v1/namespaces/default/events/nope", 'events "nope" not found'),
        (f"{GROUP}/nopes", "the server could not find the requested resource"),
        (f"{GROUP}/sandboxes/a", "the server could not find the requested resource"),
        ("/apis/sandboxer.dev/v9/sandboxes", "the server could not find the requested resource"),
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


async def test_a_wrong_method_is_a_status(client: httpx.AsyncClient) -> None:
    """A path that exists with another method is a 405 that names the allowed ones."""
    answer = await client.post("/version")

    assert (answer.status_code, answer.json()["reason"]) == (405, "MethodNotAllowed")
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("accept", ["application/yaml", "application/vnd.kubernetes.protobuf"])
async def test_other_encodings_are_not_acceptable(client: httpx.AsyncClient, accept: str) -> None:
    """Only JSON is given; a client that lists JSON too gets it."""
    alone = await client.get(SANDBOXES, headers={"accept": accept})
    listed = await client.get(SANDBOXES, headers={"accept": f"{accept},application/json"})

    assert (alone.status_code, alone.json()["reason"]) == (406, "NotAcceptable")
    assert listed.status_code == 200


async def test_metadata_alone(client: httpx.AsyncClient, store: Store) -> None:
    """Clients that only want metadata get objects without anything else."""
    await store.create(sandbox("a"))
    accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

    found = (await client.get(SANDBOXES, headers={"accept": accept})).json()

    assert (found["kind"], found["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
    assert [sorted(item) for item in found["items"]] == [["apiVersion", "kind", "metadata"]]


async def test_asking_for_the_head_of_a_watch_does_not_follow(client: httpx.AsyncClient) -> None:
    """HEAD ends at once."""
    answer = await client.head(SANDBOXES, params={"watch": "1"})

    assert answer.status_code == 200


async def test_a_secret_never_holds_anything(store: Store) -> None:
    """The kind refuses values and says where they belong."""
    document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}

    Secret.parse(document)
    for field in ("data", "stringData"):
        with pytest.raises(ValueError, match=r"spec\.secretRefs"):
            Secret.parse(document | {field: {"password": "x"}})
    assert "password" not in json.dumps(Secret.model_json_schema())
