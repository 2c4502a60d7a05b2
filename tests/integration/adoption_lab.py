"""A store that was lost, a world that was not, and a new store over it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sandboxer.engine.adoption import Adoption, Lost
from sandboxer.extension import Observation
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Cause, KeyLocks, Store
from sandboxer.store.environment import take_over
from sandboxer.store.signing import KEY_FILE
from sandboxer.testing.builders import host, profile, sandbox
from sandboxer.testing.clock import ManualClock
from sandboxer.testing.fake import (
    FAKE_EXTENSION,
    FakeExtension,
    FakeObserver,
    FakeWorld,
    Thing,
)
from tests.integration.engine_lab import Lab, open_lab

HOST = "h1"
PORTS = [{"name": "web", "containerPort": 80}]


@dataclass
class Loss:
    """What is known of a sandbox whose store was lost."""

    world: FakeWorld
    path: Path
    """Directory of the store that was lost; its key is still there."""
    environment: str
    sandbox: Sandbox

    @property
    def key(self) -> tuple[str, str]:
        """Where its thing is in the world."""
        return HOST, self.sandbox.metadata.uid

    @property
    def thing(self) -> Thing:
        """What there is of it."""
        return self.world.things[self.key]

    def damage(self, **fields: Any) -> None:
        """Change what there is of it behind everybody's back."""
        self.world.things[self.key] = replace(self.thing, **fields)


class WatchedObserver(FakeObserver):
    """One that notes as whom it was asked to look."""

    def __init__(self, world: FakeWorld) -> None:
        super().__init__(world)
        self.looks: list[str | None] = []

    async def survey(
        self, extension: str, host: Host, environment: str | None = None, uid: str = ""
    ) -> Collection[Observation]:
        """Look, and note as whom."""
        self.looks.append(environment)
        return await super().survey(extension, host, environment, uid)


@dataclass
class Heir:
    """The new store with an engine, and the way to adopt."""

    lab: Lab
    adoption: Adoption
    uid: str
    looks: list[str | None]
    """As which environment extensions were asked to look, one by one; None is the own one."""

    async def survey(self, *, trusts: bool = False) -> Sequence[Lost]:
        """List what is lost on the host."""
        found = self.lab.store.get(Host, HOST)
        assert found is not None
        return (await self.adoption.survey(found, trusts=trusts)).lost

    async def adopt(self, *, trusts: bool = False) -> Lost | None:
        """Adopt the sandbox that was lost."""
        found = self.lab.store.get(Host, HOST)
        assert found is not None
        return await self.adoption.adopt(
            found, self.uid, extension=FAKE_EXTENSION, cause=Cause("user/me"), trusts=trusts
        )

    async def refusal(self) -> str:
        """Try to adopt it, which must be refused and leave everything as it is; return why."""
        world, store = self.lab.world, self.lab.store
        thing = world.things[HOST, self.uid]
        found = await self.adopt()
        assert found is not None
        assert found.objection
        assert world.things[HOST, self.uid] == thing
        assert self.uid not in {each.metadata.uid for each in store.list(Sandbox)}
        return found.objection


async def lose(path: Path, **spec: Any) -> Loss:
    """Make a sandbox ready and lose its store."""
    path.mkdir()  # noqa: ASYNC240 - a test may wait for its disk
    async with open_lab(path) as lab:
        await lab.store.create(profile())
        await lab.store.create(host())
        await lab.store.create(sandbox(ports=PORTS, **spec))
        await lab.until(lambda: lab.is_true("Ready"))
        loss = Loss(lab.world, path, lab.store.environment, lab.sandbox())
    (path / "store.db").unlink()
    loss.world.calls.clear()
    return loss


@contextlib.asynccontextmanager
async def inherited(
    loss: Loss, path: Path, *, keeps_key: bool = True, **profile_spec: Any
) -> AsyncIterator[Heir]:
    """Open a new store for what a lost one has left, with the same Host and a Profile."""
    path.mkdir()  # noqa: ASYNC240 - a test may wait for its disk
    if keeps_key:
        shutil.copy(loss.path / KEY_FILE, path / KEY_FILE)
    await (await Store.open(path / "store.db", clock=ManualClock())).close()
    await asyncio.to_thread(take_over, path / "store.db", loss.environment)
    async with open_lab(path, world=loss.world) as lab:
        await lab.store.create(host())
        if profile_spec.pop("profile", True):
            await lab.store.create(profile(**profile_spec))
        locks = KeyLocks(path / "locks")
        observer = WatchedObserver(lab.world)
        adoption = Adoption(
            store=lab.store, observer=observer, locks=locks, clock=lab.clock,
            extensions={FAKE_EXTENSION: FakeExtension(lab.world)},
        )  # fmt: skip
        yield Heir(lab, adoption, loss.sandbox.metadata.uid, observer.looks)
        locks.close()
