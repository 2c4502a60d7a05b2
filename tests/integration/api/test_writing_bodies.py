"""What may come in a body, and what is said about its fields."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from sandboxer.store import Store

GROUP = "/apis/sandboxer.dev/v1alpha1"
SANDBOXES = f"{GROUP}/namespaces/default/sandboxes"
UNKNOWN = {"metadata": {"name": "a", "labelz": {}}, "spec": {"foo": 1, "ports": [
    {"name": "p", "containerPort": 80, "bar": 2}]}}  # fmt: skip
PATHS = {"metadata.labelz", "spec.foo", "spec.ports[0].bar"}


def kinds(store: Store) -> list[str]:
    return [entry.key.name for entry in store.entries("Sandbox")]


async def test_unknown_fields_strict(client: httpx.AsyncClient, store: Store) -> None:
    """With Strict every unknown field is named and nothing is stored."""
    answer = await client.post(f"{SANDBOXES}?fieldValidation=Strict", json=UNKNOWN)

    message = answer.json()["message"]
    assert (answer.status_code, answer.json()["reason"]) == (400, "BadRequest")
    assert "strict decoding error: " in message
    assert all(f'unknown field "{path}"' in message for path in PATHS)
    assert kinds(store) == []


@pytest.mark.parametrize("query", ["", "?fieldValidation=Warn"], ids=["default", "warn"])
async def test_unknown_fields_warn(client: httpx.AsyncClient, query: str) -> None:
    """With Warn, which is the default, they are named in headers and left out."""
    answer = await client.post(f"{SANDBOXES}{query}", json=UNKNOWN)

    warnings = answer.headers.get_list("warning")
    assert answer.status_code == 201
    assert all(rf'299 - "unknown field \"{path}\""' in warnings for path in PATHS)
    assert "foo" not in answer.json()["spec"]
    assert answer.json()["spec"]["ports"] == [{"name": "p", "containerPort": 80}]


async def test_a_refusal_warns_too(client: httpx.AsyncClient) -> None:
    """Whoever has to correct a document hears of its unknown fields at the same time."""
    body = {"metadata": {"name": "a"}, "spec": {"foo": 1, "driftPolicy": "Nope"}}

    answer = await client.post(SANDBOXES, json=body)

    assert answer.status_code == 422
    assert answer.headers.get_list("warning") == [r'299 - "unknown field \"spec.foo\""']


async def test_unknown_fields_ignore(client: httpx.AsyncClient) -> None:
    """With Ignore they are left out silently."""
    answer = await client.post(f"{SANDBOXES}?fieldValidation=Ignore", json=UNKNOWN)

    assert answer.status_code == 201
    assert not any("unknown" in text for text in answer.headers.get_list("warning"))


async def test_free_fields_are_kept(client: httpx.AsyncClient) -> None:
    """Where the schema leaves the keys to the author, no key is unknown."""
    schema = {"type": "object", "properties": {"repo": {"type": "string"}}}
    spec = {"candidates": [{"extension": "ext.local"}], "inputsSchema": schema}
    body = {"metadata": {"name": "p", "labels": {"a.b/c": "d"}}, "spec": spec}

    answer = await client.post(f"{GROUP}/profiles?fieldValidation=Strict", json=body)

    assert answer.status_code == 201, answer.text
    assert answer.json()["spec"]["inputsSchema"] == schema
    assert answer.json()["metadata"]["labels"] == {"a.b/c": "d"}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        pytest.param('{"metadata":{"name":"a"},"spec":{},"spec":{}}', "spec", id="top"),
        pytest.param(
            '{"metadata":{"name":"a"},"spec":{"env":{"A":"1","A":"2"}}}', "spec.env.A", id="deep"
        ),
        pytest.param(
            '{"metadata":{"name":"a"},"spec":{"ports":[{"name":"p","name":"q","containerPort":1}]}}',
            "spec.ports[0].name",
            id="list",
        ),
    ],
)
async def test_doubled_keys(client: httpx.AsyncClient, text: str, path: str) -> None:
    """A key that stands twice is refused or warned of like an unknown one."""
    headers = {"content-type": "application/json"}

    strict = await client.post(f"{SANDBOXES}?fieldValidation=Strict", content=text, headers=headers)
    warned = await client.post(SANDBOXES, content=text, headers=headers)

    assert strict.status_code == 400
    assert f'duplicate field "{path}"' in strict.json()["message"]
    assert rf'299 - "duplicate field \"{path}\""' in warned.headers.get_list("warning")


async def test_every_problem_is_a_cause(client: httpx.AsyncClient) -> None:
    """A document with many mistakes is refused once, with all of them."""
    spec: dict[str, Any] = {
        "driftPolicy": "Nope",
        "env": {"1A": "x"},
        "ports": [{"name": "p"}],
        "secretRefs": "none",
        "lifetime": {"ttl": "soon"},
    }

    answer = await client.post(SANDBOXES, json={"metadata": {"name": "a"}, "spec": spec})

    status = answer.json()
    causes = {cause["field"]: cause for cause in status["details"]["causes"]}
    assert (answer.status_code, status["reason"]) == (422, "Invalid")
    assert {field: cause["reason"] for field, cause in causes.items()} == {
        "spec.driftPolicy": "FieldValueNotSupported",
        "spec.env.1A": "FieldValueInvalid",
        "spec.ports[0].containerPort": "FieldValueRequired",
        "spec.secretRefs": "FieldValueTypeInvalid",
        "spec.lifetime.ttl": "FieldValueInvalid",
    }
    assert causes["spec.driftPolicy"]["message"] == (
        'Unsupported value: "Nope": supported values: "Repair", "Report"'
    )
    assert status["details"] | {"causes": []} == {
        "name": "a", "group": "sandboxer.dev", "kind": "Sandbox", "causes": [],
    }  # fmt: skip
    assert status["message"].startswith('Sandbox.sandboxer.dev "a" is invalid: [')


async def test_nulls_are_absent(client: httpx.AsyncClient) -> None:
    """A null where a field has a default is the default, as Kubernetes has it."""
    body = {
        "metadata": {"name": "a", "creationTimestamp": None},
        "spec": {"driftPolicy": None, "lifetime": {"ttl": None}},
        "status": {},
    }

    answer = await client.post(f"{SANDBOXES}?fieldValidation=Strict", json=body)

    assert answer.status_code == 201, answer.text
    assert answer.json()["spec"]["driftPolicy"] == "Repair"


async def test_no_media_type_is_json(client: httpx.AsyncClient) -> None:
    """A body without Content-Type is JSON."""
    request = client.build_request("POST", SANDBOXES, content=b'{"metadata":{"name":"a"}}')
    assert "content-type" not in request.headers

    answer = await client.send(request)

    assert answer.status_code == 201


async def test_yaml(client: httpx.AsyncClient) -> None:
    """Whole objects may come as YAML."""
    text = "metadata:\n  name: a\nspec:\n  env:\n    A: 'no'\n"

    answer = await client.post(
        SANDBOXES, content=text, headers={"content-type": "application/yaml"}
    )

    assert answer.status_code == 201
    assert answer.json()["spec"]["env"] == {"A": "no"}


async def test_other_media_types(client: httpx.AsyncClient) -> None:
    """What cannot be read is answered with what can."""
    answer = await client.post(SANDBOXES, content="a", headers={"content-type": "text/plain"})

    assert (answer.status_code, answer.json()["reason"]) == (415, "UnsupportedMediaType")
    assert "application/json, application/yaml" in answer.json()["message"]


@pytest.mark.parametrize(
    ("content", "type_"),
    [
        pytest.param(b"{", "json", id="cut"),
        pytest.param(b"", "json", id="empty"),
        pytest.param(b"\xff\xfe{", "json", id="encoding"),
        pytest.param(b"[" * 100_000, "json", id="deep-open"),
        pytest.param(b'{"a":' * 70 + b"1" + b"}" * 70, "json", id="deep"),
        pytest.param(b'{"spec":' + b"9" * 5000 + b"}", "json", id="number"),
        pytest.param(b'{"spec":NaN}', "json", id="nan"),
        pytest.param(b"a: &a [x]\nb: *a\n", "yaml", id="alias"),
        pytest.param(b"a: !!python/object:os.system {}\n", "yaml", id="tag"),
        pytest.param(b"a: 1\na: 2\n", "yaml", id="doubled"),
        pytest.param(b"a: 1\n---\na: 2\n", "yaml", id="two-documents"),
        pytest.param(b"[" * 5000, "yaml", id="yaml-deep"),
        pytest.param(b"k8s\x00\xff\xff\xff", "vnd.kubernetes.protobuf", id="protobuf"),
    ],
)
async def test_hostile_bodies(client: httpx.AsyncClient, content: bytes, type_: str) -> None:
    """What is malformed, too deep or a bomb is a 400, and the server lives on."""
    answer = await client.post(
        SANDBOXES, content=content, headers={"content-type": f"application/{type_}"}
    )

    assert (answer.status_code, answer.json()["reason"]) == (400, "BadRequest")
    assert (await client.get(SANDBOXES)).status_code == 200


async def test_lone_surrogates(client: httpx.AsyncClient, store: Store) -> None:
    """Text that is no Unicode is refused as a value and can be named as a key."""
    value = b'{"metadata":{"name":"a"},"spec":{"env":{"A":"\\ud800"}}}'
    key = b'{"metadata":{"name":"a"},"\\ud800":1}'
    headers = {"content-type": "application/json"}

    refused = await client.post(SANDBOXES, content=value, headers=headers)
    warned = await client.post(SANDBOXES, content=key, headers=headers)

    assert refused.status_code == 422
    assert (warned.status_code, kinds(store)) == (201, ["a"])


async def test_size(client: httpx.AsyncClient) -> None:
    """More than 3 MiB are not read; less, but more than is stored, is a plain refusal."""
    big = {"metadata": {"name": "a", "annotations": {"a": "x" * (3 * 2**20)}}}
    wide = {"metadata": {"name": "a"}, "spec": {"env": {f"A{n}": "x" * 1000 for n in range(1800)}}}

    too_large = await client.post(SANDBOXES, json=big)
    not_stored = await client.post(SANDBOXES, json=wide)

    assert (too_large.status_code, too_large.json()["reason"]) == (413, "RequestEntityTooLarge")
    assert not_stored.status_code == 422
    assert "bytes" in not_stored.json()["message"]


async def test_many_doubled_keys_are_bounded(client: httpx.AsyncClient) -> None:
    """A body full of doubled keys is answered in a line that fits a header."""
    content = json.dumps({"metadata": {"name": "a"}, "spec": {}}).encode()
    doubled = b",".join(b'{"a":1,"a":2}' for _ in range(50_000))
    body = content[:-1] + b',"x":[' + doubled + b"]}"

    answer = await client.post(
        SANDBOXES, content=body, headers={"content-type": "application/json"}
    )

    warnings = answer.headers.get_list("warning")
    assert answer.status_code == 201
    assert 1 < len(warnings) <= 25
