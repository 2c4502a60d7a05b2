"""`delete` and `destroy`: take objects away and wait until nothing of them is left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import click

from sandboxer.cli.access import with_api
from sandboxer.cli.exits import Exit
from sandboxer.cli.files import in_namespace, read_manifests
from sandboxer.cli.get import select
from sandboxer.cli.names import (
    Reference,
    find_object,
    get_sandbox,
    reference_text,
    references,
)
from sandboxer.cli.options import (
    current_namespace,
    files_option,
    namespace_option,
    timeout_option,
)
from sandboxer.cli.printing import note, write
from sandboxer.cli.progress import gone, settle
from sandboxer.errors import NotFoundError
from sandboxer.kinds.meta import Resource
from sandboxer.units import Duration

if TYPE_CHECKING:
    from sandboxer.cli.access import Access
    from sandboxer.client.client import Client, Propagation

    Find = Callable[[Client], Awaitable[list[Resource]]]

# A pool goes before its sandboxes, or it would replace them; sandboxes last in a manifest go before
# the hosts and profiles they need.
_ORDER = ("SandboxPool", "Sandbox", "Profile", "Host", "Extension", "Event")

_PROPAGATION: dict[str, Propagation] = {
    "background": "Background",
    "foreground": "Foreground",
    "orphan": "Orphan",
}


@click.command()
@click.argument("words", metavar="[KIND NAME… | KIND/NAME…]", nargs=-1)
@files_option
@namespace_option
@click.option("-l", "--selector", default="", metavar="SELECTOR", help="All of KIND with these labels.")  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="All of KIND in the namespace.")
@click.option("--ignore-not-found", is_flag=True, help="An object that is not there is no error.")
@click.option(
    "--cascade",
    type=click.Choice(list(_PROPAGATION)),
    default="background",
    show_default=True,
    help="What becomes of objects that belong to it: they go after it, before it, or stay.",
)
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
    cascade: str,
    wait: bool,
    timeout: Duration,
) -> int:
    """Delete objects, by name or by the manifests that made them."""
    if bool(words) == bool(filenames):
        raise click.UsageError("name objects, or manifests with -f")
    current = current_namespace(namespace)

    async def find(client: Client) -> list[Resource]:
        if filenames:
            documents = read_manifests(filenames, recursive=recursive)
            return await _existing(
                client, in_namespace(documents, namespace, current), missing_ok=ignore_not_found
            )
        wanted = references(words)
        if any(not reference.name for reference in wanted) and not (selector or everything):
            raise click.UsageError("name the objects, or say --all or -l")
        if ignore_not_found:
            return await _present(client, wanted, current, selector)
        return await select(client, wanted, current, selector)

    return _delete(find, cascade, wait=wait, timeout_s=timeout.seconds)


async def _present(
    client: Client, wanted: Sequence[Reference], namespace: str, selector: str
) -> list[Resource]:
    """Return what `select` does, without the names that do not exist."""
    found: list[Resource] = []
    for reference in wanted:
        if not reference.name:
            found += await select(client, [reference], namespace, selector)
        elif (one := await find_object(client, reference, namespace)) is not None:
            found.append(one)
    return found


async def _existing(
    client: Client, resources: Sequence[Resource], *, missing_ok: bool
) -> list[Resource]:
    found = []
    for resource in resources:
        key = resource.key
        current = await client.get(type(resource), key.name, key.namespace)
        if current is not None:
            found.append(current)
        elif not missing_ok:
            raise NotFoundError(f"There is no {key}.", remedy="--ignore-not-found lets that pass.")
    return found


def _delete(find: Find, cascade: str, *, wait: bool, timeout_s: float) -> int:
    propagation = _PROPAGATION[cascade]

    async def work(access: Access) -> int:
        found = sorted(await find(access.client), key=_turn)
        pending = {
            resource.key: resource.metadata.uid
            for resource in found
            if await _is_held(access.client, resource, propagation)
        }
        if wait and pending:
            await settle(access, list(pending), gone(pending), timeout_s=timeout_s)
        word = "deleted" if wait else "deletion asked for"
        write(
            "".join(
                f"{reference_text(r)} {word if r.key in pending else 'deleted'}\n" for r in found
            )
        )
        if not wait and pending and not access.somebody_works():
            note("note: no controller is running; the deletion waits for one")
        return Exit.OK

    return with_api(work, writes=True)


def _turn(resource: Resource) -> int:
    """Return when an object's turn to be deleted comes."""
    return _ORDER.index(resource.kind) if resource.kind in _ORDER else len(_ORDER)


async def _is_held(client: Client, resource: Resource, propagation: Propagation) -> bool:
    """Ask for the deletion of an object; tell whether something of it has to go first."""
    key, uid = resource.key, resource.metadata.uid
    try:
        held = await client.delete(
            type(resource), key.name, key.namespace, uid=uid, propagation=propagation
        )
    except NotFoundError:
        # It went since it was looked up, with its owner or by somebody else.
        return False
    return held is not None


@click.command()
@click.argument("names", metavar="ID…", nargs=-1, required=True)
@namespace_option
@click.option("--wait/--no-wait", default=True, help="Wait until it is gone.")
@timeout_option("5m")
def destroy(names: tuple[str, ...], namespace: str | None, *, wait: bool, timeout: Duration) -> int:
    """Delete sandboxes by ID: name, uid, or eight digits or more of the uid."""
    current = current_namespace(namespace)

    async def find(client: Client) -> list[Resource]:
        return [await get_sandbox(client, name, current) for name in names]

    return _delete(find, "background", wait=wait, timeout_s=timeout.seconds)
