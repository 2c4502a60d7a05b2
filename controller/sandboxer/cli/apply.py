"""`apply`, `diff` and `validate`: manifests against the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sandboxer.cli.access import with_manager, with_store
from sandboxer.cli.exits import Exit
from sandboxer.cli.files import in_namespace, read_manifests
from sandboxer.cli.names import reference_text
from sandboxer.cli.options import (
    current_namespace,
    files_option,
    namespace_option,
    output_option,
    timeout_option,
)
from sandboxer.cli.printing import Printer, note, printer_for, write
from sandboxer.cli.progress import ready, settle
from sandboxer.errors import InvalidSpecError
from sandboxer.kinds.meta import Resource
from sandboxer.kinds.profile import Profile
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.settings import settings_from_environment
from sandboxer.units import Duration

if TYPE_CHECKING:
    from sandboxer.manager import Manager
    from sandboxer.sources.apply import Applied
    from sandboxer.store import Store

NOBODY_RUNS = (
    "note: no controller is running; nothing happens until `sandboxer controller run`, "
    "or a command that waits (apply --wait, wait)"
)


def _resources(
    filenames: Sequence[str], namespace: str | None, *, recursive: bool
) -> list[Resource]:
    documents = read_manifests(filenames, recursive=recursive)
    _refuse_duplicates([(d.origin, d.line, d.resource) for d in documents], namespace)
    return in_namespace(documents, namespace, current_namespace(namespace))


def _refuse_duplicates(
    documents: Sequence[tuple[str, int, Resource]], namespace: str | None
) -> None:
    """Refuse the same object twice in one call, naming both places."""
    seen: dict[tuple[str, str, str], str] = {}
    for origin, line, resource in documents:
        own = resource.metadata.namespace or current_namespace(namespace)
        identity = (resource.kind, own, resource.metadata.name)
        where = f"{origin}:{line}"
        if identity in seen:
            raise InvalidSpecError(
                f"{where}: {resource.kind} {resource.metadata.name} is already in {seen[identity]}.",
                remedy="Keep one of them.",
            )
        seen[identity] = where


@click.command()
@files_option
@namespace_option
@click.option("--wait/--no-wait", default=False, help="Wait until every sandbox is Ready.")
@timeout_option("5m")
@output_option(default="")
def apply(
    filenames: tuple[str, ...],
    namespace: str | None,
    *,
    recursive: bool,
    wait: bool,
    timeout: Duration,
    output: str,
) -> int:
    """
    Make the store equal to manifests: create what is missing, change what differs.

    Nothing is deleted, and a file with any error applies nothing at all.
    """
    resources = _resources(filenames, namespace, recursive=recursive)
    printer = printer_for(output, single=True) if output else None

    async def work(manager: Manager) -> int:
        from sandboxer.sources.apply import ApplyError, apply_resources

        await manager.register()
        try:
            applied = await apply_resources(manager.store, resources)
        except ApplyError as error:
            _report(error.applied, printer)
            if len(error.refused) == 1:
                raise next(iter(error.refused.values())) from error
            raise
        _report(applied, printer)
        keys = [e.resource.key for e in applied if isinstance(e.resource, Sandbox)]
        if wait and keys:
            done = ready(manager.store, keys)
            seconds = await settle(manager, keys, done, timeout_s=timeout.seconds)
            note(f"{len(keys)} of {len(keys)} sandboxes Ready after {seconds:.1f} s")
        elif keys and not manager.controller_running():
            note(NOBODY_RUNS)
        return Exit.OK

    return with_manager(work)


def _report(applied: Sequence[Applied], printer: Printer | None) -> None:
    if printer:
        write(printer([entry.resource for entry in applied]))
    else:
        write("".join(f"{reference_text(e.resource)} {e.result}\n" for e in applied))


@click.command()
@files_option
@namespace_option
def diff(filenames: tuple[str, ...], namespace: str | None, *, recursive: bool) -> int:
    """Show what apply would change, as a unified diff; exit code 1 when there is something."""
    resources = _resources(filenames, namespace, recursive=recursive)

    async def work(store: Store) -> int:
        from sandboxer.sources.apply import diff_resources

        differences = diff_resources(store, resources)
        write("".join(_with_newline(difference.text) for difference in differences))
        return Exit.NO if differences else Exit.OK

    return with_store(work)


def _with_newline(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


@click.command()
@files_option
@namespace_option
def validate(filenames: tuple[str, ...], namespace: str | None, *, recursive: bool) -> int:
    """
    Check manifests without touching anything.

    Syntax, fields, and for each sandbox whether its profile is known (in the same files, in the
    store or shipped) and takes these inputs.
    """
    resources = _resources(filenames, namespace, recursive=recursive)

    from sandboxer.manager.checks import problems_of
    from sandboxer.registry import load_registry

    problems = problems_of(resources, _stored_profiles(), load_registry())
    if problems:
        raise InvalidSpecError("\n".join(problems))
    write("".join(f"{reference_text(resource)} valid\n" for resource in resources))
    return Exit.OK


def _stored_profiles() -> list[Profile]:
    """Return the profiles of the store; a store that does not exist is not made."""
    if not settings_from_environment().database_path.exists():
        return []

    async def work(store: Store) -> list[Profile]:
        return store.list(Profile)

    return with_store(work)
