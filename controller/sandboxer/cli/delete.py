"""`delete` and `destroy`: take objects away and wait until nothing of them is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from sandboxer.api import selectors
from sandboxer.cli.access import with_manager
from sandboxer.cli.exits import Exit
from sandboxer.cli.files import in_namespace, read_manifests
from sandboxer.cli.get import select
from sandboxer.cli.names import get_sandbox, reference_text, references
from sandboxer.cli.options import (
    current_namespace,
    files_option,
    namespace_option,
    timeout_option,
)
from sandboxer.cli.printing import note, write
from sandboxer.cli.progress import gone, settle
from sandboxer.errors import NotFoundError
from sandboxer.kinds.meta import Key, Resource
from sandboxer.units import Duration

if TYPE_CHECKING:
    from sandboxer.manager import Manager
    from sandboxer.store import Store

# Sandboxes last in a manifest are deleted before the hosts and profiles they need.
_ORDER = ("Sandbox", "Profile", "Host", "Extension", "Event")


@click.command()
@click.argument("words", metavar="[KIND NAME… | KIND/NAME…]", nargs=-1)
@files_option
@namespace_option
@click.option("-l", "--selector", default="", metavar="SELECTOR", help="All of KIND with these labels.")  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="All of KIND in the namespace.")
@click.option("--ignore-not-found", is_flag=True, help="An object that is not there is no error.")
@click.option("--wait/--no-wait", default=True, help="Wait until it is gone.")
@timeout_option("5m")
def delete(
    words: tuple[str, ...],
    filenames: tuple[str, ...],
    namespace: str | None,
    *,
    recursive: bool,
    selector: str,
    everything: bool,
    ignore_not_found: bool,
    wait: bool,
    timeout: Duration,
) -> int:
    """Delete objects, by name or by the manifests that made them."""
    if bool(words) == bool(filenames):
        raise click.UsageError("name objects, or manifests with -f")
    current = current_namespace(namespace)

    def find(store: Store) -> list[Resource]:
        if filenames:
            documents = read_manifests(filenames, recursive=recursive)
            return _existing(
                store, in_namespace(documents, namespace, current), missing_ok=ignore_not_found
            )
        wanted = references(words)
        if any(not reference.name for reference in wanted) and not (selector or everything):
            raise click.UsageError("name the objects, or say --all or -l")
        try:
            return select(store, wanted, current, selectors.parse(selector))
        except NotFoundError:
            if ignore_not_found:
                return []
            raise

    return _delete(find, wait=wait, timeout_s=timeout.seconds)


def _existing(store: Store, resources: Sequence[Resource], *, missing_ok: bool) -> list[Resource]:
    found = []
    for resource in resources:
        key = resource.key
        current = store.get(type(resource), key.name, key.namespace)
        if current is not None:
            found.append(current)
        elif not missing_ok:
            raise NotFoundError(f"There is no {key}.", remedy="--ignore-not-found lets that pass.")
    return found


def _delete(find: Callable[[Store], list[Resource]], *, wait: bool, timeout_s: float) -> int:
    async def work(manager: Manager) -> int:
        store = manager.store
        found = sorted(find(store), key=lambda resource: _ORDER.index(resource.kind))
        for resource in found:
            key, uid = resource.key, resource.metadata.uid
            await store.delete(type(resource), key.name, key.namespace, uid=uid)
        pending = {r.key: r.metadata.uid for r in found if store.entry(r.key) is not None}
        if wait and pending:
            await _await_gone(manager, pending, timeout_s)
        word = "deleted" if wait else "deletion asked for"
        write(
            "".join(
                f"{reference_text(r)} {word if r.key in pending else 'deleted'}\n" for r in found
            )
        )
        if not wait and pending and not manager.controller_running():
            note("note: no controller is running; the deletion waits for one")
        return Exit.OK

    return with_manager(work)


async def _await_gone(manager: Manager, pending: dict[Key, str], timeout_s: float) -> None:
    await settle(manager, list(pending), gone(manager.store, pending), timeout_s=timeout_s)


@click.command()
@click.argument("names", metavar="ID…", nargs=-1, required=True)
@namespace_option
@click.option("--wait/--no-wait", default=True, help="Wait until it is gone.")
@timeout_option("5m")
def destroy(names: tuple[str, ...], namespace: str | None, *, wait: bool, timeout: Duration) -> int:
    """Delete sandboxes by ID: name, uid, or the beginning of the uid."""
    current = current_namespace(namespace)
    return _delete(
        lambda store: [get_sandbox(store, name, current) for name in names],
        wait=wait,
        timeout_s=timeout.seconds,
    )
