"""
Is a document one of its kind? Unknown fields apart, and every other problem as one cause.

Our models forbid what they do not know; Kubernetes prunes it and says so as `?fieldValidation=`
asks. So unknown fields are found with the structural schema and pruned first, and the model judges
the rest. A null where the schema knows a field is the same as the field left out, as in Kubernetes
for fields that are not nullable.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

from pydantic import ValidationError

from sandboxer.api.answers import StatusError
from sandboxer.api.bodies import path_text
from sandboxer.api.refusals import Cause, cause, invalid
from sandboxer.api.served import Served
from sandboxer.kinds.meta import Resource
from sandboxer.kinds.mistakes import Mistake, mistakes_of, shown
from sandboxer.kinds.schema import metadata_schema, structural_schema
from sandboxer.values import FieldPath

Document = dict[str, Any]
FieldValidation = Literal["Strict", "Warn", "Ignore"]

# Of one document; a person mends the first ones and sends it again.
MAX_UNKNOWN: Final = 50

# What Kubernetes knows of metadata and sandboxer does not keep; clients send it back as they got it.
_NOT_KEPT: Final = ("selfLink", "deletionGracePeriodSeconds")

# A value is repeated so that it is recognised; longer ones would hide the message.
_MAX_VALUE_CHARS: Final = 200

_PRESERVE = "x-kubernetes-preserve-unknown-fields"


@functools.cache
def schema_of(model: type[Resource]) -> Document:
    """Return the structural schema of a kind, `metadata` included."""
    schema = structural_schema(model)
    metadata = metadata_schema()
    known = {**metadata["properties"], **{name: {_PRESERVE: True} for name in _NOT_KEPT}}
    properties = {**schema["properties"], "metadata": {**metadata, "properties": known}}
    return {**schema, "properties": properties}


def prune(document: Document, model: type[Resource]) -> tuple[Document, list[str]]:
    """
    Return the known part of a document, and the path of each unknown field.

    Args:
        document: Any JSON object; not altered.
        model: The kind it should be of.
    """
    unknown: list[FieldPath] = []
    kept: Document = _known(document, schema_of(model), (), unknown)
    if isinstance(metadata := kept.get("metadata"), dict):
        kept["metadata"] = {k: v for k, v in metadata.items() if k not in _NOT_KEPT}
    return kept, [path_text(path) for path in unknown[:MAX_UNKNOWN]]


def _known(value: Any, schema: Document, path: FieldPath, unknown: list[FieldPath]) -> Any:
    if isinstance(value, list) and "items" in schema:
        return [_known(v, schema["items"], (*path, i), unknown) for i, v in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if values := schema.get("additionalProperties"):
        return {k: _known(v, values, (*path, k), unknown) for k, v in value.items()}
    if "properties" not in schema or schema.get(_PRESERVE):
        return value
    properties = schema["properties"]
    unknown.extend((*path, name) for name in value if name not in properties)
    return {
        name: _known(child, properties[name], (*path, name), unknown)
        for name, child in value.items()
        if name in properties and child is not None
    }


def report_fields(
    unknown: Sequence[str],
    duplicates: Sequence[str],
    validation: FieldValidation,
    *,
    context: str = "",
) -> list[str]:
    """
    Return the warnings about fields nobody knows and fields given twice.

    Args:
        unknown: Paths that were pruned.
        duplicates: Paths of keys that stood twice; the last one counts.
        validation: `Strict` refuses, `Warn` warns, `Ignore` is silent.
        context: Beginning of a refusal.

    Raises:
        StatusError: 400, with `Strict` there is such a field.
    """
    problems = [f'unknown field "{path}"' for path in unknown]
    problems += [f'duplicate field "{path}"' for path in duplicates]
    if problems and validation == "Strict":
        raise StatusError(400, f"{context}strict decoding error: {', '.join(problems)}")
    return problems if validation == "Warn" else []


def parse(document: Document, model: type[Resource], served: Served) -> Resource:
    """
    Return the object of a pruned document.

    Raises:
        StatusError: 422, with every problem.
    """
    try:
        return model.parse(document)
    except (ValidationError, ValueError) as error:
        name = _name(document)
        if not isinstance(error, ValidationError):
            raise invalid(
                served, name, [cause("Invalid", "", f"Invalid value: {error}")]
            ) from error
        raise invalid(served, name, list(causes_of(error, model))) from error


def causes_of(error: ValidationError, model: type[Resource]) -> Iterator[Cause]:
    """Yield what the model found wrong, in the form of Kubernetes' field errors."""
    for mistake in mistakes_of(error, model):
        reason, body = _told(mistake)
        yield cause(reason, path_text(mistake.path), body)


def _told(mistake: Mistake) -> tuple[str, str]:  # noqa: PLR0911 - one line per kind of mistake
    """Return reason and message of one mistake."""
    given = mistake.given
    # The value stands before the message already.
    message = mistake.message.removeprefix(f"{shown(given)} ").removesuffix(f", not {shown(given)}")
    value = "" if isinstance(given, dict | list) else f"{_quoted(given)}: "
    match mistake.type:
        case "missing":
            return "Required", "Required value"
        case "literal_error":
            allowed = re.findall(r"'([^']*)'", message.rpartition(" is not one of ")[2])
            supported = ", ".join(f'"{word}"' for word in allowed)
            return "NotSupported", f"Unsupported value: {value}supported values: {supported}"
        case "extra_forbidden":
            return "Forbidden", f"Forbidden: {message}"
        case "string_too_long":
            return "TooLong", f"Too long: {message}"
        case "too_long":
            return "TooMany", f"Too many: {message}"
        case word if word.endswith("_type"):
            return "TypeInvalid", f"Invalid value: {value}{message}"
        case _:
            return "Invalid", f"Invalid value: {value}{message}"


def _quoted(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_VALUE_CHARS else f'{text[:_MAX_VALUE_CHARS]}…"'


def _name(document: Document) -> str:
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else ""
    return name if isinstance(name, str) else ""
