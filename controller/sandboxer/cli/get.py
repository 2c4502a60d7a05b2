"""`get` and `list`: objects in every output format, once or as they change."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import click

from sandboxer.cli.access import with_api
from sandboxer.cli.exits import Exit
from sandboxer.cli.names import Reference, get_object, references
from sandboxer.cli.options import current_namespace, namespace_option, output_option
from sandboxer.cli.printing import columns, header, note, printer_for, row, write
from sandboxer.kinds.meta import Resource
from sandboxer.kinds.sandbox import Sandbox

if TYPE_CHECKING:
    from sandboxer.cli.access import Access
    from sandboxer.client.client import Client
    from sandboxer.client.watching import Change

T = TypeVar("T")

# Columns of a watched table get this much room, because rows that come later are not known yet.
WATCH_WIDTHS = (22, 16, 14, 12, 12, 8)


async def select(
    client: Client, wanted: Sequence[Reference], namespace: str | None, selector: str = ""
) -> list[Resource]:
    """
    Return the objects meant by the references, sorted by kind, namespace and name.

    Args:
        client: Where to look.
        wanted: Kinds and names; an empty name is all of the kind.
        namespace: Only this one; None is all.
        selector: Labels they must have.

    Raises:
        NotFoundError: A name does not exist.
    """
    found: list[Resource] = []
    for reference in wanted:
        if reference.name:
            found.append(await get_object(client, reference, namespace or "default"))
            continue
        listed: list[Resource] = (
            await client.list(reference.kind, namespace, labels=selector)
        ).items
        listed.sort(key=lambda r: (r.metadata.namespace or "", r.metadata.name))
        found += listed
    return found


@click.command()
@click.argument("words", metavar="KIND [NAME…] | KIND/NAME…", nargs=-1)
@namespace_option
@click.option("-A", "--all-namespaces", is_flag=True, help="In every namespace.")
@click.option("-l", "--selector", default="", metavar="SELECTOR", help="Labels: a=b,c!=d,e,!f,g in (h,i).")  # fmt: skip
@click.option("-w", "--watch", is_flag=True, help="Then print every change until Ctrl-C.")
@output_option()
def get(
    words: tuple[str, ...],
    namespace: str | None,
    *,
    all_namespaces: bool,
    selector: str,
    watch: bool,
    output: str,
) -> int:
    """
    Show objects: `get sandboxes`, `get sbx/hello -o yaml`, `get hosts,profiles -o wide`.

    Exit code 4 when a name does not exist; an empty list is no error.
    """
    wanted = references(words)
    return show(
        wanted,
        None if all_namespaces else current_namespace(namespace),
        selector,
        output=output,
        watch=watch,
    )


@click.command()
@namespace_option
@click.option("-A", "--all-namespaces", is_flag=True, help="In every namespace.")
@click.option("-l", "--selector", default="", metavar="SELECTOR", help="Labels, as for get.")
@output_option()
def list_(namespace: str | None, *, all_namespaces: bool, selector: str, output: str) -> int:
    """List sandboxes, the same as `get sandboxes`."""
    return show(
        [Reference(Sandbox, "")],
        None if all_namespaces else current_namespace(namespace),
        selector,
        output=output,
        watch=False,
    )


def show(
    wanted: Sequence[Reference],
    namespace: str | None,
    selector: str,
    *,
    output: str,
    watch: bool,
) -> int:
    """Print the objects meant, in the format asked for, and follow them if *watch*."""
    single = len(wanted) == 1 and bool(wanted[0].name)
    printer = printer_for(output, single=single, with_namespace=namespace is None)
    if watch and output.partition("=")[0] not in ("table", "wide", "json", "name"):
        raise click.UsageError("--watch prints table, wide, json or name")

    async def work(access: Access) -> int:
        client = access.client
        revisions = [await client.revision(r.kind, namespace) for r in wanted if watch]
        found = await select(client, wanted, namespace, selector)
        if found or output not in ("table", "wide"):
            if not watch or output != "json":
                write(printer(found))
        elif not watch:
            note(f"No {_plural(wanted)} found{f' in namespace {namespace}' if namespace else ''}.")
        if watch:
            streams = [
                _changes(client, reference, namespace, selector, since=revision)
                for reference, revision in zip(wanted, revisions, strict=True)
            ]
            async for kind, change in merged(streams):
                resource = client.parsed(kind, change.document)
                write(_changed(change, resource, output, with_namespace=namespace is None))
        return Exit.OK

    return with_api(work)


def _plural(wanted: Sequence[Reference]) -> str:
    return ", ".join(reference.kind.plural for reference in wanted)


async def _changes(
    client: Client, reference: Reference, namespace: str | None, selector: str, *, since: str
) -> AsyncIterator[tuple[type[Resource], Change]]:
    """Yield what happens to the objects of one reference; a deleted one comes a last time."""
    watching = client.watch(
        reference.kind,
        (namespace or "default") if reference.name else namespace,
        since=since,
        labels="" if reference.name else selector,
        fields=f"metadata.name={reference.name}" if reference.name else "",
    )
    async for change in watching:
        if change.type != "BOOKMARK":
            yield reference.kind, change


async def merged(streams: Sequence[AsyncIterator[T]]) -> AsyncIterator[T]:
    """Yield what any of several streams yields, as it comes; the first that fails ends all."""
    if len(streams) == 1:
        async for item in streams[0]:
            yield item
        return
    items: asyncio.Queue[T] = asyncio.Queue()

    async def pour(stream: AsyncIterator[T]) -> None:
        async for item in stream:
            items.put_nowait(item)

    async with asyncio.TaskGroup() as tasks:
        for stream in streams:
            tasks.create_task(pour(stream))
        while True:
            yield await items.get()


def _changed(change: Change, resource: Resource, output: str, *, with_namespace: bool) -> str:
    kind = type(resource)
    if output == "json":
        return json.dumps({"type": change.type, "object": resource.to_document()}) + "\n"
    if output == "name":
        return f"{resource.kind.lower()}/{resource.metadata.name}\n"
    wide, namespaced = output == "wide", with_namespace and kind.namespaced
    cells = row(resource, wide=wide, with_namespace=namespaced, now=datetime.now(UTC))
    if change.type == "DELETED":
        cells[-1] += " (deleted)"
    head = header(kind, wide=wide, with_namespace=namespaced)
    return columns([cells], [max(len(h), w) for h, w in zip(head, WATCH_WIDTHS, strict=False)])
