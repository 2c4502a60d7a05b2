"""Whatever is sent, the answer is a `Status` or an object, and never an error of the server."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandboxer.api.app import create_app
from sandboxer.clock import SystemClock
from sandboxer.registry import Registry
from sandboxer.store import Store

SANDBOXES = "/apis/sandboxer.dev/v1alpha1/namespaces/default/sandboxes"

OWNERS = [{"manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsV1": {"k:{": {}}}]
NAMES = st.sampled_from(
    ["metadata", "spec", "status", "name", "namespace", "labels", "finalizers", "managedFields",
     "ownerReferences", "uid", "resourceVersion", "generateName", "env", "ports", "conditions",
     "driftPolicy", "kind", "apiVersion", "foo"]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8),
    st.sampled_from(["a", "Sandbox", "v1", OWNERS, [{}], [{"name": "p"}, {"name": "p"}]]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
POINTERS = st.lists(NAMES, max_size=3).map(lambda parts: "".join(f"/{part}" for part in parts))
OPERATIONS = st.lists(
    st.fixed_dictionaries(
        {
            "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]),
            "path": POINTERS,
        },
        optional={"from": POINTERS, "value": VALUES},
    ),
    max_size=4,
)
# Whole documents of the right outline get further than any value does.
DOCUMENTS = st.fixed_dictionaries(
    {"metadata": st.fixed_dictionaries({"name": st.just("a")}) | VALUES, "spec": VALUES}
)
BODIES = VALUES | DOCUMENTS
REQUESTS = st.one_of(
    st.tuples(st.just("POST"), st.just(""), st.just("application/json"), BODIES),
    st.tuples(
        st.just("PUT"), st.sampled_from(["/a", "/a/status"]), st.just("application/json"), BODIES
    ),
    st.tuples(
        st.just("PATCH"),
        st.sampled_from(["/a", "/a/status"]),
        st.sampled_from(["application/merge-patch+json", "application/apply-patch+yaml"]),
        BODIES,
    ),
    st.tuples(st.just("PATCH"), st.just("/a"), st.just("application/json-patch+json"), OPERATIONS),
    st.tuples(st.just("DELETE"), st.sampled_from(["/a", ""]), st.just("application/json"), BODIES),
)


async def ask(requests: list[tuple[str, str, str, Any]]) -> list[httpx.Response]:
    """Send the requests in order to a store that has the sandbox `a`."""
    with tempfile.TemporaryDirectory() as directory:
        store = await Store.open(Path(directory) / "store.db", clock=SystemClock())
        try:
            app = create_app(store, registry=Registry(loaded={}, problems={}))
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
                await client.post(SANDBOXES, json={"metadata": {"name": "a"}})
                return [
                    await client.request(
                        method,
                        f"{SANDBOXES}{path}?fieldManager=me",
                        content=json.dumps(body),
                        headers={"content-type": type_},
                    )
                    for method, path, type_, body in requests
                ]
        finally:
            await store.close()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow]
)  # fmt: skip
@given(st.lists(REQUESTS, min_size=1, max_size=12))
def test_no_write_is_an_error_of_the_server(requests: list[tuple[str, str, str, Any]]) -> None:
    """Every body is stored or refused with a reason."""
    for answer in asyncio.run(ask(requests)):
        document = answer.json()
        assert answer.status_code < 500, document
        assert document["kind"] in ("Sandbox", "SandboxList", "Status")
        if document["kind"] == "Status" and answer.status_code != 200:
            assert document["reason"] != "Unknown"
            assert document["message"]
