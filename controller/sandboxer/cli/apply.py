"""`apply`, `diff` and `validate`: manifests against the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sandboxer.cli.access import with_api
from sandboxer.cli.differences import unified
from sandboxer.cli.exits import Exit, RefusedError
from sandboxer.cli.files import in_namespace, read_manifests
from sandboxer.cli.many import ask_each
from sandboxer.cli.names import reference_text
from sandboxer.cli.options import (
    Command,
    current_namespace,
    files_option,
    namespace_option,
    output_option,
    timeout_option,
)
from sandboxer.cli.printing import Printer, note, printer_for, write
from sandboxer.cli.progress import ready, settle
from sandboxer.errors import InvalidSpecError, SandboxerError, UnreachableError
from sandboxer.kinds.catalog import DECLARABLE_KINDS
from sandboxer.kinds.meta import Resource
from sandboxer.kinds.profile import Profile
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.settings import settings_from_environment
from sandboxer.units import Duration

if TYPE_CHECKING:
    from sandboxer.cli.access import Access
    from sandboxer.client.client import Applied, Client

# Kinds that somebody has to make true; the others are only looked up.
_WORK = ("Sandbox", "SandboxPool")

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


def force_option(command: Command) -> Command:
    """Add `--force-conflicts`."""
    return click.option(
        "--force-conflicts",
        is_flag=True,
        help="Take fields over that others own and set differently.",
    )(command)


@click.command()
@files_option
@namespace_option
@force_option
@click.option("--wait/--no-wait", default=False, help="Wait until every sandbox is Ready.")
@timeout_option("5m")
@output_option(default="")
def apply(
    filenames: tuple[str, ...],
    namespace: str | None,
    *,
    recursive: bool,
    force_conflicts: bool,
    wait: bool,
    timeout: Duration,
    output: str,
) -> int:
    """
    Make the store equal to manifests: create what is missing, change what differs.

    Fields that a manifest does not name keep their values, fields it no longer names go. Nothing
    is deleted, and a file with any error applies nothing at all. Exit code 5 when somebody else
    set a field that the manifest sets differently.
    """
    resources = _resources(filenames, namespace, recursive=recursive)
    printer = printer_for(output, single=True) if output else None

    async def work(access: Access) -> int:
        applied, refused = await _apply_all(access.client, resources, force=force_conflicts)
        _report(applied, printer)
        if refused:
            raise _refusal(refused, len(resources))
        keys = [e.resource.key for e in applied if isinstance(e.resource, Sandbox)]
        if wait and keys:
            seconds = await settle(access, keys, ready(keys), timeout_s=timeout.seconds)
            note(f"{len(keys)} of {len(keys)} sandboxes Ready after {seconds:.1f} s")
        elif not access.somebody_works() and any(e.resource.kind in _WORK for e in applied):
            note(NOBODY_RUNS)
        return Exit.OK

    return with_api(work, writes=True)


async def _apply_all(
    client: Client, resources: Sequence[Resource], *, force: bool, dry_run: bool = False
) -> tuple[list[Applied[Resource]], list[SandboxerError]]:
    """Apply manifests, kind after kind, and return what was done and what was refused."""

    async def apply_one(resource: Resource) -> Applied[Resource]:
        return await client.apply(resource, force=force, dry_run=dry_run)

    done: dict[int, Applied[Resource] | SandboxerError] = {}
    for kind in DECLARABLE_KINDS:
        ours = [number for number, each in enumerate(resources) if each.kind == kind]
        done |= zip(ours, await ask_each([resources[n] for n in ours], apply_one), strict=True)
    outcomes = [done[number] for number in range(len(resources))]
    applied = [outcome for outcome in outcomes if not isinstance(outcome, SandboxerError)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, SandboxerError)]
    return applied, refused


def _refusal(refused: Sequence[SandboxerError], total: int) -> SandboxerError:
    """Return the one error, or one that lists them all."""
    if len(refused) == 1:
        return refused[0]
    lines = "\n".join(str(error) for error in refused)
    return RefusedError(f"{len(refused)} of {total} manifests were not applied:\n{lines}")


def _report(applied: Sequence[Applied[Resource]], printer: Printer | None) -> None:
    if printer:
        write(printer([entry.resource for entry in applied]))
    else:
        write("".join(f"{reference_text(e.resource)} {e.result}\n" for e in applied))


@click.command()
@files_option
@namespace_option
@force_option
def diff(
    filenames: tuple[str, ...], namespace: str | None, *, recursive: bool, force_conflicts: bool
) -> int:
    """Show what apply would change, as a unified diff; exit code 1 when there is something."""
    resources = _resources(filenames, namespace, recursive=recursive)

    async def work(access: Access) -> int:
        client = access.client

        async def difference(resource: Resource) -> str:
            key = resource.key
            live = await client.get(type(resource), key.name, key.namespace)
            applied = await client.apply(resource, force=force_conflicts, dry_run=True)
            return unified(live, applied.resource)

        found = await ask_each(resources, difference)
        for text in found:
            if isinstance(text, SandboxerError):
                raise text
        texts = [text for text in found if isinstance(text, str)]
        write("".join(texts))
        return Exit.NO if any(texts) else Exit.OK

    return with_api(work, writes=True)


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
    """Return the profiles of the server or the store; a store that does not exist is not made."""
    settings = settings_from_environment()
    if not settings.server and not settings.database_path.exists():
        return []

    async def work(access: Access) -> list[Profile]:
        return (await access.client.list(Profile)).items

    try:
        return with_api(work)
    except UnreachableError as error:
        note(f"note: only the shipped profiles are considered: {error.message}")
        return []
