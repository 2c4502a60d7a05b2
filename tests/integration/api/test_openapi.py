"""The OpenAPI documents: what kubectl reads in them, and that they are true."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from jsonschema import Draft202012Validator

from sandboxer.api.app import create_app
from sandboxer.api.resources import SERVED
from sandboxer.kinds.meta import ObjectMeta
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import EventRecorder, Store
from sandboxer.testing.clock import ManualClock

OURS = "apis/sandboxer.dev/v1alpha1"
GVK = {"group": "sandboxer.dev", "version": "v1alpha1", "kind": "Sandbox"}
V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


async def index(client: httpx.AsyncClient) -> dict[str, str]:
    paths = (await client.get("/openapi/v3")).json()["paths"]
    return {name: entry["serverRelativeURL"] for name, entry in paths.items()}


@pytest.fixture
async def document(client: httpx.AsyncClient) -> Any:
    return (await client.get(f"/openapi/v3/{OURS}")).json()


async def test_the_index_names_a_document_per_version(client: httpx.AsyncClient) -> None:
    """Each address carries the hash of what is there."""
    found = await index(client)

    assert set(found) == {
        OURS, "api/v1", "apis/events.k8s.io/v1", "apis/authentication.k8s.io/v1",
        "apis/authorization.k8s.io/v1",
    }  # fmt: skip
    for url in found.values():
        answer = await client.get(url)
        assert answer.status_code == 200
        assert answer.headers["etag"] == f'"{parse_qs(urlsplit(url).query)["hash"][0]}"'


async def test_a_document_may_be_kept_under_its_hash(client: httpx.AsyncClient) -> None:
    """With the right hash for ever, without one for no time, and with an old one elsewhere."""
    url = (await index(client))[OURS]
    kept = await client.get(url)
    bare = await client.get(f"/openapi/v3/{OURS}")
    stale = await client.get(f"/openapi/v3/{OURS}?hash=0")
    known = await client.get(url, headers={"if-none-match": kept.headers["etag"]})

    assert kept.headers["cache-control"] == "public, immutable"
    assert kept.headers["expires"].endswith("GMT")
    assert (bare.headers["cache-control"], bare.content) == ("no-cache, private", kept.content)
    assert (stale.status_code, stale.headers["location"]) == (301, url)
    assert (known.status_code, known.content) == (304, b"")
    assert (await client.get("/openapi/v3/apis/apps/v1")).status_code == 404


def test_kubectl_finds_how_to_write(document: Any) -> None:
    """It looks for the GVK as an object, the parameter, and the types of a patch."""
    patch = document["paths"][f"/{OURS}/namespaces/{{namespace}}/sandboxes/{{name}}"]["patch"]

    assert patch["x-kubernetes-group-version-kind"] == GVK
    assert "fieldValidation" in [parameter["name"] for parameter in patch["parameters"]]
    # NOTE: naming strategic merge would make kubectl use it.
    assert set(patch["requestBody"]["content"]) == {
        "application/apply-patch+yaml", "application/json-patch+json",
        "application/merge-patch+json",
    }  # fmt: skip


def test_kubectl_finds_what_to_explain(document: Any) -> None:
    """It looks for a component with the GVK in a list, and for texts below it."""
    schemas = document["components"]["schemas"]
    (found,) = [s for s in schemas.values() if GVK in s.get("x-kubernetes-group-version-kind", [])]

    lifetime = found["properties"]["spec"]["properties"]["lifetime"]
    assert found["description"] == "One isolated environment."
    assert "expires" in lifetime["properties"]["ttl"]["description"]
    assert schemas["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]["properties"]["labels"]


async def test_every_reference_leads_somewhere(client: httpx.AsyncClient) -> None:
    """No path or schema refers to a component that is not there, and none is named twice."""
    for url in (await index(client)).values():
        document = (await client.get(url)).json()
        schemas = document["components"]["schemas"]
        operations = [
            operation
            for path in document["paths"].values()
            for method, operation in path.items()
            if method != "parameters"
        ]

        wanted = {ref.rpartition("/")[2] for ref in references(document)}
        ids = [operation["operationId"] for operation in operations]

        assert wanted <= set(schemas)
        assert len(ids) == len(set(ids))


def references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [ref for item in node for ref in references(item)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return own + [ref for item in node.values() for ref in references(item)]


async def test_every_verb_that_is_discovered_is_described(client: httpx.AsyncClient) -> None:
    """What a resource can do and what its paths say are the same."""
    methods = {
        "list": "get", "create": "post", "deletecollection": "delete",
        "get": "get", "update": "put", "patch": "patch", "delete": "delete",
    }  # fmt: skip
    for served in SERVED:
        root = f"apis/{served.group}/{served.version}" if served.group else "api/v1"
        paths = (await client.get(f"/openapi/v3/{root}")).json()["paths"]
        where = "namespaces/{namespace}/" if served.namespaced else ""
        collection = paths[f"/{root}/{where}{served.plural}"]
        one = paths[f"/{root}/{where}{served.plural}/{{name}}"]

        on_collection = {v for v in ("list", "create", "deletecollection") if v in served.verbs}
        on_one = {v for v in ("get", "update", "patch", "delete") if v in served.verbs}

        assert set(collection) - {"parameters"} == {methods[verb] for verb in on_collection}
        assert set(one) - {"parameters"} == {methods[verb] for verb in on_one}


async def test_every_path_is_served(client: httpx.AsyncClient, store: Store) -> None:
    """No described path is unknown to the application."""
    del store
    application = create_app()
    for url in (await index(client)).values():
        for path, item in (await client.get(url)).json()["paths"].items():
            concrete = path.replace("{namespace}", "n").replace("{name}", "x")
            for method in set(item) - {"parameters"}:
                scope = {"type": "http", "method": method.upper(), "path": concrete}
                assert any(
                    route.matches(scope)[0].name == "FULL" for route in application.router.routes
                ), (method, path)


@pytest.mark.parametrize("path", ["/api/v1/events", "/apis/sandboxer.dev/v1alpha1/sandboxes"])
async def test_answers_are_as_described(client: httpx.AsyncClient, store: Store, path: str) -> None:
    """What is listed is valid by the schema of the list."""
    created = await store.create(
        Sandbox(metadata=ObjectMeta(name="a", namespace="default", labels={"app": "web"}))
    )
    await EventRecorder(store, ManualClock()).record(created, "Tested", "It was tested.")
    document = (await client.get(f"/openapi/v3/{path[1 : path.rindex('/')]}")).json()
    response = document["paths"][path]["get"]["responses"]["200"]
    schema = response["content"]["application/json"]["schema"]

    answer = (await client.get(path)).json()

    assert answer["items"]
    Draft202012Validator({**schema, "components": document["components"]}).validate(answer)


async def test_version_2_is_what_kubectl_can_read(client: httpx.AsyncClient) -> None:
    """Protobuf under a media type that is one, and JSON for everybody else."""
    protobuf = await client.get("/openapi/v2", headers={"accept": V2_PROTOBUF})
    json_ = await client.get("/openapi/v2")

    assert protobuf.headers["content-type"] == V2_PROTOBUF.replace("@", ".")
    assert protobuf.content[:5] == b"\n\x032.0"
    assert json_.json()["swagger"] == "2.0"
