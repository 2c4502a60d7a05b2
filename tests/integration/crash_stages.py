"""The backends that controllers die on: one in files, processes here, and machines of the rig."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from sandboxer.clock import SystemClock
from sandboxer.engine import Engine
from sandboxer.extension import Observation
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import API_VERSION, Resource
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.registry import load_registry
from sandboxer.session import Completed
from sandboxer.store import KeyLocks, Store
from sandboxer.telemetry import Telemetry
from sandboxer.testing.builders import host, profile, sandbox
from sandboxer.testing.clock import EPOCH, ManualClock
from sandboxer.testing.fake import FakeExtension, FakeObserver, FakeWorld, Thing
from sandboxer.transport import Connections
from sandboxer.transport.link import Link
from tests.integration.crash_points import NAME, Life, Points, closing
from tests.integration.engine_lab import make_engine

# Seconds of the manual clock between two controllers.
PAUSE_S = 60.0

# Seconds of the manual clock that pass at each look.
STEP_S = 0.05

# Short, so that an orphan need not be waited for.
GRACE_S = 0.1


class Things(dict[tuple[str, str], Thing]):
    """What exists, one file for each, so that it outlives whoever made it."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        directory.mkdir(exist_ok=True)
        for path in directory.glob("*@*"):
            found = Thing(**json.loads(path.read_text()))
            super().__setitem__(cast("tuple[str, str]", tuple(path.name.split("@"))), found)

    def __setitem__(self, key: tuple[str, str], thing: Thing) -> None:
        """Make or change a thing in one instant."""
        new = self._directory / "new"
        new.write_text(json.dumps({**asdict(thing), "labels": {**thing.labels}}))
        new.rename(self._path(key))
        super().__setitem__(key, thing)

    def pop(self, key: tuple[str, str], *default: Any) -> Any:
        """Remove a thing, if it is there."""
        self._path(key).unlink(missing_ok=True)
        return super().pop(key, *default)

    def _path(self, key: tuple[str, str]) -> Path:
        return self._directory / "@".join(key)


class DyingFake(FakeExtension):
    """A fake whose removal of an orphan is a point as well, before and after."""

    async def reap(self, session: Any, environment: str, uid: str) -> None:
        """See `FakeExtension.reap`."""
        await super().reap(session, environment, uid)
        if self.world.pause is not None:
            await self.world.pause("reap")


class DyingObserver(FakeObserver):
    """Looks are points, too."""

    async def refresh(self, extension: str, host: Host, uid: str) -> Observation:
        """See `FakeObserver.refresh`."""
        if self.world.pause is not None:
            await self.world.pause("refresh")
        return await super().refresh(extension, host, uid)


class FakeStage:
    """`ext.fake` on two hosts, with a clock of its own."""

    first: Sequence[Resource] = (profile(), host("h1"), host("h2"))

    def __init__(self) -> None:
        self._now_s = 0.0

    @asynccontextmanager
    async def open(self, directory: Path, points: Points | None) -> AsyncIterator[Life]:
        """See `Stage.open`."""
        self._now_s += PAUSE_S
        clock = ManualClock(EPOCH + timedelta(seconds=self._now_s))
        world = FakeWorld(things=Things(directory / "world"))
        if points is not None:
            world.pause = _pausing(points)
        store = await Store.open(directory / "store.db", clock=clock)
        locks = KeyLocks(directory / "locks")
        engine = make_engine(
            store, DyingObserver(world), clock, locks, extension=DyingFake, orphan_grace_s=GRACE_S
        )
        async with closing(store, locks):
            yield Life(store, engine, clock, lambda: clock.advance(STEP_S), look_s=0.001)

    def sandbox(self) -> Sandbox:
        """See `Stage.sandbox`."""
        return sandbox(NAME, ports=[{"name": "web", "containerPort": 80}])

    def listed(self, directory: Path) -> list[tuple[str, str]]:
        """See `Stage.listed`."""
        names = (path.name.partition("@") for path in (directory / "world").glob("*@*"))
        return [(host_name, uid) for host_name, _, uid in names]


def _pausing(points: Points) -> Callable[[str], Any]:
    async def pause(method: str) -> None:
        points.reach(method)

    return pause


class CountedLink:
    """A link whose commands are points before and after."""

    def __init__(self, link: Link, points: Points) -> None:
        self._link = link
        self._points = points

    def __getattr__(self, name: str) -> Any:
        """Be the link in everything else."""
        return getattr(self._link, name)

    async def run(self, argv: Sequence[str], **how: Any) -> Completed:
        """See `Link.run`."""
        self._points.reach("before a command")
        done = await self._link.run(argv, **how)
        self._points.reach("after a command")
        return done

    async def upload(self, source: str, destination: str, **how: Any) -> None:
        """See `Link.upload`."""
        self._points.reach("before an upload")
        await self._link.upload(source, destination, **how)
        self._points.reach("after an upload")


class CountedConnections(Connections):
    """Real connections over which every command is a point."""

    def __init__(self, points: Points) -> None:
        super().__init__(SystemClock())
        self._points = points

    async def _connect(self, host: Host, pinned: str) -> Link:
        return cast("Link", CountedLink(await super()._connect(host, pinned), self._points))


@dataclass
class RealStage:
    """
    A bundled extension on a real machine.

    Args:
        extension: Its name.
        host: Document of the one Host.
        spec: Of the sandbox, without its profile.
        instances: Yields the uid of every instance of an installation, one for each, in any way but
            ours.
    """

    extension: str
    host: dict[str, Any]
    spec: Mapping[str, Any]
    instances: Callable[[str], Iterator[str]]

    @property
    def first(self) -> Sequence[Resource]:
        """See `Stage.first`."""
        return profile("real", self.extension), Host.parse(self.host)

    @asynccontextmanager
    async def open(self, directory: Path, points: Points | None) -> AsyncIterator[Life]:
        """See `Stage.open`."""
        clock = SystemClock()
        store = await Store.open(directory / "store.db", clock=clock)
        locks = KeyLocks(directory / "locks")
        connections = Connections(clock) if points is None else CountedConnections(points)
        registry = load_registry()
        telemetry = Telemetry(
            connections=connections, extensions=registry.extensions,
            environment=store.environment, clock=clock,
        )  # fmt: skip
        engine = Engine(
            store, telemetry, registry=registry, locks=locks, clock=clock, orphan_grace_s=GRACE_S
        )
        async with closing(store, locks):
            try:
                yield Life(store, engine, clock)
            finally:
                await telemetry.close()
                await connections.close()

    def sandbox(self) -> Sandbox:
        """See `Stage.sandbox`."""
        head = {"apiVersion": API_VERSION, "kind": "Sandbox"}
        metadata = {"name": NAME, "namespace": "default"}
        return Sandbox.parse(
            {**head, "metadata": metadata, "spec": {"profile": "real", **self.spec}}
        )

    def listed(self, directory: Path) -> list[tuple[str, str]]:
        """See `Stage.listed`."""
        with contextlib.closing(sqlite3.connect(directory / "store.db")) as store:
            (environment,) = store.execute("SELECT environment FROM meta").fetchone()
        return [(self.host["metadata"]["name"], uid) for uid in self.instances(environment)]
