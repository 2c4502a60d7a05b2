"""An operator in ten lines: it greets every new sandbox and labels those that are ready."""

from __future__ import annotations

from typing import Any

import kopf


@kopf.on.create("sandboxer.dev", "v1alpha1", "sandboxes")
def greet(body: kopf.Body, name: str, **_: Any) -> None:
    """Record an event, which `kubectl describe` and `sandboxer events` show."""
    kopf.info(body, reason="Greeted", message=f"Hello, {name}.")


@kopf.on.event("sandboxer.dev", "v1alpha1", "sandboxes")
def mark(status: kopf.Status, labels: kopf.Labels, patch: kopf.Patch, **_: Any) -> None:
    """Keep a label that says what the phase says, so that it can be selected."""
    if labels.get("example.com/phase") != status.get("phase", ""):
        patch.metadata.labels["example.com/phase"] = status.get("phase", "")


@kopf.on.delete("sandboxer.dev", "v1alpha1", "sandboxes")
def part(name: str, logger: kopf.Logger, **_: Any) -> None:
    """Be asked before a sandbox goes; kopf holds it with a finalizer until this returns."""
    logger.info("Farewell, %s.", name)
