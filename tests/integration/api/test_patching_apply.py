"""Server-side apply over a real store."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Store

GROUP = "/apis/sandboxer.dev/v1alpha1"
SANDBOXES = f"{GROUP}/namespaces/default/sandboxes"
APPLY = {"content-type": "application/apply-patch+yaml"}


def config(metadata: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "sandboxer.dev/v1alpha1",
        "kind": "Sandbox",
        "metadata": {"name": "a", **(metadata or {})},
        "spec": spec,
    }


async def apply(
    client: httpx.AsyncClient, body: Any, manager: str = "me", query: str = "", sub: str = ""
) -> httpx.Response:
    path = f"{SANDBOXES}/a{sub}?fieldManager={manager}{query}"
    content = body if isinstance(body, str) else json.dumps(body)
    return await client.patch(path, content=content, headers=APPLY)


async def test_creates_once(client: httpx.AsyncClient) -> None:
    """An apply to nothing creates; the same again writes nothing."""
    first = await apply(client, config(env={"A": "1"}))
    again = await apply(client, config(env={"A": "1"}))

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    (owner,) = first.json()["metadata"]["managedFields"]
    assert (owner["manager"], owner["operation"]) == ("me", "Apply")


async def test_creates_anew_what_goes_meanwhile(client: httpx.AsyncClient) -> None:
    """An apply that meets a delete, before or after it, is no 404: it creates."""
    for number in range(5):
        await apply(client, config())

        *applied, deleted = await asyncio.gather(
            *(
                apply(client, config(env={"A": str(number)}), f"m{number}-{i}", "&force=true")
                for i in range(3)
            ),
            client.delete(f"{SANDBOXES}/a"),
        )

        assert {answer.status_code for answer in applied} <= {200, 201}
        assert deleted.status_code == 200


async def test_yaml(client: httpx.AsyncClient) -> None:
    """The body may be YAML, as the media type says."""
    text = "apiVersion: sandboxer.dev/v1alpha1\nkind: Sandbox\nmetadata: {name: a}\nspec:\n  env: {A: 'no'}\n"

    answer = await apply(client, text)

    assert (answer.status_code, answer.json()["spec"]["env"]) == (201, {"A": "no"})


async def test_dropped_fields_go(client: httpx.AsyncClient) -> None:
    """What a manager no longer applies goes, unless somebody else owns it."""
    await apply(client, config(env={"A": "1", "B": "2"}))
    await apply(client, config(env={"B": "2"}), "other")

    answer = await apply(client, config(env={"C": "3"}))

    assert answer.json()["spec"]["env"] == {"B": "2", "C": "3"}


async def test_conflict_and_force(client: httpx.AsyncClient) -> None:
    """Another's value is only taken by force."""
    await apply(client, config(env={"A": "1"}))

    refused = await apply(client, config(env={"A": "2"}), "other")
    forced = await apply(client, config(env={"A": "2"}), "other", "&force=true")

    status = refused.json()
    assert (refused.status_code, status["reason"]) == (409, "Conflict")
    assert status["details"]["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "me"',
            "field": ".spec.env.A",
        }
    ]
    assert (forced.status_code, forced.json()["spec"]["env"]) == (200, {"A": "2"})


async def test_annotations_alone(client: httpx.AsyncClient) -> None:
    """The whole object is judged, not the applied part: kubectl applies annotations alone."""
    host = {"metadata": {"name": "h"}, "spec": {"transport": "ssh", "address": "10.0.0.1"}}
    await client.post(f"{GROUP}/hosts", json=host)
    body = {
        "apiVersion": "sandboxer.dev/v1alpha1",
        "kind": "Host",
        "metadata": {"name": "h", "annotations": {"note": "kept"}},
    }

    answer = await client.patch(
        f"{GROUP}/hosts/h?fieldManager=kubectl-last-applied", json=body, headers=APPLY
    )

    assert answer.status_code == 200, answer.text
    assert answer.json()["spec"]["address"] == "10.0.0.1"
    assert answer.json()["metadata"]["annotations"] == {"note": "kept"}


async def test_owners_moved_by_json_patch(client: httpx.AsyncClient) -> None:
    """What kubectl does to move from its old apply: it rewrites managedFields at one version."""
    await client.post(
        f"{SANDBOXES}?fieldManager=kubectl-client-side-apply", json=config(env={"A": "1"})
    )
    applied = (await apply(client, config(env={"A": "1"}), "kubectl")).json()["metadata"]
    entries = [one for one in applied["managedFields"] if one["operation"] == "Apply"]
    moved = [
        {"op": "replace", "path": "/metadata/managedFields", "value": entries},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": applied["resourceVersion"]},
    ]

    answer = await client.patch(
        f"{SANDBOXES}/a", json=moved, headers={"content-type": "application/json-patch+json"}
    )
    after = await apply(client, config(), "kubectl")

    owners = answer.json()["metadata"]["managedFields"]
    assert [(one["manager"], one["operation"]) for one in owners] == [("kubectl", "Apply")]
    assert after.json()["spec"]["env"] == {}


async def test_status(client: httpx.AsyncClient) -> None:
    """An apply to the status owns status fields only, and needs the object."""
    body = config(env={"A": "9"}) | {"status": {"phase": "Ready"}}
    absent = await apply(client, body, sub="/status")
    await apply(client, config(env={"A": "1"}))

    answer = await apply(client, body, "observer", sub="/status")

    assert absent.status_code == 404
    assert answer.json()["status"]["phase"] == "Ready"
    assert answer.json()["spec"]["env"] == {"A": "1"}


async def test_preconditions(client: httpx.AsyncClient) -> None:
    """A uid or version in the applied object must be the stored one."""
    unmade = await apply(client, config({"uid": "other"}))
    await apply(client, config(env={"A": "1"}))

    answers = [
        await apply(client, config({"uid": "other"})),
        await apply(client, config({"resourceVersion": "77"}, env={"A": "2"})),
        await apply(client, config({"name": "b"})),
    ]

    assert "no existing object was found" in unmade.json()["message"]
    assert [unmade.status_code, *(a.status_code for a in answers)] == [409, 409, 409, 400]


async def test_dry_run(client: httpx.AsyncClient, store: Store) -> None:
    """A rehearsed apply creates nothing and says what it would."""
    answer = await apply(client, config(env={"A": "1"}), query="&dryRun=All")

    assert (answer.status_code, answer.json()["spec"]["env"]) == (201, {"A": "1"})
    assert store.get(Sandbox, "a") is None


async def test_manager_is_needed(client: httpx.AsyncClient) -> None:
    """Nobody can own what nobody applied."""
    answer = await client.patch(f"{SANDBOXES}/a", json=config(), headers=APPLY)

    assert answer.status_code == 422
    assert answer.json()["message"] == (
        'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: '
        "is required for apply patch"
    )


@pytest.mark.parametrize("query", ["&force=perhaps", "&fieldValidation=Loud"])
async def test_unknown_options(client: httpx.AsyncClient, store: Store, query: str) -> None:
    """Options with values nobody knows are refused."""
    answer = await apply(client, config(), query=query)

    assert answer.status_code in (400, 422)
    assert store.get(Sandbox, "a") is None


async def test_manager_names_are_bounded(client: httpx.AsyncClient) -> None:
    """A manager's name is short and printable."""
    answers = [await apply(client, config(), "x" * 129), await apply(client, config(), "a%0Ab")]

    assert [answer.status_code for answer in answers] == [422, 422]


async def test_unknown_fields(client: httpx.AsyncClient) -> None:
    """An unknown field of an applied object is refused, or left out and owned by nobody."""
    strict = await apply(client, config(foo=1), query="&fieldValidation=Strict")
    warned = await apply(client, config(foo=1))

    assert strict.status_code == 400
    assert r'299 - "unknown field \"spec.foo\""' in warned.headers.get_list("warning")
    assert "foo" not in json.dumps(warned.json())


async def test_two_create_at_the_same_time(client: httpx.AsyncClient, store: Store) -> None:
    """Two who apply different fields of a new object both get what they want."""
    answers = await asyncio.gather(
        apply(client, config(env={"A": "1"}), "one"), apply(client, config(env={"B": "2"}), "two")
    )

    found = store.get(Sandbox, "a")
    assert sorted(answer.status_code for answer in answers) == [200, 201]
    assert found is not None
    assert found.spec.env == {"A": "1", "B": "2"}
