"""A real machine that is started anew: its sandbox is made whole, and both tell of the reboot."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sandboxer.kinds.event import Event
from sandboxer.kinds.host import Host
from sandboxer.kinds.meta import API_VERSION
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.manager import Manager
from sandboxer.manager.engine import running
from sandboxer.settings import Settings
from sandboxer.store import Store
from tests.integration.test_unreachable import until
from tests.rig.install import install_missing
from tests.rig.vm import PROGRAMS, VM


def workspace() -> Sandbox:
    """Return a sandbox that is a workspace on the machine."""
    return Sandbox.parse(
        {
            "apiVersion": API_VERSION,
            "kind": "Sandbox",
            "metadata": {"name": "shop", "namespace": "default"},
            "spec": {"profile": "profile.vm-haskell-build", "inputs": {"vm": "vm"}},
        }
    )


def is_ready(store: Store) -> bool:
    found = store.get(Sandbox, "shop")
    return found is not None and found.status.is_true("Ready")


# Two boots of an emulated machine.
@pytest.mark.exhaustive
@pytest.mark.timeout(400)
async def test_rebooted_machine(tmp_path: Path) -> None:
    """A machine whose disk is its memory comes back empty, and the sandbox is made there anew."""
    assert install_missing(PROGRAMS)
    with await asyncio.to_thread(VM.start, tmp_path) as vm:
        before, after, told = await _lived_through(vm, tmp_path)

    assert "HostRebooted" in told
    assert "Drifted" not in told
    assert before.status.boot_id
    assert before.status.boot_id != after.status.boot_id


async def _lived_through(vm: VM, directory: Path) -> tuple[Sandbox, Sandbox, list[str]]:
    """Have a sandbox live through a power cut; return it before and after, and what is told."""
    settings = Settings(data_dir=directory, database_url=f"sqlite:///{directory / 'store.db'}")
    async with Manager.open(settings) as manager:
        await manager.register()
        store = manager.store
        async with running(manager.engine(lambda _key: True)):
            await store.create(Host.parse(vm.manifest(probeInterval="1s")))
            await store.create(workspace())
            await until(lambda: is_ready(store))
            before = store.get(Sandbox, "shop")
            await asyncio.to_thread(vm.stop)
            await until(lambda: not is_ready(store))
            await asyncio.to_thread(vm.boot)
            host = store.get(Host, "vm")
            assert host is not None
            # A VM that is switched on again is reached on another port.
            spec = host.spec.model_copy(update={"port": vm.port})
            await store.update(host.model_copy(update={"spec": spec}))
            await until(lambda: is_ready(store))
            await until(lambda: "HostRebooted" in {e.reason for e in store.list(Event)})
        after = store.get(Sandbox, "shop")
        assert before is not None
        assert after is not None
        return before, after, [t.reason for t in await store.transitions(after.metadata.uid)]
