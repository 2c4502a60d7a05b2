"""
Schemas of the kinds, generated: CRDs for Kubernetes, JSON Schemas for editors, tables for docs.

`python -m sandboxer.kinds.schema` writes `crds/*.yaml`, `crds/jsonschema/*.json` and the field
tables of `docs/spec/*.md` below the current directory; `--check` writes nothing and fails when one
of them is out of date. The models are the only source; what a schema says more than a model (CEL
rules, list keys) stands in the model as `json_schema_extra`.

Two dialects come out of one resolved schema (no `$ref`). The editor's is JSON Schema 2020-12. The
CRD's is a *structural schema*: each field has exactly one `type`, no `anyOf` around types, and
unknown shapes are marked `x-kubernetes-preserve-unknown-fields`.

Not in the CRDs, although the models check it: patterns of map keys (labels, names of environment
variables). CEL could say it, at a cost an API server may refuse to estimate.

Source:
    "Structural schemas", Kubernetes documentation, apiextensions.k8s.io/v1, `CustomResourceDefinition`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from sandboxer.kinds import tables
from sandboxer.kinds.catalog import DECLARABLE_KINDS, KINDS
from sandboxer.kinds.meta import API_VERSION, GROUP, VERSION, Model, ObjectMeta, Resource

JSON = dict[str, Any]

SCHEMA_URL = f"https://{GROUP}/schemas/{VERSION}"
"""Base of the editor schemas' `$id`; a name, nothing is fetched from there."""

CATEGORIES = ("all", GROUP.partition(".")[0])
"""`kubectl get all` and `kubectl get sandboxer` show these kinds."""

# What pydantic says for Python readers, and what only one of the two dialects understands.
_NEVER_IN_SCHEMA = {"title"}
_CRD_ONLY = "x-kubernetes-"


def json_schema(model: type[Resource]) -> JSON:
    """
    Return the JSON Schema (2020-12) of what a manifest of this kind may hold.

    Self-contained and without `$ref`; `apiVersion`, `kind` and `metadata` are required.
    """
    schema = _editor(_resolved(model))
    schema["required"] = sorted({"apiVersion", "kind", "metadata", *schema.get("required", ())})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{SCHEMA_URL}/{kind_of(model).lower()}.json",
        "title": kind_of(model),
        **schema,
    }


def custom_resource_definition(model: type[Resource]) -> JSON:
    """Return the CRD (`apiextensions.k8s.io/v1`) of a kind of our own group."""
    kind, singular = kind_of(model), kind_of(model).lower()
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{model.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if model.namespaced else "Cluster",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": model.plural,
                "singular": singular,
                "shortNames": list(model.short_names),
                "categories": list(CATEGORIES),
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": structural_schema(model)},
                    "subresources": _subresources(model),
                    "additionalPrinterColumns": _printer_columns(model),
                }
            ],
        },
    }


def structural_schema(model: type[Resource]) -> JSON:
    """Return the `openAPIV3Schema` of a kind; `metadata` is left to Kubernetes."""
    schema = _structural(_resolved(model))
    properties = schema["properties"]
    properties["apiVersion"] = {"type": "string"}
    properties["kind"] = {"type": "string"}
    properties["metadata"] = {"type": "object"}
    # A status subresource drops whatever a create says of status, its default included.
    properties.get("status", {}).pop("default", None)
    schema["required"] = [name for name in schema.get("required", ()) if name == "spec"]
    if not schema["required"]:
        del schema["required"]
    schema["x-kubernetes-validations"] = [
        {
            "rule": "self.metadata.name.size() <= 63",
            "message": "metadata.name may have at most 63 characters",
        }
    ]
    return schema


def metadata_schema() -> JSON:
    """Return the structural schema of `metadata`, which a CRD leaves to Kubernetes."""
    return _structural(_resolved(ObjectMeta))


def kind_of(model: type[Resource]) -> str:
    """Return the `kind` of a model."""
    return next(kind for kind, known in KINDS.items() if known is model)


def _subresources(model: type[Resource]) -> JSON:
    if model.scale is None:
        return {"status": {}}
    paths = model.scale
    return {
        "status": {},
        "scale": {
            "specReplicasPath": paths.spec_replicas,
            "statusReplicasPath": paths.status_replicas,
            "labelSelectorPath": paths.label_selector,
        },
    }


def _printer_columns(model: type[Resource]) -> list[JSON]:
    return [
        {
            "name": column.name,
            "type": column.type,
            "jsonPath": column.json_path,
            "priority": column.priority,
        }
        | ({"description": column.description} if column.description else {})
        for column in model.columns
    ]


def _resolved(model: type[Model]) -> JSON:
    """Return pydantic's schema with every `$ref` replaced by what it points to."""
    schema = model.model_json_schema(by_alias=True)
    definitions = schema.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        target = definitions[node["$ref"].rpartition("/")[2]] if "$ref" in node else {}
        # What stands beside a $ref (description, default) speaks of this field, so it wins.
        merged = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
        return {key: _plain_default(value) if key == "default" else resolve(value)
                for key, value in merged.items()}  # fmt: skip

    resolved: JSON = resolve(schema)
    return resolved


def _plain_default(value: Any) -> Any:
    """Return a default without what is absent; models dump their unset fields as null."""
    if isinstance(value, dict):
        return {key: _plain_default(item) for key, item in value.items() if item is not None}
    return value


def _subschemas(node: JSON) -> JSON:
    """Return *node* with pydantic's form of a checked map turned into the plain one."""
    patterns = node.get("patternProperties")
    if not patterns:
        return node
    [(pattern, values)] = patterns.items()
    plain = {key: value for key, value in node.items() if key != "patternProperties"}
    names = {**node.get("propertyNames", {}), "pattern": pattern}
    return {**plain, "propertyNames": names, "additionalProperties": values}


def _editor(node: JSON) -> JSON:
    node = _subschemas(node)
    result: JSON = {}
    for key, value in node.items():
        if key in _NEVER_IN_SCHEMA or key.startswith(_CRD_ONLY):
            continue
        if key == "example":
            result["examples"] = [value]
        elif key == "default" and value is None:
            continue
        else:
            result[key] = _walk(key, value, _editor)
    return result


def _structural(node: JSON) -> JSON:
    node = _subschemas(node)
    alternatives = [item for item in node.get("anyOf", ()) if item.get("type") != "null"]
    rest = {key: value for key, value in node.items() if key not in ("anyOf", *_NEVER_IN_SCHEMA)}
    if len(alternatives) == 1:
        # Optional: Kubernetes drops a null where the field is not nullable, which is what we mean.
        rest = {**alternatives[0], **rest}
        rest.pop("title", None)
    elif alternatives or not _shape(rest):
        rest["x-kubernetes-preserve-unknown-fields"] = True
    if rest.get("additionalProperties") is True:
        del rest["additionalProperties"]
        rest["x-kubernetes-preserve-unknown-fields"] = True
    elif rest.get("additionalProperties") is False:
        del rest["additionalProperties"]  # pruning is how Kubernetes refuses or drops them
    if "const" in rest:
        rest["enum"] = [rest.pop("const")]
    if rest.get("default", ...) is None:
        del rest["default"]
    rest.pop("propertyNames", None)
    return {key: _walk(key, value, _structural) for key, value in rest.items()}


def _shape(node: JSON) -> bool:
    return "type" in node


def _walk(key: str, value: Any, convert: Any) -> Any:
    """Apply *convert* to the schemas below one keyword and leave everything else as it is."""
    if key == "properties":
        return {name: convert(child) for name, child in value.items()}
    if key in ("items", "additionalProperties", "propertyNames") and isinstance(value, dict):
        return convert(value)
    if key == "anyOf":
        return [convert(child) for child in value]
    return value


def generated_files(root: Path) -> dict[Path, str]:
    """
    Return the content of every generated file below *root*, by path.

    Pages of `docs/spec` are read, and only the part between their marks is replaced.
    """
    files: dict[Path, str] = {}
    for kind in DECLARABLE_KINDS:
        model = KINDS[kind]
        definition = custom_resource_definition(model)
        files[root / "crds" / f"{GROUP}_{model.plural}.yaml"] = _as_yaml(definition)
        files[root / "crds/jsonschema" / f"{kind.lower()}.json"] = (
            json.dumps(json_schema(model), indent=2, ensure_ascii=False) + "\n"
        )
    for kind, model in KINDS.items():
        page = root / "docs/spec" / f"{kind.lower()}.md"
        if page.exists():
            files[page] = tables.replace_table(page.read_text("utf-8"), json_schema(model))
    return files


def _as_yaml(document: JSON) -> str:
    text: str = yaml.safe_dump(document, sort_keys=False, width=100, allow_unicode=True)
    return f"# Generated by `python -m sandboxer.kinds.schema` from {API_VERSION}; do not edit.\n{text}"


def main(arguments: list[str] | None = None) -> int:
    """Write the generated files, or with `--check` name those out of date; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sandboxer.kinds.schema", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when stale")
    check: bool = parser.parse_args(arguments).check
    stale = [
        (path, text)
        for path, text in generated_files(Path.cwd()).items()
        if not path.exists() or path.read_text("utf-8") != text
    ]
    for path, text in stale:
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        sys.stdout.write(
            f"{'out of date' if check else 'written'}: {path.relative_to(Path.cwd())}\n"
        )
    if check and stale:
        sys.stdout.write("Run `make crds` and commit the result.\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
