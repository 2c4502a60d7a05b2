"""Who may have things on hosts listed, and who may have them removed."""

from __future__ import annotations

import pytest

from sandboxer.api.tokens import Role
from sandboxer.api.users import User, action_of, permits

PATH = "/apis/sandboxer.dev/v1alpha1/hosts/h1"


@pytest.mark.parametrize(
    ("role", "method", "subresource", "allowed"),
    [
        ("viewer", "GET", "inventory", True),
        ("viewer", "POST", "reap", False),
        ("viewer", "GET", "reap", False),
        ("admin", "POST", "reap", True),
    ],
)
def test_only_admins_remove(role: Role, method: str, subresource: str, *, allowed: bool) -> None:
    """A viewer sees what is stale and cannot have it removed."""
    scope = {"type": "http", "method": method, "path": f"{PATH}/{subresource}"}

    assert permits(User("somebody", role), action_of(scope)) is allowed
