"""Validating the inputs of a sandbox: by the profile's JSON Schema and the extension's model."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from typing import Any

import jsonschema
from jsonschema.protocols import Validator
from pydantic import ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable

from sandboxer.errors import InvalidSpecError
from sandboxer.extension import Extension, Inputs
from sandboxer.kinds.profile import Profile

InputValues = Mapping[str, str | int | float | bool]


def validate_inputs(values: InputValues, extension: Extension, profile: Profile) -> Inputs:
    """
    Validate merged inputs by the profile's schema and the extension's model.

    Raises:
        InvalidSpecError: `field` is `spec.inputs.<name>`.
    """
    try:
        inputs = extension.inputs_model.model_validate_json(json.dumps(dict(values)))
    except ValidationError as error:
        raise _inputs_error(error, extension) from error
    problem = _schema_problem(values, profile)
    if problem is not None:
        field = ".".join(["spec.inputs", *map(str, problem.absolute_path)])
        raise InvalidSpecError(
            f"{field} is not what profile {profile.metadata.name} takes: {problem.message}.",
            field=field,
            reason="InvalidInputs",
        )
    return inputs


def schema_validator(schema: Mapping[str, Any], profile_name: str) -> Validator:
    """
    Return a validator for a profile's `inputsSchema`.

    Raises:
        InvalidSpecError: It is no JSON Schema of draft 2020-12.
    """
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise InvalidSpecError(
            f"Profile {profile_name} has an inputsSchema that is no JSON Schema: {error.message}.",
            field="spec.inputsSchema",
            reason="InvalidInputsSchema",
            remedy="Write it in draft 2020-12.",
        ) from error
    # NOTE: without a registry of its own, jsonschema fetches what `$ref` names from the network.
    return jsonschema.Draft202012Validator(schema, registry=Registry())


def _schema_problem(values: InputValues, profile: Profile) -> jsonschema.ValidationError | None:
    schema, name = profile.spec.inputs_schema, profile.metadata.name
    if not schema:
        return None
    try:
        errors = schema_validator(schema, name).iter_errors(dict(values))
        problem: jsonschema.ValidationError | None = jsonschema.exceptions.best_match(errors)
    except (Unresolvable, RecursionError, re.error) as error:
        raise InvalidSpecError(
            f"Profile {name} has an inputsSchema that cannot be followed: {error}.",
            field="spec.inputsSchema",
            reason="InvalidInputsSchema",
            remedy="Use references within the schema, patterns that compile, and no endless loop.",
        ) from error
    return problem


def _inputs_error(error: ValidationError, extension: Extension) -> InvalidSpecError:
    first = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    field = f"spec.inputs.{name}" if name else "spec.inputs"
    if first["type"] == "extra_forbidden":
        known = sorted(extension.inputs_model.model_fields)
        close = difflib.get_close_matches(name, known, n=1)
        remedy = f'Did you mean "{close[0]}"?' if close else f"It takes: {', '.join(known)}."
        message = f"{field}: {extension.name} takes no input of that name."
    else:
        remedy = ""
        message = f"{field}: {first['msg'].removeprefix('Value error, ')}."
    return InvalidSpecError(message, field=field, reason="InvalidInputs", remedy=remedy)
