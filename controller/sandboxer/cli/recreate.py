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

from sandboxer.cli.access import with_api
from sandboxer.cli.create import await_ready, report
from sandboxer.cli.names import get_sandbox
from sandboxer.cli.options import current_namespace, namespace_option, timeout_option
from sandboxer.cli.printing import note, write
from sandboxer.cli.progress import gone, settle
from sandboxer.kinds.meta import ObjectMeta
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.units import Duration

if TYPE_CHECKING:
    from sandboxer.cli.access import Access


@contextmanager
def _kept(sandbox: Sandbox, data_dir: Path) -> Iterator[None]:
    """Keep the manifest in a file while the store does not have it, and say so when cut short."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
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

    async def work(access: Access) -> int:
        client = access.client
        old = await get_sandbox(client, name, current_namespace(namespace))
        fresh = _fresh(old)
        with _kept(fresh, access.settings.data_dir):
            uids = {old.key: old.metadata.uid}
            await client.delete(Sandbox, old.key.name, old.key.namespace, uid=old.metadata.uid)
            await settle(access, [old.key], gone(uids), timeout_s=timeout.seconds)
            created = await client.create(fresh)
        made, seconds = await await_ready(access, created.key, timeout.seconds)
        write(await report(made, client, seconds))
        return 0

    if not sys.stdout.isatty():
        note(f"recreating {name}")
    return with_api(work, writes=True)


def _fresh(old: Sandbox) -> Sandbox:
    """Return what has to be created to have the same sandbox anew."""
    kept = old.metadata
    metadata = ObjectMeta(
        name=kept.name,
        namespace=kept.namespace,
        labels=kept.labels,
        annotations=kept.annotations,
        owner_references=kept.owner_references,
    )
    return Sandbox(metadata=metadata, spec=old.spec)
