"""
Conflicts of an apply, in Kubernetes' words, which kubectl shows as they are.

Source:
    kubernetes/apimachinery, pkg/util/managedfields/internal/conflict.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sandboxer.errors import SandboxerError


class Cause(NamedTuple):
    """One field that somebody else owns."""

    manager: str
    """Who owns it."""
    operation: str
    """`Apply` or `Update`, by which the owner set it."""
    api_version: str
    """Version in which the owner set it."""
    subresource: str
    """Subresource through which the owner set it, or empty."""
    field: str
    """Path as Kubernetes prints it: `.spec.ports[name="web"].containerPort`."""

    @property
    def owner(self) -> str:
        """The owner as Kubernetes prints it: `"kubectl-edit" using sandboxer.dev/v1alpha1`."""
        text = f'"{self.manager}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return f"{text} using {self.api_version}" if self.operation == "Update" else text

    @property
    def message(self) -> str:
        """What stands in the cause of a Status."""
        return f"conflict with {self.owner}"


class FieldConflictError(SandboxerError):
    """
    Others own fields that an apply would change; nothing was changed.

    Not a `ConflictError`: reading the object again does not help, somebody has to decide.

    Args:
        causes: The fields, by owner; not empty.
    """

    default_reason = "FieldConflict"

    def __init__(self, causes: Sequence[Cause]) -> None:
        self.causes = list(causes)
        super().__init__(
            _message(self.causes),
            remedy="Leave these fields to their owners, or apply with force to take them.",
        )


def _message(causes: list[Cause]) -> str:
    if len(causes) == 1:
        return f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].field}"
    owners: dict[str, list[str]] = {}
    for cause in causes:
        owners.setdefault(cause.owner, []).append(f"- {cause.field}")
    told = [f"conflicts with {owner}:\n" + "\n".join(owners[owner]) for owner in sorted(owners)]
    return f"Apply failed with {len(causes)} conflicts: " + "\n".join(told)
