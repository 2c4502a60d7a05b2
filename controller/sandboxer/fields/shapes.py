"""
How the values of a kind are merged, read from its model once.

A `Shape` says of one place in a document whether it is taken whole (a leaf: scalars, lists without
keys, what is marked atomic) or part by part: the fields of a struct, the entries of a map, the
items of a keyed list or of a set. The marks are those of the CRDs (`x-kubernetes-list-type` and
friends), which stand in the models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final, Literal

from sandboxer.kinds.catalog import KINDS
from sandboxer.kinds.meta import ObjectMeta, Resource

# Levels that are merged part by part where no schema says how; deeper values are taken whole.
MAX_OPEN_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class Shape:
    """How one place of a document is merged."""

    kind: Literal["leaf", "struct", "map", "keyed", "set"]
    fields: Mapping[str, Shape] = field(default_factory=dict)
    """Of a struct, by name."""
    items: Shape | None = None
    """Of what is inside a map or keyed list; of the unknown fields of a struct."""
    keys: Sequence[str] = ()
    """Names of the fields that tell the items of a keyed list apart."""
    required: frozenset[str] = frozenset()
    """Fields of a struct that it cannot be without."""
    open: bool = False
    """No schema says what may stand here, so a null is a value as any other."""

    has_keys: bool = field(init=False)
    """Whether items of lists are told apart here or anywhere inside."""

    def __post_init__(self) -> None:
        inside = [*self.fields.values(), *([self.items] if self.items else [])]
        has_keys = self.kind in ("keyed", "set") or any(shape.has_keys for shape in inside)
        object.__setattr__(self, "has_keys", has_keys)

    def at(self, name: str) -> Shape:
        """Return the shape of what stands at a name, or at the step of an item."""
        return self.fields.get(name) or self.items or LEAF


LEAF: Final = Shape("leaf")
SET: Final = Shape("set")


def _open() -> Shape:
    shape = Shape("leaf", open=True)
    for _ in range(MAX_OPEN_DEPTH):
        shape = Shape("map", items=shape, open=True)
    return shape


OPEN: Final = _open()
"""Where there is no schema: maps are merged entry by entry, lists are taken whole."""


def shape_of(document: Mapping[str, Any]) -> Shape:
    """Return the shape of a document's kind; of an unknown kind only metadata is known."""
    kind = document.get("kind")
    model = KINDS.get(kind) if isinstance(kind, str) else None
    return _shape_of_model(model or Resource)


@cache
def _shape_of_model(model: type[Resource]) -> Shape:
    schema = model.model_json_schema(by_alias=True)
    shape = _shape(schema, schema.get("$defs", {}))
    return replace(shape, fields={**shape.fields, "metadata": _metadata()})


def _metadata() -> Shape:
    schema = ObjectMeta.model_json_schema(by_alias=True)
    definitions = schema.get("$defs", {})
    shape = _shape(schema, definitions)
    reference = _shape(definitions["OwnerReference"], definitions)
    # As in Kubernetes' ObjectMeta; a CRD says nothing of metadata, so the model has no marks.
    special = {
        "finalizers": SET,
        "ownerReferences": Shape("keyed", items=reference, keys=("uid",)),
        "managedFields": LEAF,
    }
    return replace(shape, fields={**shape.fields, **special})


def _shape(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Shape:
    if "$ref" in node:
        node = {**definitions[node["$ref"].rpartition("/")[2]], **node}
    if node.get("x-kubernetes-map-type") == "atomic":
        return LEAF
    if "anyOf" in node:
        return _shape_of_choice(node["anyOf"], definitions)
    match node.get("type"):
        case "object":
            return _shape_of_object(node, definitions)
        case "array":
            return _shape_of_list(node, definitions)
        case None if not node.keys() & {"const", "enum"}:
            return OPEN
        case _:
            return LEAF


def _shape_of_choice(choices: Sequence[Mapping[str, Any]], definitions: Mapping[str, Any]) -> Shape:
    shapes = [_shape(choice, definitions) for choice in choices if choice.get("type") != "null"]
    if all(shape.kind == "leaf" for shape in shapes):
        return LEAF
    return shapes[0] if len(shapes) == 1 else OPEN


def _shape_of_object(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Shape:
    if "properties" in node:
        fields = {name: _shape(child, definitions) for name, child in node["properties"].items()}
        required = frozenset(node.get("required", ()))
        return Shape("struct", fields=fields, items=OPEN, required=required)
    # Pydantic writes a map with checked keys as patternProperties of one pattern.
    values = next(iter(node.get("patternProperties", {}).values()), None)
    values = values if values is not None else node.get("additionalProperties")
    return Shape("map", items=_shape(values, definitions)) if isinstance(values, dict) else OPEN


def _shape_of_list(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Shape:
    match node.get("x-kubernetes-list-type"):
        case "map":
            keys = tuple(node["x-kubernetes-list-map-keys"])
            return Shape("keyed", items=_shape(node["items"], definitions), keys=keys)
        case "set":
            return SET
        case _:
            return LEAF
