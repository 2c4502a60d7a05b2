"""A pool of real processes under a real controller, which is killed while it scales."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sandboxer.clock import SystemClock
from sandboxer.engine.ownership import ORPHAN
from sandboxer.kinds.host import LOCAL_HOST, Host
from sandboxer.kinds.meta import API_VERSION
from sandboxer.kinds.pool import SandboxPool
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Delete, Store
from tests.changing import change_spec

PROGRAM = Path(sys.prefix) / "bin" / "sandboxer"

# Making a process takes about half a second each on two busy cores.
DEADLINE_S = 90.0

# Seconds a controller lives on when it has stored new sandboxes of the pool: it dies before it has
# recorded them, while it makes them, and when they are made.
LIVES_S = (0.0, 0.1, 1.0)


class Stage:
    """A data directory: written through a store of the test's own, reconciled by a process."""

    def __init__(self, directory: Path, store: Store) -> None:
        self.store = store
        self.work_root = directory / "work"
        self._directory = directory
        self._environment = {"SANDBOXER_DATA_DIR": str(directory), "PATH": "/usr/bin:/bin:/sbin"}
        self._controller: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start a controller; it may still be starting when this returns."""
        with (self._directory / "controller.log").open("ab") as log:
            self._controller = subprocess.Popen(
                [PROGRAM, "controller", "run", "--listen", "none"],
                env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `sandboxer` with these arguments."""
        return subprocess.run(
            [PROGRAM, *arguments], env=self._environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip

    def end(self, signum: signal.Signals = signal.SIGKILL) -> None:
        """End the controller, if one runs."""
        if self._controller is not None:
            self._controller.send_signal(signum)
            self._controller.wait(30)
            self._controller = None

    async def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until something holds; the log is shown when it does not."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                watch = self.store.watch()
                while not holds():
                    await anext(watch)
        except TimeoutError:
            said = (self._directory / "controller.log").read_text(errors="replace")[-4000:]
            raise AssertionError(f"not in time: {what}\n{said}") from None

    async def write(self, **spec: Any) -> None:
        """Write fields of the pool's spec, whatever the controller writes meanwhile."""
        await change_spec(self.store, SandboxPool, "warm", **spec)

    def is_ready(self, replicas: int) -> bool:
        """Tell whether the pool has so many sandboxes, all Ready, and there are no others."""
        found = self.store.get(SandboxPool, "warm")
        return (
            found is not None
            and found.status.observed_generation == found.metadata.generation
            and found.status.is_true("Ready")
            and not found.status.is_true("Reconciling")
            and found.status.replicas == replicas == len(self.sandboxes())
        )

    def sandboxes(self) -> list[Sandbox]:
        """Return all sandboxes, those being deleted included."""
        return self.store.list(Sandbox)

    def workspaces(self) -> list[str]:
        """Return the directories of sandboxes on this machine."""
        return sorted(path.name for path in self.work_root.glob("sbx-*"))


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """An installation whose workspaces are below the test's directory."""
    store = await Store.open(tmp_path / "store.db", clock=SystemClock())
    made = Stage(tmp_path, store)
    made.work_root.mkdir(mode=0o700)
    spec = {"transport": "local", "workRoot": str(made.work_root)}
    metadata = {"name": LOCAL_HOST}
    await store.create(
        Host.parse({"apiVersion": API_VERSION, "kind": "Host", "metadata": metadata, "spec": spec})
    )
    yield made
    made.end()
    await store.write([Delete(SandboxPool, "warm", "default")])
    await store.write([Delete(Sandbox, s.metadata.name, "default") for s in made.sandboxes()])
    made.start()
    # NOTE: processes outlive the test's directory, and nobody else would end them.
    await made.until("nothing left", lambda: not made.sandboxes() and not made.workspaces())
    made.end(signal.SIGTERM)
    await store.close()


def _template(version: str) -> dict[str, Any]:
    spec = {
        "profile": "profile.local",
        "inputs": {"isolation": "none", "command": "exec sleep 100000"},
        "env": {"VERSION": version},
    }
    return {"spec": spec}


async def _create(stage: Stage, replicas: int) -> None:
    document = {
        "apiVersion": API_VERSION,
        "kind": "SandboxPool",
        "metadata": {"name": "warm", "namespace": "default"},
        "spec": {"replicas": replicas, "template": _template("1")},
    }
    await stage.store.create(SandboxPool.parse(document))


def _has(stage: Stage, count: int) -> bool:
    return len(stage.sandboxes()) >= count


@pytest.mark.timeout(400)
async def test_a_pool_of_processes(stage: Stage) -> None:
    """It gets Ready, shrinks, is exchanged after a change, and its sandboxes survive as orphans."""
    stage.start()
    await _create(stage, 5)
    await stage.until("five Ready", lambda: stage.is_ready(5))
    assert len(stage.workspaces()) == 5

    await stage.write(replicas=2)
    await stage.until("two Ready", lambda: stage.is_ready(2))
    assert len(stage.workspaces()) == 2

    await stage.write(template=_template("2"))
    await stage.until(
        "exchanged",
        lambda: stage.is_ready(2) and {s.spec.env["VERSION"] for s in stage.sandboxes()} == {"2"},
    )

    await stage.store.write([Delete(SandboxPool, "warm", "default", finalizers=(ORPHAN,))])
    await stage.until("the pool gone", lambda: not stage.store.list(SandboxPool))
    orphans = stage.sandboxes()
    assert [s.metadata.owner_references for s in orphans] == [(), ()]
    assert all(s.status.is_true("Ready") for s in orphans)


@pytest.mark.timeout(400)
async def test_killed_while_scaling_it_ends_with_the_number(stage: Stage) -> None:
    """However early or late it is killed, in the end there are exactly as many; deleted, none."""
    await _create(stage, 1)
    for wanted, life_s in zip((3, 5, 7), LIVES_S, strict=True):
        stage.start()
        await stage.write(replicas=wanted)
        await stage.until("it began", partial(_has, stage, wanted))
        await asyncio.sleep(life_s)
        stage.end()

    stage.start()
    await stage.until("seven Ready", lambda: stage.is_ready(7))
    assert len(stage.workspaces()) == 7

    await stage.store.delete(SandboxPool, "warm")
    await stage.until("nothing left", lambda: not stage.sandboxes())
    assert stage.workspaces() == []


@pytest.mark.timeout(400)
async def test_commands_that_wait_do_it_without_a_controller(stage: Stage) -> None:
    """Waiting for a pool makes its sandboxes; deleting it in the foreground takes them away."""
    await _create(stage, 2)

    commands = [
        ("wait", "sbxpool/warm", "--for=condition=Ready", "--timeout=60s"),
        ("delete", "sbxpool/warm", "--cascade=foreground", "--timeout=60s"),
    ]
    for arguments, count in zip(commands, (2, 0), strict=True):
        done = await asyncio.to_thread(stage.command, *arguments)
        assert done.returncode == 0, done.stdout
        await stage.store.write([])
        assert len(stage.workspaces()) == len(stage.sandboxes()) == count
