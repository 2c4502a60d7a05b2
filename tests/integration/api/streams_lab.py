"""A controller with its API on a plain port, sandboxes to look into, and clients that do."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandboxer.api.app import create_app
from sandboxer.api.server import _Server
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.manager import Manager
from sandboxer.manager.builtins import builtin_resources, register_builtins
from sandboxer.manager.engine import running
from sandboxer.settings import settings_from_environment
from tests.rig.kubectl import kubectl_program

# Seconds a test waits for something to become true on two shared cores.
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Lab:
    """A running controller."""

    manager: Manager
    url: str
    home: Path
    """Directory of this lab's own."""

    async def sandbox(self, name: str, **spec: Any) -> Sandbox:
        """Make a sandbox and return it once it is Ready."""
        document = {
            "apiVersion": "sandboxer.dev/v1alpha1",
            "kind": "Sandbox",
            "metadata": {"name": name, "namespace": "default"},
            "spec": spec,
        }
        await self.manager.store.create(Sandbox.parse(document))
        await until(lambda: self._ready(name))
        found = self.manager.store.get(Sandbox, name, "default")
        assert found is not None
        return found

    async def clear(self) -> None:
        """Take every sandbox away; a workspace on this machine would outlive the test."""
        store = self.manager.store
        for each in store.list(Sandbox):
            await store.delete(Sandbox, each.metadata.name, each.metadata.namespace or "")
        await until(lambda: not store.list(Sandbox))

    def _ready(self, name: str) -> bool:
        found = self.manager.store.get(Sandbox, name, "default")
        assert found is None or not found.status.is_true("Stalled"), found and found.status
        return found is not None and found.status.is_true("Ready")

    async def kubectl(self, *argv: str, stdin: bytes = b"") -> Ended:
        """Run a real kubectl to its end."""
        process = await self.start_kubectl(*argv)
        async with asyncio.timeout(PATIENCE_S):
            stdout, stderr = await process.communicate(stdin)
        return Ended(process.returncode or 0, stdout, stderr.decode(errors="replace"))

    async def start_kubectl(self, *argv: str, **options: Any) -> asyncio.subprocess.Process:
        """Start a real kubectl with its own cache and without any configuration."""
        pipe = asyncio.subprocess.PIPE
        command = self.kubectl_command(*argv)
        streams = {"stdin": pipe, "stdout": pipe, "stderr": pipe} | options
        return await asyncio.create_subprocess_exec(*command, env=self.environment, **streams)

    def kubectl_command(self, *argv: str) -> list[str]:
        """Return the command line of a kubectl."""
        cache = str(self.home / "cache")
        return [
            str(kubectl_program()),
            f"--server={self.url}",
            f"--cache-dir={cache}",
            *argv,
        ]

    @property
    def environment(self) -> dict[str, str]:
        """What clients run with."""
        return {"HOME": str(self.home), "PATH": os.environ["PATH"], "TERM": "xterm"}


@dataclass(frozen=True, slots=True)
class Ended:
    """A client that ran to its end."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode()


async def until(holds: Callable[[], Any]) -> None:
    """Return once *holds*; fail when it does not in time."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def serving(home: Path, hosts: Sequence[dict[str, Any]] = ()) -> AsyncIterator[Lab]:
    """Run a controller's engine and its API inside the block."""
    settings = settings_from_environment({"SANDBOXER_DATA_DIR": str(home / "data")})
    async with Manager.open(settings) as manager:
        await register_builtins(manager.store, builtin_resources(manager.registry))
        for host in hosts:
            await manager.store.create(Host.parse(host))
        app = create_app(manager.store, registry=manager.registry, entrance=manager.entrance)
        listening = socket.create_server(("127.0.0.1", 0))
        server = _Server(app, None)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with running(manager.engine(lambda _: True)), asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listening]))
            try:
                yield Lab(manager, url, home)
            finally:
                server.stop()
