"""Any sequence of writes, from two processes' points of view, against a small model."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sandboxer.clock import SystemClock
from sandboxer.errors import ConflictError, NotFoundError, SandboxerError
from sandboxer.kinds.meta import ObjectMeta
from sandboxer.kinds.sandbox import Sandbox, SandboxSpec
from sandboxer.store import Change, Store

NAMES = st.sampled_from(["a", "b", "c"])
FINALIZERS = st.sampled_from([(), ("x/y",)])


class Known:
    """What the model knows of one object."""

    def __init__(self, obj: Sandbox) -> None:
        self.env = obj.spec.env
        self.repairs = 0
        self.finalizers = obj.metadata.finalizers
        self.generation = 1
        self.version = obj.metadata.resource_version
        self.deleting = False


class StoreMachine(RuleBasedStateMachine):
    """Writes through one of two stores on one file; both must come to tell what the model says."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.stores = [self.open(), self.open()]
        self.model: dict[str, Known] = {}
        self.revision = 0
        self.read: dict[str, Sandbox] = {}
        self.told: list[Change] = []
        self.stores[0].subscribe(self.told.append)

    def open(self) -> Store:
        path = self.directory / "store.db"
        return self.runner.run(Store.open(path, clock=SystemClock()))

    def attempt(self, coroutine: Any) -> Any:
        try:
            return self.runner.run(coroutine)
        except SandboxerError as error:
            return error

    def written(self, name: str, result: Sandbox) -> None:
        """Take over the version of a write that changed something."""
        self.revision += 1
        assert result.metadata.resource_version == str(self.revision)
        self.model[name].version = result.metadata.resource_version
        self.read[name] = result

    @rule(via=st.integers(0, 1), name=NAMES, finalizers=FINALIZERS)
    def create(self, via: int, name: str, finalizers: tuple[str, ...]) -> None:
        obj = Sandbox(metadata=ObjectMeta(name=name, finalizers=finalizers))
        result = self.attempt(self.stores[via].create(obj))
        if name in self.model:
            assert isinstance(result, ConflictError)
            return
        self.model[name] = Known(result)
        self.written(name, result)

    @rule(via=st.integers(0, 1), name=NAMES, value=st.sampled_from("12"), finalizers=FINALIZERS)
    def update(self, via: int, name: str, value: str, finalizers: tuple[str, ...]) -> None:
        """Write what was last read, which may be out of date."""
        if (obj := self.read.get(name)) is None:
            return
        metadata = obj.metadata.model_copy(update={"finalizers": finalizers})
        wanted = obj.model_copy(
            update={"spec": SandboxSpec(env={"A": value}), "metadata": metadata}
        )
        result = self.attempt(self.stores[via].update(wanted))
        known = self.model.get(name)
        if known is None:
            assert isinstance(result, NotFoundError)
        elif known.version != obj.metadata.resource_version:
            assert isinstance(result, ConflictError)
        elif known.deleting and not finalizers:
            del self.model[name]
            self.revision += 1
        elif (known.env, known.finalizers) != ({"A": value}, finalizers):
            known.generation += known.env != {"A": value}
            known.env, known.finalizers = {"A": value}, finalizers
            self.written(name, result)

    @rule(via=st.integers(0, 1), name=NAMES, repairs=st.integers(0, 2))
    def update_status(self, via: int, name: str, repairs: int) -> None:
        if (obj := self.read.get(name)) is None:
            return
        status = obj.status.model_copy(update={"repairs": repairs})
        result = self.attempt(
            self.stores[via].update_status(obj.model_copy(update={"status": status}))
        )
        known = self.model.get(name)
        if known is None:
            assert isinstance(result, NotFoundError)
        elif known.version != obj.metadata.resource_version:
            assert isinstance(result, ConflictError)
        elif known.repairs != repairs:
            known.repairs = repairs
            self.written(name, result)

    @rule(via=st.integers(0, 1), name=NAMES)
    def delete(self, via: int, name: str) -> None:
        """Delete without telling who reads: what was read before is out of date from now on."""
        result = self.attempt(self.stores[via].delete(Sandbox, name))
        known = self.model.get(name)
        if known is None:
            assert isinstance(result, NotFoundError)
        elif not known.finalizers:
            assert result is None
            del self.model[name]
            self.revision += 1
        elif not known.deleting:
            known.deleting = True
            known.generation += 1
            self.revision += 1
            known.version = result.metadata.resource_version

    @rule(name=NAMES)
    def look(self, name: str) -> None:
        """Read again, so that later writes are up to date."""
        self.runner.run(reach(self.stores[0], self.revision))
        found = self.stores[0].get(Sandbox, name)
        if found is not None:
            self.read[name] = found

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.stores[1].close())
        self.stores[1] = self.open()

    @rule()
    def compact(self) -> None:
        self.runner.run(self.stores[0].compact(keep=1_000))

    @invariant()
    def equal(self) -> None:
        """Both stores come to the same objects, and these are the model's."""
        for store in self.stores:
            self.runner.run(reach(store, self.revision))
            assert store.revision == self.revision
            seen = {obj.metadata.name: obj for obj in store.list(Sandbox)}
            assert seen.keys() == self.model.keys()
            for name, obj in seen.items():
                known = self.model[name]
                assert obj.spec.env == known.env
                assert obj.status.repairs == known.repairs
                assert obj.metadata.finalizers == known.finalizers
                assert obj.metadata.generation == known.generation
                assert obj.metadata.resource_version == known.version
                assert (obj.metadata.deletion_timestamp is not None) == known.deleting

    def teardown(self) -> None:
        """Close, and check that everything was told once and in order."""
        for store in self.stores:
            self.runner.run(store.close())
        assert [change.revision for change in self.told] == list(range(1, self.revision + 1))
        self.runner.close()
        shutil.rmtree(self.directory)


async def reach(store: Store, revision: int) -> None:
    """Wait until the store has seen *revision*, which another one may have written."""
    async with asyncio.timeout(60):
        watch = store.watch()
        while store.revision < revision:
            await anext(watch)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
