"""Discovery in its legacy and its aggregated form."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
V2BETA1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"


async def test_groups_lead_to_resources(client: httpx.AsyncClient) -> None:
    """The legacy form names every group, its versions, and their resources."""
    groups = (await client.get("/apis")).json()["groups"]
    resources = (await client.get("/apis/sandboxer.dev/v1alpha1")).json()["resources"]
    core = (await client.get("/api/v1")).json()

    assert groups[0]["name"] == "sandboxer.dev"
    assert {group["name"] for group in groups} == {
        "sandboxer.dev", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io",
    }  # fmt: skip
    by_name = {resource["name"]: resource for resource in resources}
    assert {"sandboxes", "sandboxes/status", "hosts", "profiles", "extensions"} <= set(by_name)
    assert by_name["sandboxes"]["shortNames"] == ["sbx"]
    assert by_name["sandboxes"]["categories"] == ["all", "sandboxer"]
    assert by_name["sandboxes/status"]["verbs"] == ["get", "patch", "update"]
    assert by_name["hosts"]["namespaced"] is False
    assert core["groupVersion"] == "v1"
    assert {"events", "namespaces", "secrets", "pods", "pods/log"} <= {
        resource["name"] for resource in core["resources"]
    }


async def test_one_group_and_unknown_ones(client: httpx.AsyncClient) -> None:
    """A group is described alone as in the list; one that does not exist is a 404."""
    (listed,) = [
        group
        for group in (await client.get("/apis")).json()["groups"]
        if group["name"] == "sandboxer.dev"
    ]
    alone = (await client.get("/apis/sandboxer.dev")).json()

    assert alone == {"kind": "APIGroup", "apiVersion": "v1", **listed}
    for path in ("/apis/apps", "/apis/apps/v1", "/apis/sandboxer.dev/v9", "/api/v2"):
        assert (await client.get(path)).status_code == 404


async def test_short_names_are_given_once(client: httpx.AsyncClient) -> None:
    """Two resources with the same short name would make kubectl warn at every use."""
    items = []
    for path in ("/api", "/apis"):
        items += (await client.get(path, headers={"accept": V2})).json()["items"]

    names = [
        name
        for item in items
        for version in item["versions"]
        for resource in version["resources"]
        for name in resource.get("shortNames", [])
    ]

    assert len(names) == len(set(names))
    assert "ev" in names


@pytest.mark.parametrize(
    ("accept", "version"),
    [
        pytest.param(f"{V2},{V2BETA1},application/json", "v2", id="kubectl 1.32"),
        pytest.param(f"{V2BETA1},application/json", "v2beta1", id="kubectl 1.29"),
    ],
)
async def test_the_aggregated_form_is_one_the_client_knows(
    client: httpx.AsyncClient, accept: str, version: str
) -> None:
    """The newest form the client lists, named in the media type; v2 only to those who list it."""
    answer = await client.get("/apis", headers={"accept": accept})

    document: Any = answer.json()
    assert answer.headers["content-type"] == (
        f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
    )
    assert document["apiVersion"] == f"apidiscovery.k8s.io/{version}"
    (ours,) = document["items"][0]["versions"]
    sandboxes = ours["resources"][0]
    assert (sandboxes["resource"], sandboxes["scope"]) == ("sandboxes", "Namespaced")
    assert sandboxes["subresources"][0]["subresource"] == "status"
    assert sandboxes["subresources"][0]["responseKind"] == sandboxes["responseKind"]


@pytest.mark.parametrize("accept", ["application/json", "*/*", "application/json;v=v2"])
async def test_everybody_else_gets_the_legacy_form(client: httpx.AsyncClient, accept: str) -> None:
    """A client that names no aggregated form is not surprised by one."""
    answer = await client.get("/apis", headers={"accept": accept})

    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["kind"] == "APIGroupList"


@pytest.mark.parametrize("path", ["/api", "/apis"])
async def test_what_did_not_change_is_not_sent_again(client: httpx.AsyncClient, path: str) -> None:
    """The aggregated form has an ETag, and a client that has it already gets a 304."""
    first = await client.get(path, headers={"accept": V2})
    known = {"accept": V2, "if-none-match": first.headers["etag"]}
    again = await client.get(path, headers=known)
    other_form = await client.get(path, headers=known | {"accept": V2BETA1})

    assert (again.status_code, again.content) == (304, b"")
    assert other_form.status_code == 200
    assert first.headers["vary"] == "Accept"


async def test_the_version_is_one_kubectl_is_at_peace_with(client: httpx.AsyncClient) -> None:
    """All fields of Kubernetes' version are there."""
    version = (await client.get("/version")).json()

    assert (version["major"], version["minor"]) == ("1", "32")
    assert version["gitVersion"].startswith("v1.32.0+sandboxer-")
    assert set(version) == {
        "major", "minor", "gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion",
        "compiler", "platform",
    }  # fmt: skip
