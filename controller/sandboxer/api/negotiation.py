"""
In which form a client wants objects: as they are, as a `Table`, or their metadata only.

Source:
    "Receiving resources as Tables" and "Resource encoding", Kubernetes API concepts; the clauses
    of kubectl 1.27 to 1.33 were recorded from the real binaries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sandboxer.api.answers import StatusError

Form = Literal["object", "table", "metadata"]

# `as=` of an Accept clause; a list is asked for by its own name by some clients.
_FORMS: dict[str, Form] = {
    "": "object",
    "Table": "table",
    "PartialObjectMetadata": "metadata",
    "PartialObjectMetadataList": "metadata",
}

_JSON = ("application/json", "application/*", "*/*")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The form of an answer."""

    form: Form = "object"
    version: str = "v1"
    """Of the group `meta.k8s.io`, for tables and metadata."""

    @property
    def api_version(self) -> str:
        """`apiVersion` of a `Table` or of a `PartialObjectMetadata`."""
        return f"meta.k8s.io/{self.version}"


def clauses(accept: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield media type and parameters of each clause of an `Accept` header, in its order."""
    for clause in accept.split(","):
        media, *parameters = (part.strip() for part in clause.split(";"))
        pairs = (part.partition("=") for part in parameters)
        yield media.lower(), {name: value for name, _, value in pairs}


def wanted_form(accept: str) -> Wanted:
    """
    Return the first form of an `Accept` header that can be given; an empty header means JSON.

    Raises:
        StatusError: 406, none of them can.
    """
    for media, parameters in clauses(accept or "*/*"):
        form = _FORMS.get(parameters.get("as", ""))
        if media not in _JSON or form is None:
            continue
        if form == "object":
            return Wanted()
        version = parameters.get("v", "")
        if parameters.get("g") == "meta.k8s.io" and version in ("v1", "v1beta1"):
            return Wanted(form, version)
    raise StatusError(406, "only the following media types are accepted: application/json")
