"""Merge patch and JSON patch over a real store."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Store

GROUP = "/apis/sandboxer.dev/v1alpha1"
SANDBOXES = f"{GROUP}/namespaces/default/sandboxes"
SANDBOX = f"{SANDBOXES}/a"
MERGE = {"content-type": "application/merge-patch+json"}
JSON = {"content-type": "application/json-patch+json"}


@pytest.fixture(autouse=True)
async def before(client: httpx.AsyncClient) -> dict[str, Any]:
    """A sandbox with two variables and a label."""
    body = {
        "metadata": {"name": "a", "labels": {"app": "web"}},
        "spec": {"env": {"A": "1", "B": "2"}},
    }
    document: dict[str, Any] = (await client.post(SANDBOXES, json=body)).json()
    return document


async def merge(client: httpx.AsyncClient, patch: Any, path: str = SANDBOX) -> httpx.Response:
    return await client.patch(path, json=patch, headers=MERGE)


async def operate(client: httpx.AsyncClient, *operations: Any) -> httpx.Response:
    return await client.patch(SANDBOX, json=list(operations), headers=JSON)


async def test_merge(client: httpx.AsyncClient) -> None:
    """A merge patch sets what it names, removes what it says is null, and keeps the rest."""
    answer = await merge(client, {"spec": {"env": {"A": None, "C": "3"}, "driftPolicy": "Report"}})

    after = answer.json()
    assert answer.status_code == 200
    assert (after["spec"]["env"], after["spec"]["driftPolicy"]) == ({"B": "2", "C": "3"}, "Report")
    assert (after["metadata"]["labels"], after["metadata"]["generation"]) == ({"app": "web"}, 2)


async def test_labels_do_not_move_the_generation(
    client: httpx.AsyncClient, before: dict[str, Any]
) -> None:
    """A label is a new version and no new generation."""
    after = (await merge(client, {"metadata": {"labels": {"x": "y"}}})).json()

    assert after["metadata"]["generation"] == 1
    assert after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]


async def test_nothing_new_is_no_write(client: httpx.AsyncClient, before: dict[str, Any]) -> None:
    """A patch that changes nothing keeps version and owners."""
    after = (await merge(client, {"spec": {"env": {"A": "1"}}})).json()

    assert after["metadata"] == before["metadata"]


async def test_json_patch(client: httpx.AsyncClient) -> None:
    """The operations of a JSON patch are done in order."""
    answer = await operate(
        client,
        {"op": "test", "path": "/spec/env/A", "value": "1"},
        {"op": "replace", "path": "/spec/env/A", "value": "9"},
        {"op": "remove", "path": "/spec/env/B"},
        {"op": "add", "path": "/metadata/labels/a.b~1c", "value": "d"},
        {"op": "copy", "from": "/spec/env/A", "path": "/spec/env/C"},
        {"op": "move", "from": "/spec/env/A", "path": "/spec/env/D"},
    )

    after = answer.json()
    assert answer.status_code == 200, answer.text
    assert after["spec"]["env"] == {"C": "9", "D": "9"}
    assert after["metadata"]["labels"] == {"app": "web", "a.b/c": "d"}


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param({"op": "test", "path": "/spec/env/A", "value": "2"}, id="test"),
        pytest.param({"op": "remove", "path": "/spec/none"}, id="absent"),
        pytest.param({"op": "add", "path": "spec", "value": 1}, id="no-pointer"),
        pytest.param({"op": "explode", "path": "/spec"}, id="operation"),
        pytest.param({"op": "add", "path": "/spec"}, id="no-value"),
        pytest.param({"path": "/spec", "value": 1}, id="no-operation"),
        pytest.param({"op": "add", "path": 7, "value": 1}, id="path-number"),
        pytest.param({"op": "copy", "path": "/spec/x"}, id="no-from"),
        pytest.param({"op": "replace", "path": "", "value": []}, id="no-object"),
        pytest.param({"op": "remove", "path": ""}, id="nothing-left"),
        pytest.param({"op": "add", "path": "/spec/env/A/x", "value": 1}, id="into-text"),
        pytest.param({"op": "replace", "path": "/spec/driftPolicy", "value": "No"}, id="invalid"),
    ],
)
async def test_json_patch_that_does_not_fit(
    client: httpx.AsyncClient, store: Store, operation: dict[str, Any]
) -> None:
    """One operation that does not fit leaves everything as it was."""
    first = {"op": "replace", "path": "/spec/env/A", "value": "9"}

    answer = await operate(client, first, operation)

    found = store.get(Sandbox, "a")
    assert (answer.status_code, answer.json()["reason"]) == (422, "Invalid")
    assert found is not None
    assert found.spec.env["A"] == "1"


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        pytest.param([{"op": "test", "path": "", "value": 1}] * 10_001, 413, id="many"),
        pytest.param(
            [{"op": "copy", "from": "/spec/env", "path": f"/spec/env/X{n}"} for n in range(40)],
            413,
            id="doubling",
        ),
        pytest.param(
            [{"op": "add", "path": "/spec" + "/x" * n, "value": {}} for n in range(1, 100)],
            422,
            id="deep",
        ),
        pytest.param({"op": "add"}, 400, id="no-list"),
        pytest.param(["add"], 400, id="no-object"),
    ],
)
async def test_hostile_json_patches(
    client: httpx.AsyncClient, store: Store, operations: Any, code: int
) -> None:
    """A patch can neither grow nor deepen an object without bounds."""
    answer = await client.patch(SANDBOX, json=operations, headers=JSON)

    assert answer.status_code == code
    assert store.revision == 1


async def test_version_as_precondition(client: httpx.AsyncClient, before: dict[str, Any]) -> None:
    """A patch that names a version is for that version only."""
    version = before["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": version, "labels": {"x": "y"}}}

    fits = await merge(client, patch)
    late = await merge(client, patch | {"spec": {"driftPolicy": "Report"}})
    rehearsed = await merge(
        client, {"metadata": {"resourceVersion": version}}, f"{SANDBOX}?dryRun=All"
    )

    assert (fits.status_code, late.status_code, rehearsed.status_code) == (200, 409, 409)
    assert late.json()["message"] == (
        'Operation cannot be fulfilled on sandboxes.sandboxer.dev "a": the object has been '
        "modified; please apply your changes to the latest version and try again"
    )


async def test_patches_at_the_same_time(client: httpx.AsyncClient, store: Store) -> None:
    """Patches that name no version start over when another one was quicker; none is lost."""
    answers = await asyncio.gather(
        *(merge(client, {"spec": {"env": {f"V{n}": str(n)}}}) for n in range(20))
    )

    found = store.get(Sandbox, "a")
    assert [answer.status_code for answer in answers] == [200] * 20
    assert found is not None
    assert {f"V{n}": str(n) for n in range(20)}.items() <= found.spec.env.items()


async def test_status(client: httpx.AsyncClient, before: dict[str, Any]) -> None:
    """A patch of the status changes the status, notes who did, and nothing else."""
    patch = {"status": {"phase": "Ready"}, "spec": {"env": {}}, "metadata": {"labels": {"x": "y"}}}

    after = (await merge(client, patch, f"{SANDBOX}/status?fieldManager=me")).json()

    assert after["status"]["phase"] == "Ready"
    assert (after["spec"], after["metadata"]["labels"]) == (before["spec"], {"app": "web"})
    (mine,) = [owner for owner in after["metadata"]["managedFields"] if owner["manager"] == "me"]
    assert (mine["subresource"], mine["fieldsV1"]) == ("status", {"f:status": {"f:phase": {}}})


async def test_main_patch_leaves_status(client: httpx.AsyncClient, before: dict[str, Any]) -> None:
    """A patch of the object leaves the status alone."""
    after = (await merge(client, {"status": {"phase": "Ready"}})).json()

    assert after["status"] == before["status"]
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_what_the_store_owns(client: httpx.AsyncClient, before: dict[str, Any]) -> None:
    """A patch cannot change what the store owns, and a wrong uid is a conflict."""
    owned = {
        "generation": 99,
        "creationTimestamp": "2001-01-01T00:00:00Z",
        "deletionTimestamp": None,
    }

    after = (await merge(client, {"metadata": {**owned, "labels": {"x": "y"}}})).json()
    other = await merge(client, {"metadata": {"uid": "other"}})
    renamed = await merge(client, {"metadata": {"name": "b"}})

    for name in ("generation", "creationTimestamp", "uid"):
        assert after["metadata"][name] == before["metadata"][name]
    assert (other.status_code, renamed.status_code) == (409, 400)


async def test_dry_run(client: httpx.AsyncClient, before: dict[str, Any], store: Store) -> None:
    """A rehearsal shows the result at the present version and writes nothing."""
    answer = await merge(client, {"spec": {"env": {"A": "9"}}}, f"{SANDBOX}?dryRun=All")

    after = answer.json()
    assert after["spec"]["env"]["A"] == "9"
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert store.revision == 1


async def test_unknown_fields(client: httpx.AsyncClient) -> None:
    """What a patch brings that nobody knows is treated like that of a whole object."""
    strict = await merge(client, {"spec": {"foo": 1}}, f"{SANDBOX}?fieldValidation=Strict")
    warned = await merge(client, {"spec": {"foo": 1}})

    assert strict.status_code == 400
    assert 'strict decoding error: unknown field "spec.foo"' in strict.json()["message"]
    assert warned.headers["warning"] == r'299 - "unknown field \"spec.foo\""'


@pytest.mark.parametrize(
    "type_", ["application/strategic-merge-patch+json", "application/json", None]
)
async def test_other_patches(client: httpx.AsyncClient, type_: str | None) -> None:
    """A strategic merge patch, and a patch that does not say what it is, are refused."""
    headers = {"content-type": type_} if type_ else {}

    answer = await client.patch(SANDBOX, content=b"{}", headers=headers)

    assert (answer.status_code, answer.json()["reason"]) == (415, "UnsupportedMediaType")
    assert answer.json()["message"] == (
        "the body of the request was in an unknown format - accepted media types include: "
        "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
    )


async def test_absent(client: httpx.AsyncClient) -> None:
    """A patch other than an apply creates nothing."""
    answer = await merge(client, {"spec": {}}, f"{SANDBOXES}/none")

    assert answer.status_code == 404


async def test_force_is_for_applies(client: httpx.AsyncClient) -> None:
    """Only an apply can be forced."""
    answer = await merge(client, {}, f"{SANDBOX}?force=true")

    assert answer.status_code == 422
    assert answer.json()["message"] == (
        'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: '
        "may not be specified for non-apply patch"
    )
