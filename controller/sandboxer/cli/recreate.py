"""`recreate`: the same manifest, a new sandbox."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sandboxer.cli.access import with_manager
from sandboxer.cli.create import await_ready, report
from sandboxer.cli.names import get_sandbox
from sandboxer.cli.options import current_namespace, namespace_option, timeout_option
from sandboxer.cli.printing import note, write
from sandboxer.cli.progress import gone, settle
from sandboxer.errors import NotFoundError
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.units import Duration

if TYPE_CHECKING:
    from sandboxer.manager import Manager


@contextmanager
def _kept(sandbox: Sandbox, data_dir: Path) -> Iterator[None]:
    """Keep the manifest in a file while the store does not have it, and say so when cut short."""
    path = data_dir / f"recreate-{sandbox.key.namespace}-{sandbox.key.name}.json"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        document = sandbox.to_document()
        json.dump({part: document[part] for part in document if part != "status"}, file, indent=1)
    try:
        yield
    except BaseException:
        note(f"not made again yet; when the old one is gone: sandboxer apply -f {path}")
        raise
    path.unlink(missing_ok=True)


@click.command()
@click.argument("name", metavar="ID")
@namespace_option
@timeout_option("5m")
def recreate(name: str, namespace: str | None, *, timeout: Duration) -> int:
    """Delete a sandbox and make it again from its spec, with a new uid."""

    async def work(manager: Manager) -> int:
        store = manager.store
        await manager.register()
        old = get_sandbox(store, name, current_namespace(namespace))
        fresh = Sandbox(
            metadata=old.metadata.model_copy(
                update={
                    "uid": "", "resource_version": "", "generation": 0, "finalizers": (),
                    "creation_timestamp": None, "deletion_timestamp": None,
                }
            ),
            spec=old.spec,
        )  # fmt: skip
        with _kept(fresh, manager.settings.data_dir):
            await store.delete(Sandbox, old.key.name, old.key.namespace)
            uids = {old.key: old.metadata.uid}
            await settle(manager, [old.key], gone(store, uids), timeout_s=timeout.seconds)
            created = await store.create(fresh)
        seconds = await await_ready(manager, created.key, timeout.seconds)
        made = store.get(Sandbox, created.key.name, created.key.namespace)
        if made is None:
            raise NotFoundError(f"{created.key} was deleted while it was being made.")
        write(report(made, store, seconds))
        return 0

    if not sys.stdout.isatty():
        note(f"recreating {name}")
    return with_manager(work)
