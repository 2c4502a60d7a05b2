"""The schemas are what the models say: for Kubernetes, for editors, for readers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from sandboxer.kinds import schema, tables
from sandboxer.kinds.catalog import DECLARABLE_KINDS, KINDS
from sandboxer.kinds.meta import API_VERSION, GROUP
from sandboxer.sources.documents import read_documents

CHECKOUT = Path(__file__).parents[3]
MANIFESTS = sorted(
    path
    for folder in ("examples", "profiles", "extensions", "specs")
    for path in (CHECKOUT / folder).rglob("*.yaml")
    if path.name != "compose.yaml"
)
declarable = pytest.mark.parametrize("kind", DECLARABLE_KINDS)


def validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(schema.json_schema(KINDS[kind]))


def refused_by_model(kind: str, document: object) -> bool:
    try:
        KINDS[kind].parse(document)
    except ValidationError:
        return True
    return False


def manifest(kind: str = "Sandbox", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "a"}, "spec": spec}


def test_the_generated_files_are_up_to_date() -> None:
    """`crds/`, the editors' schemas and the tables of `docs/spec` follow the models."""
    stale = [
        str(path)
        for path, text in schema.generated_files(CHECKOUT).items()
        if not path.exists() or path.read_text() != text
    ]

    assert stale == [], "run `make crds`"


def test_the_crd_says_where_the_replicas_are() -> None:
    """A kind that can be scaled says so to a Kubernetes API server too."""
    (version,) = schema.custom_resource_definition(KINDS["SandboxPool"])["spec"]["versions"]

    assert version["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_page_with_its_table(kind: str) -> None:
    """A page per kind, with the marks between which its fields are listed."""
    page = (CHECKOUT / f"docs/spec/{kind.lower()}.md").read_text()

    assert tables.field_table(schema.json_schema(KINDS[kind])) in page


def test_a_stale_file_is_named_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` writes nothing and fails; without it the files are written, once."""
    monkeypatch.chdir(tmp_path)

    missing = schema.main(["--check"])
    untouched = list(tmp_path.iterdir())
    written = schema.main([])
    capsys.readouterr()
    current = schema.main(["--check"])
    (tmp_path / f"crds/{GROUP}_hosts.yaml").write_text("changed by hand\n")
    stale = schema.main(["--check"])

    assert (missing, untouched, written, current, stale) == (1, [], 0, 0, 1)
    assert f"{GROUP}_hosts.yaml" in capsys.readouterr().out


def nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema below *node* with its path."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from nodes(node[key], f"{path}[]")


@declarable
def test_the_crd_has_a_structural_schema(kind: str) -> None:
    """What an API server demands of every node, so that a CRD is accepted and prunes right."""
    for path, node in nodes(schema.structural_schema(KINDS[kind])):
        preserves = node.get("x-kubernetes-preserve-unknown-fields") is True
        assert isinstance(node.get("type"), str) or preserves, path
        assert not {"$ref", "$defs", "const", "oneOf", "allOf", "not", "title", "propertyNames",
                    "patternProperties", "examples"} & set(node), path  # fmt: skip
        assert not ({"properties", "additionalProperties"} <= set(node)), path
        assert node.get("additionalProperties") is not False, path
        assert node.get("type") != "array" or "items" in node, path
        if node.get("x-kubernetes-list-type") == "map":
            item = node["items"]
            for key in node["x-kubernetes-list-map-keys"]:
                assert key in item["required"] or "default" in item["properties"][key], path
        for alternative in node.get("anyOf", ()):
            assert not {"default", "description", "properties"} & set(alternative), path


@declarable
def test_defaults_of_the_crd_fit_their_own_field(kind: str) -> None:
    """An API server refuses a CRD whose default is not valid."""
    for path, node in nodes(schema.structural_schema(KINDS[kind])):
        if "default" in node:
            plain = {key: value for key, value in node.items() if key != "example"}
            assert Draft202012Validator(plain).is_valid(node["default"]), path


@declarable
def test_the_crd_names_the_kind_as_the_model_does(kind: str) -> None:
    """Names, scope, columns and the status subresource."""
    model = KINDS[kind]
    definition = schema.custom_resource_definition(model)
    (version,) = definition["spec"]["versions"]

    assert definition["metadata"]["name"] == f"{model.plural}.{GROUP}"
    assert definition["spec"]["scope"] == ("Namespaced" if model.namespaced else "Cluster")
    assert definition["spec"]["names"]["shortNames"] == list(model.short_names)
    assert ("scale" in version["subresources"]) == (KINDS[kind].scale is not None)
    assert version["subresources"]["status"] == {}
    assert len(version["additionalPrinterColumns"]) == len(model.columns)


@declarable
def test_the_editors_schema_is_one_itself(kind: str) -> None:
    """Self-contained, of the newest draft, and every field says what it means."""
    document = schema.json_schema(KINDS[kind])

    Draft202012Validator.check_schema(document)
    assert "$ref" not in json.dumps(document)
    for path, node in nodes(document["properties"]["spec"]):
        for name, child in node.get("properties", {}).items():
            assert child.get("description"), f"{path}.{name}"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_every_manifest_that_ships_is_accepted_by_both(path: Path) -> None:
    """Model and editor agree about our own examples and profiles."""
    documents = read_documents(path.read_text(), str(path))

    for written in yaml.safe_load_all(path.read_text()):
        if written is not None:
            validator(written["kind"]).validate(written)
    assert documents or path.parent.name == "specs"


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(manifest(), id="empty-spec"),
        pytest.param({k: v for k, v in manifest().items() if k != "spec"}, id="no-spec"),
        pytest.param(manifest(inputs={"a": 1, "b": "x", "c": True, "d": 0.5}), id="inputs"),
        pytest.param(manifest(resources={"cpu": "500m", "memory": "1Gi", "pids": 9}), id="limits"),
        pytest.param(manifest(lifetime={"ttl": "1h30m"}), id="ttl"),
        pytest.param(manifest(ports=[{"name": "web", "containerPort": 80}]), id="ports"),
        pytest.param(manifest(secretRefs=[{"name": "T", "fromFile": "/t"}]), id="secret"),
        pytest.param(manifest(placement={"hostSelector": {"matchLabels": {"a": "b"}}}), id="place"),
        pytest.param(manifest("Host", transport="local"), id="host-local"),
        pytest.param(manifest("Host", address="h1", portRange={"first": 2000}), id="host-ssh"),
        pytest.param(manifest("Profile", candidates=[{"extension": "ext.local"}]), id="profile"),
        pytest.param(manifest("Extension"), id="extension"),
        pytest.param(manifest("SandboxPool", template={"spec": {"env": {"A": "b"}}}), id="pool"),
    ],
)
def test_what_the_model_accepts_the_editor_accepts(document: dict[str, Any]) -> None:
    """An editor underlines nothing that works."""
    KINDS[document["kind"]].parse(document)

    validator(document["kind"]).validate(document)


_BAD_SPECS: dict[str, list[dict[str, Any]]] = {
    "Sandbox": [
        {"unknown": 1},
        {"drift_policy": "Repair"},
        {"driftPolicy": "repair"},
        {"operatingMode": True},
        {"profile": ""},
        {"profile": "../x"},
        {"profile": "a" * 64},
        {"inputs": {"a": []}},
        {"inputs": {"a": None}},
        {"inputs": []},
        {"env": {"A": 1}},
        {"env": {"1A": "x"}},
        {"env": {"A=B": "x"}},
        {"env": {"": "x"}},
        {"secretRefs": [{"fromFile": "/x"}]},
        {"secretRefs": [{"name": "A-B", "fromFile": "/x"}]},
        {"lifetime": {"ttl": "5"}},
        {"lifetime": {"ttl": 5}},
        {"lifetime": {"ttl": "P1Y"}},
        {"lifetime": {"ttl": "-1s"}},
        {"resources": {"memory": "1e99"}},
        {"resources": {"memory": "1KiB"}},
        {"resources": {"cpu": "1.2345"}},
        {"resources": {"pids": 0}},
        {"resources": {"pids": True}},
        {"resources": {"pids": "9"}},
        {"ports": [{"name": "w", "containerPort": 0}]},
        {"ports": [{"name": "w", "containerPort": 65536}]},
        {"ports": [{"name": "w"}]},
        {"ports": [{"name": f"p{n}", "containerPort": 80} for n in range(33)]},
        {"ports": {}},
        {"isolation": {"minimum": "strong"}},
        {"placement": {"host": "-oProxyCommand=x"}},
        {"placement": {"hostSelector": {"matchLabels": {"a b": "c"}}}},
        {"actor": {"project": "a\nb"}},
    ],
    "Host": [
        {"address": "-oProxyCommand=id"},
        {"address": "user@h"},
        {"address": ""},
        {"address": "h", "port": 0},
        {"address": "h", "port": 65536},
        {"address": "h", "port": -1},
        {"address": "h", "port": "22"},
        {"address": "h", "port": True},
        {"address": "h", "user": "-l"},
        {"address": "h", "user": "a b"},
        {"address": "h", "identityFile": "key"},
        {"address": "h", "hostKey": "ssh-dss AAAA"},
        {"address": "h", "workRoot": "/"},
        {"address": "h", "workRoot": "relative"},
        {"address": "h", "workRoot": "/$HOME"},
        {"address": "h", "composeCommand": []},
        {"address": "h", "composeCommand": "docker compose"},
        {"address": "h", "capacity": {"sandboxes": -1}},
        {"address": "h", "portRange": {"first": 80}},
        {"transport": "telnet", "address": "h"},
    ],
    "Profile": [{}, {"candidates": []}, {"candidates": [{}]}, {"candidates": "ext.local"}],
    "Extension": [{"entryPoint": "a b"}, {"entry_point": "a"}],
    "SandboxPool": [
        {"replicas": -1},
        {"replicas": 1001},
        {"replicas": "3"},
        {"updatePolicy": "replace"},
        {"profile": "profile.local"},
        {"template": {"metadata": {"name": "x"}}},
        {"template": {"metadata": {"labels": {"a b": "c"}}}},
        {"template": {"spec": {"driftPolicy": "repair"}}},
    ],
}


@pytest.mark.parametrize(
    ("kind", "spec"), [(kind, spec) for kind, specs in _BAD_SPECS.items() for spec in specs]
)
def test_a_bad_spec_is_refused_by_both(kind: str, spec: dict[str, Any]) -> None:
    """What a model refuses an editor underlines."""
    document = manifest(kind) | {"spec": spec}

    assert refused_by_model(kind, document)
    assert not validator(kind).is_valid(document)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"secretRefs": [{"name": "A"}]}, id="secret-without-source"),
        pytest.param({"secretRefs": [{"name": "A", "fromFile": "/a", "fromEnv": "B"}]}, id="two"),
        pytest.param({"ports": [{"name": "w", "containerPort": 80}] * 2}, id="port-twice"),
        pytest.param(
            {"env": {"A": "1"}, "secretRefs": [{"name": "A", "fromFile": "/a"}]}, id="env-twice"
        ),
        pytest.param({"lifetime": {"ttl": "0s"}}, id="no-time"),
    ],
)
def test_what_only_the_model_can_tell_is_refused_there(spec: dict[str, Any]) -> None:
    """Rules across fields are the model's; an editor may not see them."""
    assert refused_by_model("Sandbox", manifest() | {"spec": spec})


def test_a_profile_names_each_extension_once() -> None:
    """A sandbox keeps the name of its extension, so its candidate must be found again by that."""
    gpu = {"extension": "x", "hostSelector": {"matchLabels": {"gpu": "yes"}}}

    assert refused_by_model("Profile", manifest("Profile", candidates=[gpu, {"extension": "x"}]))
    assert not refused_by_model(
        "Profile", manifest("Profile", candidates=[gpu, {"extension": "y"}])
    )


@pytest.mark.parametrize("spec", [{}, {"portRange": {"first": 3000, "last": 2000}, "address": "h"}])
def test_a_host_needs_an_address_and_ports_in_order(spec: dict[str, Any]) -> None:
    """Rules across the fields of a Host."""
    assert refused_by_model("Host", manifest("Host") | {"spec": spec})


@declarable
@pytest.mark.parametrize("left_out", ["apiVersion", "kind", "metadata"])
def test_a_manifest_says_what_it_is(kind: str, left_out: str) -> None:
    """An editor asks for the three fields that identify an object."""
    spec = {"Host": {"transport": "local"}, "Profile": {"candidates": [{"extension": "x"}]}}
    document = manifest(kind) | {"spec": spec.get(kind, {})}

    assert validator(kind).is_valid(document)
    assert not validator(kind).is_valid({k: v for k, v in document.items() if k != left_out})
