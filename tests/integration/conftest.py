"""Fixtures several files share; everything else is imported from the labs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandboxer.api.app import create_app
from sandboxer.api.private import served_privately
from sandboxer.client import Client, Server
from sandboxer.clock import SystemClock
from sandboxer.store import Store
from tests.integration.compose_lab import h1, place

__all__ = ["h1", "place"]

# What differs most between an engine asked over its socket and one asked by command.
_BOTH_WAYS = {
    "test_a_canary_lives_and_leaves_nothing",
    "test_one_observation_lists_all_sandboxes",
    "test_reap_removes_ours_and_refuses_others",
}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store."""
    opened = await Store.open(tmp_path / "store.db", clock=SystemClock())
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def client(store: Store, tmp_path: Path) -> AsyncIterator[Client]:
    """The command line's client of the API over that store, on a socket."""
    async with served_privately(create_app(store), tmp_path) as path:
        opened = Client(Server(socket=path))
        try:
            yield opened
        finally:
            await opened.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the second way to most of the compose tests to the exhaustive run."""
    for item in items:
        if not isinstance(item, pytest.Function) or item.originalname in _BOTH_WAYS:
            continue
        callspec = getattr(item, "callspec", None)
        if callspec is not None and callspec.params.get("place") == "h3":
            item.add_marker(pytest.mark.exhaustive)
