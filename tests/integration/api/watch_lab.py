"""Watches by plain ASGI, line by line; httpx's transport waits for the whole body."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from starlette.types import ASGIApp

GROUP = "/apis/sandboxer.dev/v1alpha1"
SANDBOXES = f"{GROUP}/namespaces/default/sandboxes"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"

# Seconds after which a test that waits for a line has failed.
DEADLINE_S = 60


class Watch:
    """One open watch; `reads` may be cleared to play a client that does not read."""

    def __init__(self) -> None:
        self.status = 0
        self.answered = asyncio.Event()
        self.ended = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self.sent = 0
        """Chunks the application has begun to send."""
        self.left = asyncio.Event()
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.answered.set()
            return
        self.sent += 1
        await self.reads.wait()
        for line in message.get("body", b"").splitlines():
            self._lines.put_nowait(line)
        if not message.get("more_body", False):
            self.ended.set()

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def line(self) -> dict[str, Any]:
        """Return the next event."""
        async with asyncio.timeout(DEADLINE_S):
            event: dict[str, Any] = json.loads(await self._lines.get())
            return event

    async def told(self, count: int) -> list[tuple[str, str]]:
        """Return type and name of the next events."""
        lines = [await self.line() for _ in range(count)]
        return [(line["type"], line["object"]["metadata"]["name"]) for line in lines]

    async def rest(self) -> list[dict[str, Any]]:
        """Return what is left once the stream has ended."""
        async with asyncio.timeout(DEADLINE_S):
            await self.ended.wait()
        return [json.loads(self._lines.get_nowait()) for _ in range(self._lines.qsize())]


@asynccontextmanager
async def watching(
    app: ASGIApp, path: str = SANDBOXES, accept: str = "application/json", **query: str
) -> AsyncIterator[Watch]:
    """Open a watch for the block; it has answered when the block begins."""
    watch = Watch()
    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(),
        "query_string": urlencode({"watch": "1", **query}).encode(), "http_version": "1.1",
        "headers": [(b"accept", accept.encode())], "root_path": "", "scheme": "http",
        "server": ("api", 80), "client": ("client", 1),
    }  # fmt: skip
    task = asyncio.ensure_future(app(scope, watch.receive, watch.send))
    try:
        async with asyncio.timeout(DEADLINE_S):
            await watch.answered.wait()
        yield watch
    finally:
        watch.left.set()
        watch.reads.set()
        await task
