"""
Request bodies: bytes of a hostile client to plain JSON values, bounded in size and depth.

JSON, YAML and protobuf come in; what a value means is no matter of this module. Keys that an
object has twice are not an error here: Kubernetes refuses, warns or is silent about them as
`?fieldValidation=` says, so their paths are returned with the value.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from starlette.requests import Request

from sandboxer import values
from sandboxer.api import protobuf
from sandboxer.api.answers import StatusError
from sandboxer.values import FieldPath

# Source: `MaxRequestBodyBytes` of kube-apiserver, pkg/server/config.go.
MAX_BYTES: Final = 3 * 2**20

# Nested collections. Deeper than the deepest document of ours with its managedFields (about 30),
# and far from the interpreter's recursion limit, since schemas and patches are walked recursively.
MAX_DEPTH: Final = 64

JSON_TYPE: Final = "application/json"
YAML_TYPE: Final = "application/yaml"
READABLE: Final = (JSON_TYPE, YAML_TYPE, protobuf.MEDIA_TYPE)
"""Media types of whole objects."""


# Of one body; a person mends the first ones and sends it again.
_MAX_DOUBLED: Final = 20


class _Doubled(NamedTuple):
    """An object and those of its keys that stood twice."""

    value: dict[str, Any]
    names: list[str]


@dataclass(frozen=True, slots=True)
class Body:
    """What a body says."""

    value: Any
    duplicates: tuple[str, ...] = ()
    """Path of each key that stands twice in its object; the last one counts."""


def media_type(request: Request) -> str:
    """Return the media type of the body; a body that names none is JSON, as kubectl sends it."""
    text = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return text or JSON_TYPE


async def read(request: Request, limit: int = MAX_BYTES) -> bytes:
    """
    Return the bytes of the body.

    Raises:
        StatusError: 413, there are more than *limit*.
    """
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise StatusError(
                413, f"Request entity is too large: limit is {limit}", details={"causes": []}
            )
        chunks.append(chunk)
    return b"".join(chunks)


async def read_object(
    request: Request, accepted: Sequence[str] = READABLE, *, limit: int = MAX_BYTES
) -> Body:
    """
    Return a body that is one object.

    Raises:
        StatusError: 400 when it is none, 413 when it is too large, 415 for another media type.
    """
    type_ = media_type(request)
    if type_ not in accepted:
        raise unsupported(accepted)
    body = decode(await read(request, limit), type_)
    if not isinstance(body.value, dict):
        raise StatusError(400, "the body of the request must be one object")
    return body


def unsupported(accepted: Sequence[str]) -> StatusError:
    """Return the 415 that names what would be accepted, in Kubernetes' words."""
    return StatusError(
        415,
        "the body of the request was in an unknown format - accepted media types include: "
        + ", ".join(accepted),
    )


def decode(data: bytes, type_: str) -> Body:
    """
    Return the value of a body of this media type.

    Raises:
        StatusError: 400, it cannot be read.
    """
    if type_ == protobuf.MEDIA_TYPE:
        return Body(protobuf.decode_body(data).document)
    if type_ == YAML_TYPE and not data.lstrip().startswith(b"{"):
        return _decode_yaml(data)
    return _decode_json(data)


def _decode_yaml(data: bytes) -> Body:
    trees, findings = values.parse_text(data.decode("utf-8", "replace"))
    if findings:
        first = findings[0]
        place = f"line {first.line}: " if first.line else ""
        field = f"{path_text(first.path)} " if first.path else ""
        raise StatusError(400, f"error decoding the body: {place}{field}{first.message}")
    if len(trees) != 1:
        raise StatusError(400, f"the body holds {len(trees)} documents and must hold one")
    return Body(trees[0].value)


def _decode_json(data: bytes) -> Body:
    doubled: dict[int, _Doubled] = {}

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs) and len(doubled) < _MAX_DOUBLED:
            counts = Counter(name for name, _ in pairs)
            names = [name for name, count in counts.items() if count > 1]
            # NOTE: holding the object keeps its id from being given to another one.
            doubled[id(value)] = _Doubled(value, names[:_MAX_DOUBLED])
        return value

    try:
        value = json.loads(
            data,
            object_pairs_hook=note,
            parse_constant=values.number,
            parse_float=values.number,
            parse_int=values.number,
        )
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise StatusError(400, f"error decoding the body: {why}") from error
    if not is_shallow(value):
        raise StatusError(400, f"error decoding the body: nested deeper than {MAX_DEPTH} levels")
    return Body(value, tuple(_places(value, doubled)) if doubled else ())


def is_shallow(value: Any) -> bool:
    """Tell whether nothing in it is nested deeper than `MAX_DEPTH`, level by level."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner = [
            v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)
        ]
        if not inner:
            return True
        level = [child for children in inner for child in children]
    return False


def _places(value: Any, doubled: Mapping[int, _Doubled], path: FieldPath = ()) -> Iterator[str]:
    """Yield the path of every doubled key, by the ids of the objects that have them."""
    if isinstance(value, dict):
        if id(value) in doubled:
            yield from (path_text((*path, name)) for name in doubled[id(value)].names)
        for name, child in value.items():
            yield from _places(child, doubled, (*path, name))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _places(child, doubled, (*path, index))


def path_text(path: FieldPath) -> str:
    """Return a path as Kubernetes writes it: `spec.ports[0].name`, `metadata.labels[a/b]`."""
    parts = [
        f".{part}" if isinstance(part, str) and part.replace("_", "a").isalnum() else f"[{part}]"
        for part in path
    ]
    return "".join(parts).removeprefix(".")
