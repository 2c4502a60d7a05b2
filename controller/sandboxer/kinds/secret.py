"""
The Secret without values: labels and annotations that kubectl keeps about an apply set.

Sandboxes get their secrets by reference (`spec.secretRefs`); nothing secret is ever stored, so a
Secret that carries a value is refused.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import field_validator

from sandboxer.kinds.meta import Column, Resource


class Secret(Resource):
    """A Secret of Kubernetes' core/v1 that must be empty."""

    plural: ClassVar[str] = "secrets"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="Type", json_path=".type"),
        Column(name="Age", json_path=".metadata.creationTimestamp", type="date"),
    )

    api_version: Literal["v1"] = "v1"
    kind: Literal["Secret"] = "Secret"
    type: Literal["Opaque"] = "Opaque"
    """The only type there is."""
    immutable: bool = False
    """Kept as clients write it; there is nothing to protect."""
    data: dict[str, str] = {}
    """Must be empty: values are never stored here."""
    string_data: dict[str, str] = {}
    """Must be empty: values are never stored here."""

    @field_validator("data", "string_data")
    @classmethod
    def _no_values(cls, values: dict[str, str]) -> dict[str, str]:
        if values:
            msg = (
                "secrets have no values here; name a file or a variable of the controller in "
                "spec.secretRefs of the Sandbox"
            )
            raise ValueError(msg)
        return values
