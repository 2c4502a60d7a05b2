"""Documents for tests: valid, small, and with what a test cares about given by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import API_VERSION
from sandboxer.kinds.profile import Profile
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.testing.fake import FAKE_EXTENSION


def sandbox(
    name: str = "hello", *, status: Mapping[str, Any] | None = None, **spec: Any
) -> Sandbox:
    """
    Return a Sandbox of profile `fake`.

    Args:
        name: In namespace `default`.
        status: Fields of the status as in a document.
        **spec: Fields of the spec as in a document (`driftPolicy="Report"`).
    """
    return Sandbox.parse(
        {
            "apiVersion": API_VERSION,
            "kind": "Sandbox",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"profile": "fake", **spec},
            "status": dict(status or {}),
        }
    )


def host(name: str = "h1", *, labels: Mapping[str, str] | None = None, **spec: Any) -> Host:
    """Return a Host reached locally, with *spec* as in a document."""
    return Host.parse(
        {
            "apiVersion": API_VERSION,
            "kind": "Host",
            "metadata": {"name": name, "labels": dict(labels or {})},
            "spec": {"transport": "local", **spec},
        }
    )


def profile(name: str = "fake", *extensions: str, **spec: Any) -> Profile:
    """Return a Profile whose candidates are *extensions*, the fake one when none is named."""
    candidates = [{"extension": extension} for extension in extensions or (FAKE_EXTENSION,)]
    return Profile.parse(
        {
            "apiVersion": API_VERSION,
            "kind": "Profile",
            "metadata": {"name": name},
            "spec": {"candidates": candidates, **spec},
        }
    )
