"""
Request bodies in Kubernetes' protobuf form, decoded into the JSON documents they stand for.

kubectl from 1.32 and typed client libraries send the built-in kinds this way and do not fall back
to JSON when it is refused; answers may be JSON. Only the messages such clients send here are known:
reviews, namespaces, events, secrets, scales and the options of a delete. Nothing is encoded.

`decode_body` is all others need. Bodies are hostile: every length is checked against what is left,
messages nest only as deep as the tables below, and unknown fields are skipped as protobuf asks.

Source:
    The envelope is `runtime.Unknown` of k8s.io/apimachinery (`pkg/runtime/generated.proto`); field
    numbers are those of `generated.proto` in k8s.io/api and k8s.io/apimachinery v0.32, checked
    against bodies of kubectl 1.32. Wire format: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from sandboxer.api.answers import StatusError

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"

_MAGIC = b"k8s\x00"

# A 64-bit number takes at most ten groups of seven bits.
_MAX_VARINT_BYTES = 10

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Scalar = Literal["text", "integer", "boolean", "time", "microtime", "texts", "blobs"]


@dataclass(frozen=True, slots=True)
class Field:
    """What one field number of a message means."""

    name: str
    """Its name in JSON."""
    type: Scalar | Mapping[int, Field] = "text"
    """`texts` is a map from text to text, `blobs` one to bytes; a mapping is a message of its own."""
    repeated: bool = False


Message = Mapping[int, Field]


def _message(**fields: int) -> Message:
    """Return a message of text fields only: names in JSON with their numbers."""
    return {number: Field(name) for name, number in fields.items()}


_OWNER_REFERENCE: Message = {
    **_message(kind=1, name=3, uid=4, apiVersion=5),
    6: Field("controller", "boolean"),
    7: Field("blockOwnerDeletion", "boolean"),
}

_OBJECT_META: Message = {
    **_message(name=1, generateName=2, namespace=3, uid=5, resourceVersion=6),
    11: Field("labels", "texts"),
    12: Field("annotations", "texts"),
    13: Field("ownerReferences", _OWNER_REFERENCE, repeated=True),
    14: Field("finalizers", repeated=True),
}

_METADATA = {1: Field("metadata", _OBJECT_META)}

_OBJECT_REFERENCE = _message(
    kind=1, namespace=2, name=3, uid=4, apiVersion=5, resourceVersion=6, fieldPath=7
)

_RESOURCE_ATTRIBUTES = _message(
    namespace=1, verb=2, group=3, version=4, resource=5, subresource=6, name=7
)

_ACCESS_SPEC: Message = {
    1: Field("resourceAttributes", _RESOURCE_ATTRIBUTES),
    2: Field("nonResourceAttributes", _message(path=1, verb=2)),
}

_EVENT: Message = {
    **_METADATA,
    2: Field("involvedObject", _OBJECT_REFERENCE),
    3: Field("reason"),
    4: Field("message"),
    5: Field("source", _message(component=1, host=2)),
    6: Field("firstTimestamp", "time"),
    7: Field("lastTimestamp", "time"),
    8: Field("count", "integer"),
    9: Field("type"),
    10: Field("eventTime", "microtime"),
    11: Field("series", {1: Field("count", "integer"), 2: Field("lastObservedTime", "microtime")}),
    12: Field("action"),
    13: Field("related", _OBJECT_REFERENCE),
    14: Field("reportingComponent"),
    15: Field("reportingInstance"),
}

_DELETE_OPTIONS: Message = {
    1: Field("gracePeriodSeconds", "integer"),
    2: Field("preconditions", _message(uid=1, resourceVersion=2)),
    3: Field("orphanDependents", "boolean"),
    4: Field("propagationPolicy"),
    5: Field("dryRun", repeated=True),
}

_MESSAGES: Mapping[tuple[str, str], Message] = {
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"): {
        **_METADATA, 2: Field("spec", _ACCESS_SPEC),
    },
    ("authorization.k8s.io/v1", "SelfSubjectRulesReview"): {
        **_METADATA, 2: Field("spec", _message(namespace=1)),
    },
    ("authentication.k8s.io/v1", "SelfSubjectReview"): _METADATA,
    ("v1", "Namespace"): _METADATA,
    ("v1", "Event"): _EVENT,
    ("v1", "DeleteOptions"): _DELETE_OPTIONS,
    # Its values are read only to be refused with a sentence about secrets.
    ("v1", "Secret"): {
        **_METADATA, **_message(type=3), 2: Field("data", "blobs"), 4: Field("stringData", "texts"),
        5: Field("immutable", "boolean"),
    },
    ("autoscaling/v1", "Scale"): {
        **_METADATA, 2: Field("spec", {1: Field("replicas", "integer")}),
    },
}  # fmt: skip

# Options of a delete are sent with the group version of what is deleted.
_OF_ANY_VERSION = {"DeleteOptions": _DELETE_OPTIONS}

_UNKNOWN: Message = {1: Field("typeMeta", _message(apiVersion=1, kind=2))}
_UNKNOWN_RAW = 2


class Decoded(NamedTuple):
    """One body."""

    api_version: str
    kind: str
    document: dict[str, Any]
    """In its JSON form, `apiVersion` and `kind` included; absent fields are absent."""


class _MalformedError(ValueError):
    """The bytes are not what the wire format allows."""


def decode_body(body: bytes) -> Decoded:
    """
    Decode one request body.

    Raises:
        StatusError: 400 when the bytes are malformed, 415 when the kind is not sent this way here.
    """
    try:
        api_version, kind, raw = _envelope(body)
        message = _MESSAGES.get((api_version, kind)) or _OF_ANY_VERSION.get(kind)
        if message is None:
            raise StatusError(
                415,
                f"the body of the request was {kind or 'something'} of {api_version or 'no version'}"
                f" in {MEDIA_TYPE}, which is not accepted for it: send application/json",
                reason="UnsupportedMediaType",
            )
        document = {"apiVersion": api_version, "kind": kind, **_decode(raw, message)}
    except (_MalformedError, UnicodeDecodeError) as error:
        raise StatusError(400, f"the body is not valid protobuf: {error}") from error
    return Decoded(api_version, kind, document)


def _envelope(body: bytes) -> tuple[str, str, memoryview]:
    if not body.startswith(_MAGIC):
        raise _MalformedError("it does not begin with the envelope of Kubernetes")
    inside = memoryview(body)[len(_MAGIC) :]
    named = _decode(inside, _UNKNOWN).get("typeMeta", {})
    raw = memoryview(b"")
    for number, value in _fields(inside):
        if number == _UNKNOWN_RAW and isinstance(value, memoryview):
            raw = value
    return named.get("apiVersion", ""), named.get("kind", ""), raw


def _decode(data: memoryview, message: Message) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for number, value in _fields(data):
        field = message.get(number)
        if field is None:
            continue
        decoded = _value(value, field)
        if field.repeated:
            document.setdefault(field.name, []).append(decoded)
        elif field.type in ("texts", "blobs"):
            document.setdefault(field.name, {}).update(decoded)
        elif decoded is not None and (decoded != "" or field.type != "text"):
            # NOTE: Go writes empty text where JSON leaves the field out.
            document[field.name] = decoded
    return document


def _value(value: int | memoryview, field: Field) -> Any:
    if isinstance(value, int) != (field.type in ("integer", "boolean")):
        raise _MalformedError(f"{field.name} has the wrong wire type")
    if isinstance(value, int):
        return bool(value) if field.type == "boolean" else _signed(value)
    if field.type in ("time", "microtime"):
        return _time(value, micro=field.type == "microtime")
    if field.type == "texts":
        return _pair(value)
    if field.type == "blobs":
        return _blob(value)
    if isinstance(field.type, Mapping):
        return _decode(value, field.type)
    return str(value, "utf-8")


def _signed(value: int) -> int:
    """Return an int64 from its two's complement."""
    return value - (1 << 64) if value >> 63 else value


def _pair(data: memoryview) -> dict[str, str]:
    entry = _decode(data, _message(key=1, value=2))
    return {entry.get("key", ""): entry.get("value", "")}


def _blob(data: memoryview) -> dict[str, str]:
    """Return one pair with its bytes in base64, as JSON has them."""
    content = b""
    for number, value in _fields(data):
        if number == 2 and isinstance(value, memoryview):  # noqa: PLR2004 - the value of a pair
            content = bytes(value)
    return {_decode(data, _message(key=1)).get("key", ""): base64.b64encode(content).decode()}


def _time(data: memoryview, *, micro: bool) -> str | None:
    """Return RFC 3339; None for no time, which Go sends as its zero."""
    numbers = _decode(data, {1: Field("seconds", "integer"), 2: Field("nanos", "integer")})
    seconds, nanos = numbers.get("seconds", 0), numbers.get("nanos", 0)
    if not numbers or seconds < 0:
        return None
    try:
        moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanos // 1000)
    except (ValueError, OverflowError, OSError) as error:
        raise _MalformedError("a time is out of range") from error
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield field numbers with a number (varint) or bytes; fixed-width fields are skipped."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value
        elif wire == _BYTES:
            length, at = _varint(data, at)
            if length > len(data) - at:
                raise _MalformedError("it ends in the middle of a field")
            yield number, data[at : at + length]
            at += length
        elif wire in (_FIXED32, _FIXED64):
            at += 4 if wire == _FIXED32 else 8
        else:
            raise _MalformedError(f"wire type {wire} is not known")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004 - the bit that says more bytes follow
            return value & (1 << 64) - 1, at + index + 1
    raise _MalformedError("a number does not end")
