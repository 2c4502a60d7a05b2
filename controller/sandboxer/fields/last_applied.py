"""
kubectl's way from client-side to server-side apply and back, on the server's side.

A client-side `kubectl apply` notes its whole config in an annotation. The first `kubectl apply
--server-side` of such an object would conflict with everything that the same person applied before;
so what still is as that annotation says is not kubectl's conflict. From then on the annotation
follows what kubectl applies, so that a client-side apply finds what it would have written.

Source:
    kubernetes/apimachinery, pkg/util/managedfields/internal: lastappliedmanager.go and
    lastappliedupdater.go.
"""

from __future__ import annotations

import json
from typing import Any, Final

from sandboxer.fields.comparing import compare
from sandboxer.fields.parts import fields_of
from sandboxer.fields.sets import EMPTY, FieldSet
from sandboxer.fields.shapes import Shape

Document = dict[str, Any]

ANNOTATION: Final = "kubectl.kubernetes.io/last-applied-configuration"
_KUBECTL: Final = "kubectl"
"""Manager of `kubectl apply --server-side`; who uses another name has opted out."""

# Bytes; half of what all annotations of an object may have. A longer config is not noted.
_MAX_NOTE_BYTES: Final = 128 * 1024


def unchanged_fields(live: Document, shape: Shape, manager: str) -> FieldSet:
    """Return what a client-side apply set and nobody changed since; empty but for kubectl."""
    if manager != _KUBECTL:
        return EMPTY
    try:
        noted = json.loads(_annotations(live).get(ANNOTATION, ""))
    except (ValueError, TypeError, RecursionError):
        return EMPTY  # an annotation is anybody's text
    if not isinstance(noted, dict) or noted.get("apiVersion") != live.get("apiVersion"):
        return EMPTY
    changes = compare(noted, live, shape)
    return (fields_of(noted, shape) - changes.written).without(changes.removed)


def kept_in_step(document: Document, config: Document, manager: str) -> Document:
    """Return *document* with its annotation, if it has one, saying what kubectl applies now."""
    annotations = _annotations(document)
    if manager != _KUBECTL or ANNOTATION not in annotations:
        return document
    metadata = document["metadata"]
    said = {k: v for k, v in _annotations(config).items() if k != ANNOTATION}
    noted = {**config, "metadata": {**config["metadata"], "annotations": said}}
    text = json.dumps(noted, separators=(",", ":"), ensure_ascii=False) + "\n"
    if len(text.encode("utf-8", "replace")) > _MAX_NOTE_BYTES:
        text = ""
    annotations = {**annotations, ANNOTATION: text}
    return {**document, "metadata": {**metadata, "annotations": annotations}}


def _annotations(document: Document) -> Document:
    metadata = document.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    return annotations if isinstance(annotations, dict) else {}
