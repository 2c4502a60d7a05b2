"""
The schemas of the API's documents: every kind, its list, and what all of them share.

Kinds of the store are described by their models (`sandboxer.kinds.schema`), so `kubectl explain`
and the pages in `docs/spec` say the same. What exists for clients only is written out here.

Source:
    The OpenAPI v3 documents of kube-apiserver v1.32, for names and for the extensions kubectl
    reads (`x-kubernetes-group-version-kind`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sandboxer.api.discovery import Review
from sandboxer.api.served import Served
from sandboxer.kinds import schema

JSON = dict[str, Any]

META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1"
SCALE: Final = "io.k8s.api.autoscaling.v1.Scale"

_API_VERSION: Final = {"type": "string", "description": "Version of the schema of this object."}
_KIND: Final = {"type": "string", "description": "What this object is."}
_TEXT: Final = {"type": "string"}
_ANYTHING: Final[JSON] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def reference(name: str) -> JSON:
    """Return a `$ref` to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def component_name(group: str, version: str, kind: str) -> str:
    """Return a component's name: `dev.sandboxer.v1alpha1.Sandbox`, `io.k8s.api.core.v1.Event`."""
    if group in ("", "events.k8s.io", "authorization.k8s.io", "authentication.k8s.io"):
        group = f"{group.partition('.')[0] or 'core'}.api.k8s.io"
    return ".".join([*reversed(group.split(".")), version, kind])


def name_of(resource: Served | Review) -> str:
    """Return the name of the component that describes a resource."""
    return component_name(resource.group, resource.version, resource.kind)


def components(resources: Iterable[Served | Review]) -> JSON:
    """Return all component schemas that the paths of *resources* refer to."""
    schemas = dict(_SHARED)
    for resource in resources:
        name = name_of(resource)
        if isinstance(resource, Review):
            schemas[name] = _review(resource)
            continue
        schemas[name] = _object(resource)
        schemas[f"{name}List"] = _list(resource, name)
        if "scale" in resource.subresources:
            schemas[SCALE] = _SCALE_SCHEMA
    return schemas


def kind_mark(group: str, version: str, kind: str) -> JSON:
    """Return the mark by which kubectl finds a schema or an operation."""
    return {"group": group, "version": version, "kind": kind}


def _object(served: Served) -> JSON:
    described = schema.structural_schema(served.model) if served.model else _projection(served)
    metadata = {"allOf": [reference(f"{META}.ObjectMeta")]}
    known = {
        "apiVersion": {**_API_VERSION, "enum": [served.group_version]},
        "kind": {**_KIND, "enum": [served.kind]},
        "metadata": metadata,
    }
    return described | {
        "properties": described["properties"] | known,
        "x-kubernetes-group-version-kind": [kind_mark(served.group, served.version, served.kind)],
    }


def _projection(served: Served) -> JSON:
    """Return the schema of objects that are made of others, as far as clients rely on it."""
    fields = _PROJECTED.get(served.plural, {})
    return {
        "type": "object",
        "description": "Read only; made of other objects.",
        "properties": dict(fields),
        "x-kubernetes-preserve-unknown-fields": True,
    }


def _list(served: Served, name: str) -> JSON:
    return {
        "type": "object",
        "description": f"A list of {served.plural}.",
        "required": ["items"],
        "properties": {
            "apiVersion": _API_VERSION,
            "kind": _KIND,
            "metadata": reference(f"{META}.ListMeta"),
            "items": {
                "type": "array",
                "description": "By namespace and name.",
                "items": reference(name),
            },
        },
        "x-kubernetes-group-version-kind": [
            kind_mark(served.group, served.version, f"{served.kind}List")
        ],
    }


def _review(review: Review) -> JSON:
    return {
        "type": "object",
        "description": "A question of a client about itself, answered in `status`.",
        "properties": {
            "apiVersion": _API_VERSION,
            "kind": _KIND,
            "metadata": _ANYTHING | {"description": "Empty."},
            "spec": _ANYTHING | {"description": "The question."},
            "status": _ANYTHING | {"description": "The answer."},
        },
        "x-kubernetes-group-version-kind": [kind_mark(review.group, review.version, review.kind)],
    }


def _described(description: str, **form: Any) -> JSON:
    return {**(form or _TEXT), "description": description}


_REFERENCE: Final = _ANYTHING | {"description": "The object it is about."}

_PROJECTED: Final[dict[str, JSON]] = {
    "pods": {
        "spec": _ANYTHING | {"description": "Containers, and the host they run on."},
        "status": _ANYTHING | {"description": "What the backend says of them."},
    },
    "events": {
        "action": _described("What was being done; sandboxer's own events leave it to the reason."),
        "eventTime": _described("When, if who noticed it says so.", type="string", nullable=True),
        "note": _described("A sentence."),
        "reason": _described("Stable CamelCase word."),
        "regarding": _REFERENCE,
        "reportingController": _described("Who noticed."),
        "reportingInstance": _described("Which one of several that notice; empty for sandboxer."),
        "type": _described("`Warning` when a person may have to act, else `Normal`."),
        "deprecatedCount": _described("How often it happened.", type="integer"),
        "deprecatedFirstTimestamp": _described("First time.", type="string", nullable=True),
        "deprecatedLastTimestamp": _described("Last time.", type="string", nullable=True),
        "deprecatedSource": _ANYTHING | {"description": "Who noticed."},
    },
}


def _object_meta() -> JSON:
    # A name may be left out where it is generated; the server adds it.
    return {key: value for key, value in schema.metadata_schema().items() if key != "required"}


_STATUS_CAUSE: Final = {
    "type": "object",
    "description": "One thing that is wrong.",
    "properties": {
        "field": _described("Path of the field in the object."),
        "message": _described("What is wrong with it."),
        "reason": _described("Stable word for programs."),
    },
}

_SHARED: Final[JSON] = {
    f"{META}.ObjectMeta": _object_meta(),
    f"{META}.ListMeta": {
        "type": "object",
        "description": "What is known of a list as a whole.",
        "properties": {
            "continue": _described("Token of the next page; absent on the last one."),
            "remainingItemCount": _described(
                "Objects after this page; only without selectors.", type="integer", format="int64"
            ),
            "resourceVersion": _described("Version that all objects are shown at."),
        },
    },
    f"{META}.Status": {
        "type": "object",
        "description": "How a request ended that returns no object.",
        "properties": {
            "apiVersion": _API_VERSION,
            "kind": _KIND,
            "metadata": reference(f"{META}.ListMeta"),
            "status": _described("Which of the two.", type="string", enum=["Success", "Failure"]),
            "code": _described("The HTTP status.", type="integer", format="int32"),
            "reason": _described("Stable CamelCase word for programs."),
            "message": _described("A sentence for people."),
            "details": {
                "type": "object",
                "description": "What it is about.",
                "properties": {
                    "name": _described("Of the object."),
                    "group": _described("Of the resource."),
                    "kind": _described("The resource's plural."),
                    "uid": _described("Of the object."),
                    "retryAfterSeconds": _described("When to come back.", type="integer"),
                    "causes": {
                        "type": "array",
                        "description": "All that is wrong.",
                        "items": _STATUS_CAUSE,
                    },
                },
            },
        },
        "x-kubernetes-group-version-kind": [kind_mark("", "v1", "Status")],
    },
    f"{META}.WatchEvent": {
        "type": "object",
        "description": "One line of a watch.",
        "required": ["type", "object"],
        "properties": {
            "type": _described(
                "What happened.",
                type="string",
                enum=["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"],
            ),
            "object": _ANYTHING | {"description": "The object, or a Status after an error."},
        },
    },
    f"{META}.DeleteOptions": {
        "type": "object",
        "description": "How to delete.",
        "properties": {
            "apiVersion": _API_VERSION,
            "kind": _KIND,
            "dryRun": {
                "type": "array",
                "description": "`All` judges the deletion and does nothing.",
                "items": {"type": "string", "enum": ["All"]},
            },
            "gracePeriodSeconds": _described("Read and not used.", type="integer", format="int64"),
            "orphanDependents": _described("Old form of propagationPolicy.", type="boolean"),
            "preconditions": {
                "type": "object",
                "description": "Delete only this object.",
                "properties": {
                    "resourceVersion": _described("Only if unchanged since."),
                    "uid": _described("Only the one with this identity."),
                },
            },
            "propagationPolicy": _described(
                "What happens to the objects it owns.",
                type="string",
                enum=["Background", "Foreground", "Orphan"],
            ),
        },
    },
    f"{META}.Patch": {
        "type": "object",
        "description": "The part of the document to set; null removes.",
    },
    f"{META}.JSONPatch": {
        "type": "array",
        "description": "Operations in order, RFC 6902.",
        "maxItems": 10_000,
        "items": {
            "type": "object",
            "required": ["op", "path"],
            "properties": {
                "op": {
                    "type": "string",
                    "enum": ["add", "remove", "replace", "move", "copy", "test"],
                },
                "path": _described("JSON pointer."),
                "from": _described("JSON pointer."),
                "value": {"description": "Any value."},
            },
        },
    },
}

_REPLICAS: Final = _described("A number of replicas.", type="integer", format="int32")

_SCALE_SCHEMA: Final[JSON] = {
    "type": "object",
    "description": "How many there are and should be.",
    "properties": {
        "apiVersion": _API_VERSION,
        "kind": _KIND,
        "metadata": reference(f"{META}.ObjectMeta"),
        "spec": {"type": "object", "properties": {"replicas": _REPLICAS}},
        "status": {
            "type": "object",
            "properties": {
                "replicas": _REPLICAS,
                "selector": _described("Label selector that finds them."),
            },
        },
    },
    "x-kubernetes-group-version-kind": [kind_mark("autoscaling", "v1", "Scale")],
}
