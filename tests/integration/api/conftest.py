"""The API over a real store, asked through ASGI."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from sandboxer.api.app import create_app
from sandboxer.registry import Registry
from sandboxer.store import Store


@pytest.fixture
async def client(store: Store) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API over that store, in an installation without extensions."""
    app = create_app(store, registry=Registry(loaded={}, problems={}))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as opened:
        yield opened
