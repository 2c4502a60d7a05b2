"""Fixtures several files share; everything else is imported from the labs."""

from __future__ import annotations

import pytest

from tests.integration.compose_lab import h1, place

__all__ = ["h1", "place"]

# What differs most between an engine asked over its socket and one asked by command.
_BOTH_WAYS = {
    "test_a_canary_lives_and_leaves_nothing",
    "test_one_observation_lists_all_sandboxes",
    "test_reap_removes_ours_and_refuses_others",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the second way to most of the compose tests to the exhaustive run."""
    for item in items:
        if not isinstance(item, pytest.Function) or item.originalname in _BOTH_WAYS:
            continue
        callspec = getattr(item, "callspec", None)
        if callspec is not None and callspec.params.get("place") == "h3":
            item.add_marker(pytest.mark.exhaustive)
