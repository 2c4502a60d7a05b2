"""Paths of the API."""

from __future__ import annotations

import pytest

from sandboxer.client.paths import path_of
from sandboxer.kinds.event import Event
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import Sandbox

GROUP = "/apis/sandboxer.dev/v1alpha1"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (path_of(Sandbox), f"{GROUP}/sandboxes"),
        (path_of(Sandbox, "a"), f"{GROUP}/namespaces/a/sandboxes"),
        (path_of(Sandbox, None, "x"), f"{GROUP}/namespaces/default/sandboxes/x"),
        (path_of(Sandbox, "a", "x", "exec"), f"{GROUP}/namespaces/a/sandboxes/x/exec"),
        (path_of(Host, "ignored", "h1"), f"{GROUP}/hosts/h1"),
        (path_of(Event, "a"), "/api/v1/namespaces/a/events"),
        (path_of(Sandbox, "../b", "x/y?z"), f"{GROUP}/namespaces/..%2Fb/sandboxes/x%2Fy%3Fz"),
    ],
)
def test_path(path: str, expected: str) -> None:
    """Groups, namespaces, subresources; names cannot leave their place."""
    assert path == expected
