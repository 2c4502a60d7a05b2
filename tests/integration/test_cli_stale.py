"""What is said of orphans when not everything could be looked at."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandboxer.api.private import served_privately
from sandboxer.client.paths import path_of
from sandboxer.kinds.host import Host, HostFacts, HostLoad
from sandboxer.kinds.inventory import HostInventory
from sandboxer.testing.builders import host
from tests.e2e.installation import Installation


def half_blind() -> Starlette:
    """Return an API of one host on which one extension cannot look, and the others see nothing."""
    looked = HostInventory(
        round_trip_ms=1.0,
        facts=HostFacts(),
        load=HostLoad(),
        problems={"ext.compose-ssh": "The engine does not answer."},
    )

    async def hosts(_: Request) -> Response:
        return JSONResponse({"metadata": {}, "items": [host("h1").to_document()]})

    async def inventory(_: Request) -> Response:
        return JSONResponse(looked.to_document())

    path = path_of(Host, name="h1", subresource="inventory")
    return Starlette(routes=[Route(path_of(Host), hosts), Route(path, inventory)])


async def test_what_could_not_be_looked_at_is_not_called_clean(tmp_path: Path) -> None:
    """The extension is named, and neither words nor exit code say that nothing is stale."""
    here = Installation(tmp_path)
    async with served_privately(half_blind(), tmp_path) as path:
        server = f"unix://{path}"
        for verb in (("inspect", "stale"), ("reap-stale",)):
            done = await asyncio.to_thread(here.run, *verb, SANDBOXER_SERVER=server)

            assert done.returncode == 9
            assert "h1: ext.compose-ssh cannot look: The engine does not answer." in done.stderr
            assert "Nothing is stale" not in done.stdout
