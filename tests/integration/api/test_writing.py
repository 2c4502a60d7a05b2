"""POST and PUT over a real store."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from sandboxer.kinds.meta import FINALIZER
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Store

GROUP = "/apis/sandboxer.dev/v1alpha1"
SANDBOXES = f"{GROUP}/namespaces/default/sandboxes"


def manifest(name: str = "a", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "sandboxer.dev/v1alpha1",
        "kind": "Sandbox",
        "metadata": {"name": name},
        "spec": spec,
    }


async def created(client: httpx.AsyncClient, name: str = "a", **spec: Any) -> dict[str, Any]:
    answer = await client.post(SANDBOXES, json=manifest(name, **spec))
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def test_create(client: httpx.AsyncClient, store: Store) -> None:
    """A POST stores the object and answers 201 with what the store gave it."""
    answer = await client.post(SANDBOXES, json=manifest(env={"A": "1"}))

    assert answer.status_code == 201
    metadata = answer.json()["metadata"]
    assert (metadata["namespace"], metadata["generation"]) == ("default", 1)
    stored = store.get(Sandbox, "a")
    assert stored is not None
    assert (stored.metadata.uid, stored.spec.env) == (metadata["uid"], {"A": "1"})


async def test_create_notes_the_writer(client: httpx.AsyncClient) -> None:
    """Only what the client wrote is its own; it is called as it says, or by its User-Agent."""
    body = manifest(env={"A": "1"})
    answer = await client.post(f"{SANDBOXES}?fieldManager=me", json=body)
    other = await client.post(
        SANDBOXES, json=manifest("b", env={"A": "1"}), headers={"user-agent": "curl/8.1"}
    )

    (owner,) = answer.json()["metadata"]["managedFields"]
    assert (owner["manager"], owner["operation"]) == ("me", "Update")
    assert set(owner["fieldsV1"]["f:spec"]) == {"f:env"}
    assert other.json()["metadata"]["managedFields"][0]["manager"] == "curl"


async def test_create_ignores_status(client: httpx.AsyncClient) -> None:
    """A status in a POST is not looked at."""
    answer = await client.post(SANDBOXES, json=manifest() | {"status": {"phase": "Ready"}})

    assert answer.json()["status"]["phase"] == "Pending"


async def test_create_existing(client: httpx.AsyncClient) -> None:
    """A name can be taken once."""
    await created(client)

    answer = await client.post(SANDBOXES, json=manifest())

    status = answer.json()
    assert (answer.status_code, status["reason"]) == (409, "AlreadyExists")
    assert status["message"] == 'sandboxes.sandboxer.dev "a" already exists'
    assert status["details"] == {"name": "a", "group": "sandboxer.dev", "kind": "sandboxes"}


async def test_generated_names(client: httpx.AsyncClient) -> None:
    """A generateName gets a random ending, another one each time."""
    body = manifest() | {"metadata": {"generateName": "run-"}}

    names = [(await client.post(SANDBOXES, json=body)).json()["metadata"]["name"] for _ in "ab"]

    assert all(name.startswith("run-") and len(name) == 9 for name in names)
    assert len(set(names)) == 2


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        pytest.param(
            manifest() | {"metadata": {"name": "a", "namespace": "other"}},
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
            id="namespace",
        ),
        pytest.param(
            manifest() | {"metadata": {"name": "a", "resourceVersion": "1"}},
            400,
            "resourceVersion should not be set on objects to be created",
            id="version",
        ),
        pytest.param(
            manifest() | {"metadata": {}}, 422, "name or generateName is required", id="name"
        ),
        pytest.param(
            manifest() | {"apiVersion": "v1"},
            400,
            "the API version in the data (v1) does not match the expected API version"
            " (sandboxer.dev/v1alpha1)",
            id="api-version",
        ),
        pytest.param(manifest() | {"kind": "Host"}, 400, "kind in the data (Host)", id="kind"),
        pytest.param(manifest() | {"metadata": []}, 400, "metadata must be", id="metadata"),
        pytest.param([], 400, "must be one object", id="list"),
    ],
)
async def test_create_refused(
    client: httpx.AsyncClient, store: Store, body: Any, code: int, words: str
) -> None:
    """What cannot be created is refused with Kubernetes' words, and nothing is stored."""
    answer = await client.post(SANDBOXES, json=body)

    assert (answer.status_code, answer.json()["code"]) == (code, code)
    assert words in answer.json()["message"]
    assert list(store.entries("Sandbox")) == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        pytest.param(f"{GROUP}/namespaces/default/teapots", 404, id="unknown"),
        pytest.param(f"{GROUP}/sandboxes", 405, id="all-namespaces"),
        pytest.param(f"{GROUP}/namespaces/default/hosts", 404, id="scope"),
    ],
)
async def test_create_elsewhere(client: httpx.AsyncClient, path: str, code: int) -> None:
    """Only a collection that holds such objects takes them."""
    answer = await client.post(path, json=manifest())

    assert (answer.status_code, answer.json()["kind"]) == (code, "Status")


async def test_create_dry_run(client: httpx.AsyncClient, store: Store) -> None:
    """A dry run judges, stores nothing and gives no resourceVersion."""
    answer = await client.post(f"{SANDBOXES}?dryRun=All", json=manifest())
    again = await client.post(f"{SANDBOXES}?dryRun=All", json=manifest(driftPolicy="No"))

    assert answer.status_code == 201
    assert "resourceVersion" not in answer.json()["metadata"]
    assert again.status_code == 422
    assert store.entry(Sandbox.parse(manifest()).key) is None


async def test_dry_run_is_all_or_an_error(client: httpx.AsyncClient, store: Store) -> None:
    """Any other rehearsal than the one that is known is refused instead of being real."""
    answer = await client.post(f"{SANDBOXES}?dryRun=Some", json=manifest())

    assert answer.status_code == 400
    assert list(store.entries("Sandbox")) == []


async def test_replace(client: httpx.AsyncClient) -> None:
    """A PUT restores what the store owns and the status, and replaces all the rest."""
    before = await created(client, env={"A": "1"})
    body = manifest(env={"B": "2"})
    body["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]

    answer = await client.put(f"{SANDBOXES}/a", json=body)

    assert answer.status_code == 200
    after = answer.json()
    assert (after["spec"]["env"], after["metadata"]["generation"]) == ({"B": "2"}, 2)
    for name in ("uid", "creationTimestamp"):
        assert after["metadata"][name] == before["metadata"][name]
    assert after["status"] == before["status"]


async def test_replace_needs_a_version(client: httpx.AsyncClient) -> None:
    """Without the version it was read at, a PUT could overwrite what it never saw."""
    await created(client)

    answer = await client.put(f"{SANDBOXES}/a", json=manifest())

    assert answer.status_code == 422
    assert answer.json()["message"] == (
        'Sandbox.sandboxer.dev "a" is invalid: metadata.resourceVersion: '
        "Invalid value: 0x0: must be specified for an update"
    )


@pytest.mark.parametrize(
    ("metadata", "code", "reason", "words"),
    [
        pytest.param(
            {"resourceVersion": "1000"}, 409, "Conflict", "has been modified", id="version"
        ),
        pytest.param({"uid": "other"}, 409, "Conflict", "Precondition failed: UID", id="uid"),
        pytest.param({"name": "b"}, 400, "BadRequest", "does not match the name on", id="name"),
    ],
)
async def test_replace_of_another(
    client: httpx.AsyncClient, metadata: dict[str, str], code: int, reason: str, words: str
) -> None:
    """A PUT that was meant for another object or version is refused."""
    before = await created(client)
    version = {"resourceVersion": before["metadata"]["resourceVersion"]}

    body = manifest() | {"metadata": {"name": "a", **version, **metadata}}
    answer = await client.put(f"{SANDBOXES}/a", json=body)

    assert (answer.status_code, answer.json()["reason"]) == (code, reason)
    assert words in answer.json()["message"]


async def test_replace_absent(client: httpx.AsyncClient) -> None:
    """A PUT does not create."""
    body = manifest() | {"metadata": {"name": "a", "resourceVersion": "1"}}

    answer = await client.put(f"{SANDBOXES}/a", json=body)

    assert (answer.status_code, answer.json()["reason"]) == (404, "NotFound")


async def test_replace_status(client: httpx.AsyncClient) -> None:
    """A PUT of the status changes nothing else and no generation."""
    before = await created(client, env={"A": "1"})
    body = before | {"spec": {"env": {"A": "9"}}, "status": {"phase": "Ready"}}
    body["metadata"] = before["metadata"] | {"labels": {"a": "b"}}

    answer = await client.put(f"{SANDBOXES}/a/status", json=body)

    after = answer.json()
    assert after["status"]["phase"] == "Ready"
    assert (after["spec"], after["metadata"]["labels"]) == (before["spec"], {})
    assert after["metadata"]["generation"] == 1


async def test_unchanged_is_no_write(client: httpx.AsyncClient, store: Store) -> None:
    """Putting back what was read keeps its version."""
    before = await created(client)

    answer = await client.put(f"{SANDBOXES}/a", json=before)

    assert answer.json()["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert store.revision == int(before["metadata"]["resourceVersion"])


async def test_last_finalizer(client: httpx.AsyncClient, store: Store) -> None:
    """Removing the last finalizer of an object that is being deleted ends it, also by PUT."""
    body = manifest() | {"metadata": {"name": "a", "finalizers": [FINALIZER]}}
    await client.post(SANDBOXES, json=body)
    held = (await client.delete(f"{SANDBOXES}/a")).json()
    held["metadata"]["finalizers"] = []

    rehearsed = await client.put(f"{SANDBOXES}/a?dryRun=All", json=held)
    assert store.get(Sandbox, "a") is not None
    answer = await client.put(f"{SANDBOXES}/a", json=held)

    assert (rehearsed.status_code, answer.status_code) == (200, 200)
    assert store.get(Sandbox, "a") is None


async def test_finalizer_during_deletion(client: httpx.AsyncClient) -> None:
    """No finalizer can be added to what is being deleted."""
    body = manifest() | {"metadata": {"name": "a", "finalizers": [FINALIZER]}}
    await client.post(SANDBOXES, json=body)
    held = (await client.delete(f"{SANDBOXES}/a")).json()
    held["metadata"]["finalizers"] = [FINALIZER, "x.y/late"]

    answer = await client.put(f"{SANDBOXES}/a", json=held)

    (cause,) = answer.json()["details"]["causes"]
    assert (answer.status_code, cause["field"]) == (422, "metadata.finalizers")


async def test_cluster_scoped(client: httpx.AsyncClient) -> None:
    """Cluster-scoped kinds are written at their own path."""
    host = {"metadata": {"name": "h1"}, "spec": {"transport": "local"}}

    answer = await client.post(f"{GROUP}/hosts", json=host)

    assert answer.status_code == 201
    assert "namespace" not in answer.json()["metadata"]
    assert answer.json()["kind"] == "Host"


async def test_events_can_be_recorded(client: httpx.AsyncClient) -> None:
    """Clients record events as they do in Kubernetes, with all they write there, and count."""
    about = {"kind": "Sandbox", "name": "a", "namespace": "default", "fieldPath": "spec"}
    event = {
        "metadata": {"generateName": "a."},
        "involvedObject": {**about, "resourceVersion": "1"},
        "reason": "Tested",
        "message": "by a client",
        "eventTime": "2026-01-01T00:00:00.000001Z",
        "reportingComponent": "tester",
        "reportingInstance": "tester-1",
        "source": {"component": "tester", "host": "h1"},
        "firstTimestamp": "2026-01-01T00:00:00Z",
    }
    events = "/api/v1/namespaces/default/events"

    made = await client.post(f"{events}?fieldValidation=Strict", json=event)
    name = made.json()["metadata"]["name"]
    again = await client.patch(
        f"{events}/{name}",
        json={"count": 2},
        headers={"content-type": "application/merge-patch+json"},
    )
    gone = await client.delete(f"{events}/{name}")

    assert [made.status_code, again.status_code, gone.status_code] == [201, 200, 200]
    assert event["source"] == again.json()["source"]
    # kubectl cannot read an eventTime with whole seconds, nor any other event then.
    assert again.json()["eventTime"] == event["eventTime"]
    assert (again.json()["reportingComponent"], again.json()["count"]) == ("tester", 2)


async def test_what_could_not_run_is_warned_of(client: httpx.AsyncClient) -> None:
    """A sandbox whose profile is not there is stored, and its author told."""
    answer = await client.post(SANDBOXES, json=manifest(profile="profile.none"))
    labelled = await client.patch(
        f"{SANDBOXES}/a",
        json={"metadata": {"labels": {"a": "b"}}},
        headers={"content-type": "application/merge-patch+json"},
    )

    assert answer.status_code == 201
    assert "profile.none" in answer.headers["warning"]
    assert answer.headers["warning"].startswith('299 - "')
    assert "warning" not in labelled.headers


async def test_secrets_hold_nothing(client: httpx.AsyncClient) -> None:
    """A Secret keeps labels and annotations, and is refused with a value in it."""
    secrets = "/api/v1/namespaces/default/secrets"

    empty = await client.post(secrets, json={"metadata": {"name": "set", "labels": {"a": "b"}}})
    full = await client.post(secrets, json={"metadata": {"name": "s"}, "data": {"a": "Yg=="}})

    assert (empty.status_code, full.status_code) == (201, 422)
    assert full.json()["details"]["causes"][0]["field"] == "data"


async def test_projections_are_read_only(client: httpx.AsyncClient) -> None:
    """What is only shown here cannot be written."""
    path = "/apis/events.k8s.io/v1/namespaces/default/events"

    answer = await client.post(path, json={"metadata": {"name": "a"}})

    assert (answer.status_code, answer.json()["reason"]) == (405, "MethodNotAllowed")


async def test_a_store_that_cannot_write(client: httpx.AsyncClient, store: Store) -> None:
    """When the store refuses every write, the answer says so and nothing looks done."""
    await store.close()

    answer = await client.post(SANDBOXES, json=manifest())

    assert (answer.status_code, answer.json()["reason"]) == (500, "InternalError")
    assert "is closed" in answer.json()["message"]


async def test_a_namespace_in_use_can_be_changed(client: httpx.AsyncClient) -> None:
    """A namespace that is shown because something is in it becomes a made one by a write."""
    await client.post(f"{GROUP}/namespaces/team/sandboxes", json=manifest())
    path, labels = "/api/v1/namespaces/team", {"metadata": {"labels": {"a": "b"}}}
    headers = {"content-type": "application/merge-patch+json"}

    rehearsed = await client.patch(f"{path}?dryRun=All", json=labels, headers=headers)
    before = (await client.get(path)).json()["metadata"]["labels"]
    answer = await client.patch(path, json=labels, headers=headers)
    again = await client.patch(
        f"{path}?fieldManager=me",
        json={"metadata": {"annotations": {"c": "d"}}},
        headers={"content-type": "application/apply-patch+yaml"},
    )

    assert [a.status_code for a in (rehearsed, answer, again)] == [200, 200, 200]
    assert "a" not in before
    after = (await client.get(path)).json()["metadata"]
    assert (after["labels"], after["annotations"]) == ({**before, "a": "b"}, {"c": "d"})
