"""
What every kind shares: strictness, metadata, conditions, labels.

All kinds are immutable pydantic models. A field nobody knows is an error, never ignored.
Documents are validated as JSON (`Resource.parse`), so YAML cannot smuggle in Python types and a
string is never taken for a number.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, PlainSerializer
from pydantic.alias_generators import to_camel

GROUP: Final = "sandboxer.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = "sandboxer.dev/v1alpha1"

FINALIZER = f"{GROUP}/teardown"
"""Held by a Sandbox from admission until nothing of it is left on its backend."""

LABEL_SOURCE: Final = f"{GROUP}/source"
"""Label: id of the source that applies this object, and that alone may prune it."""

ANNOTATION_SIGNED: Final = f"{GROUP}/signed"
"""Annotation: who gave `Resource.signed_field` its value, and when; written by the store only."""

# RFC 1123 subdomain, as Kubernetes checks metadata.name; 63 instead of 253 characters because
# names become parts of labels and paths.
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$"
NAMESPACE_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
# Kubernetes' qualified name: optional DNS prefix, then 63 characters.
LABEL_KEY_PATTERN = (
    r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
)
LABEL_VALUE_PATTERN = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"
REASON_PATTERN = r"^[A-Z][A-Za-z0-9]{0,127}$"


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _rfc3339_micro(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=63)]
Namespace = Annotated[str, Field(pattern=NAMESPACE_PATTERN, max_length=63)]
LabelKey = Annotated[str, Field(pattern=LABEL_KEY_PATTERN, max_length=317)]
LabelValue = Annotated[str, Field(pattern=LABEL_VALUE_PATTERN, max_length=63)]
# NOTE: whatever its offset, a time must have a form in UTC that can be read back; `strftime` writes
# the year 999 with three digits.
_ON_THE_CALENDAR: Final = Field(
    ge=datetime(1000, 1, 1, tzinfo=UTC), le=datetime.max.replace(tzinfo=UTC)
)
Timestamp = Annotated[
    AwareDatetime,
    _ON_THE_CALENDAR,
    PlainSerializer(_rfc3339, return_type=str, when_used="json"),
]
"""A point in time; written as RFC 3339 in UTC with whole seconds, as Kubernetes does."""
MicroTimestamp = Annotated[
    AwareDatetime,
    _ON_THE_CALENDAR,
    PlainSerializer(_rfc3339_micro, return_type=str, when_used="json"),
]
"""The same with six digits after the second: clients of Kubernetes refuse to read fewer."""


class Model(BaseModel):
    """Base of everything a document can hold: immutable, strict, camelCase outside."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
        regex_engine="rust-regex",
    )

    def to_document(self) -> dict[str, Any]:
        """Return the JSON document: camelCase keys, unset and `None` fields left out."""
        document: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return document


def list_map(key: str) -> dict[str, Any]:
    """Return the CRD's mark of a list whose items are told apart by one of their fields."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


def rule(expression: str, message: str) -> dict[str, Any]:
    """Return one CEL rule of the CRD: what a model's validator says, for a Kubernetes API server."""
    return {"x-kubernetes-validations": [{"rule": expression, "message": message}]}


def _is_empty(value: object) -> bool:
    return not value


class OwnerReference(Model):
    """An object this one belongs to and goes with."""

    api_version: str
    kind: str
    name: str
    uid: str
    """Identity of the owner; a namesake made later is not the owner."""
    controller: bool = False
    """Whether the owner manages this object; at most one owner does."""
    block_owner_deletion: bool = False
    """Whether an owner deleted in the foreground waits for this object."""


class ManagedFieldsEntry(Model):
    """The fields one manager has set, as `sandboxer.fields` keeps them."""

    manager: str
    """Who: `kubectl`, `sandboxer`, a source; at most 128 characters."""
    operation: Literal["Apply", "Update"]
    """`Apply` for declared ownership, `Update` for everything else."""
    api_version: str
    time: Timestamp | None = None
    """When the set of fields last changed."""
    fields_type: Literal["FieldsV1"] = "FieldsV1"
    fields_v1: Annotated[dict[str, JsonValue], Field(alias="fieldsV1")] = {}
    """Tree of owned fields: `f:<field>`, `k:<keys of a list item>`, `v:<value>`, `.` for itself."""
    subresource: Annotated[str, Field(exclude_if=_is_empty)] = ""
    """`status` for fields written through it, else empty."""


class ObjectMeta(Model):
    """Identity and bookkeeping of one object; the store owns everything from `uid` to the end."""

    name: Name
    """Unique within kind and namespace; becomes part of labels and paths."""
    generate_name: Annotated[str, Field(exclude_if=_is_empty)] = ""
    """Beginning of a name that the API completed."""
    namespace: Namespace | None = None
    """Absent for cluster-scoped kinds; `default` when a namespaced document names none."""
    labels: dict[LabelKey, LabelValue] = {}
    """For selecting and grouping; never interpreted by the controller except its own prefix."""
    annotations: dict[LabelKey, str] = {}
    """Notes for people and tools; at most 256 KiB in all."""
    uid: str = ""
    """Random UUID given by the store at creation; the label on everything made for this object."""
    resource_version: str = ""
    """Decimal number of the last real change, increasing over the whole store."""
    generation: int = 0
    """Counts changes of `spec` (and the first request to delete); status never moves it."""
    creation_timestamp: Timestamp | None = None
    """When the store accepted the object."""
    deletion_timestamp: Timestamp | None = None
    """When deletion was asked for; the object goes once `finalizers` is empty."""
    finalizers: tuple[str, ...] = ()
    """Work that must be done before the object may disappear."""
    owner_references: Annotated[tuple[OwnerReference, ...], Field(exclude_if=_is_empty)] = ()
    """Objects this one belongs to; when the last of them is gone, it is deleted too."""
    managed_fields: Annotated[tuple[ManagedFieldsEntry, ...], Field(exclude_if=_is_empty)] = ()
    """Who has set which field; only writes through the API and applies are noted."""


class Condition(Model):
    """One observed fact in Kubernetes' form."""

    type: Annotated[str, Field(pattern=REASON_PATTERN)]
    """A state such as `Ready`, never a transition."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds; `Unknown` is an answer too."""
    reason: Annotated[str, Field(pattern=REASON_PATTERN)]
    """Stable CamelCase word for programs."""
    message: str = ""
    """A sentence for people."""
    observed_generation: int = 0
    """`metadata.generation` this statement was made about."""
    last_transition_time: Timestamp
    """When `status` last changed its value."""


class Status(Model):
    """What every status has."""

    observed_generation: int = 0
    """`metadata.generation` the controller has acted upon last."""
    conditions: Annotated[tuple[Condition, ...], Field(json_schema_extra=list_map("type"))] = ()
    """Observed facts, one per type."""

    def condition(self, type_: str) -> Condition | None:
        """Return the condition of that type, or None when it was never stated."""
        return next((c for c in self.conditions if c.type == type_), None)

    def is_true(self, type_: str) -> bool:
        """Tell whether the condition of that type was stated and holds."""
        condition = self.condition(type_)
        return condition is not None and condition.status == "True"


class Column(Model):
    """One printer column: what `get` shows, in the CLI, in kubectl and in the CRD."""

    name: str
    """Heading, in Kubernetes' capitalisation; printed in upper case."""
    json_path: str
    """Where the value is, in the CRD's simple JSONPath (`.status.host`)."""
    type: Literal["string", "integer", "date"] = "string"
    """`date` prints an age."""
    priority: int = 0
    """0 is always shown, 1 only by `-o wide`."""
    description: str = ""


class ScalePaths(Model):
    """Where a kind keeps what its `/scale` shows, in the CRD's simple JSONPath."""

    spec_replicas: str = ".spec.replicas"
    """How many are wanted; what a scale writes."""
    status_replicas: str = ".status.replicas"
    """How many there are."""
    label_selector: str = ".status.selector"
    """Text of a label selector that finds them."""


class Resource(Model):
    """Base of every kind: apiVersion, kind, metadata; subclasses add spec and status."""

    plural: ClassVar[str]
    short_names: ClassVar[tuple[str, ...]] = ()
    namespaced: ClassVar[bool] = True
    columns: ClassVar[tuple[Column, ...]] = ()
    scale: ClassVar[ScalePaths | None] = None
    """Set by kinds that can be scaled (`kubectl scale`)."""
    signed_field: ClassVar[str] = ""
    """Field of spec of which the store notes in `ANNOTATION_SIGNED` who changed it last."""

    api_version: str
    kind: str
    metadata: ObjectMeta

    @classmethod
    def parse(cls, document: Any) -> Self:
        """
        Validate a plain document (from YAML or JSON) strictly.

        Raises:
            pydantic.ValidationError: Naming each wrong field by its path in the document.
        """
        # by_name=False: Python's `drift_policy` must not pass where the CRD knows `driftPolicy` only.
        return cls.model_validate_json(json.dumps(document), by_alias=True, by_name=False)

    @property
    def key(self) -> Key:
        """The object's identity."""
        return Key(kind=self.kind, namespace=self.metadata.namespace or "", name=self.metadata.name)


class Key(NamedTuple):
    """Identity of an object: what enters the queue. Namespace is empty for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """Return `Sandbox default/hello`, or `Host h1` for a cluster-scoped kind."""
        return (
            f"{self.kind} {self.namespace}/{self.name}"
            if self.namespace
            else f"{self.kind} {self.name}"
        )


def is_label_value(text: str) -> bool:
    """Tell whether *text* may be the value of a label."""
    return re.fullmatch(LABEL_VALUE_PATTERN, text) is not None
