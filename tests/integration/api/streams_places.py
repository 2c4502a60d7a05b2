"""The two places tests look into: `near` on this machine, `far` with two services on a rig host."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.api.streams_lab import Lab, serving
from tests.rig import Rig

HOST = "h1"

# `app` prints a line and stays; `db` only stays.
COMPOSE = """
services:
  db:
    image: localhost/sbx-base:1
    command: [sleep, "2147483647"]
  app:
    image: localhost/sbx-base:1
    command: [sh, -c, "echo first; echo second; exec sleep 2147483647"]
"""
NEAR_COMMAND = "echo first; echo second; exec sleep 2147483647"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    """A controller with one sandbox near and one far."""
    rig.ssh(HOST, "podman rm -fa -t 0")
    rig.clean(HOST)
    home: Path = tmp_path_factory.mktemp("lab")
    async with serving(home, [rig.hosts[HOST].manifest()]) as opened:
        await opened.sandbox("near", profile="profile.local", inputs={"command": NEAR_COMMAND})
        await opened.sandbox(
            "far",
            profile="profile.compose-e2e",
            inputs={"compose": COMPOSE},
            placement={"host": HOST},
        )
        yield opened
        await opened.clear()
    rig.ssh(HOST, "podman rm -fa -t 0")
    rig.clean(HOST)
