"""`get` and `list`: objects in every output format, once or as they change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from sandboxer.api import selectors
from sandboxer.cli.access import with_store
from sandboxer.cli.exits import Exit
from sandboxer.cli.names import Reference, get_object, references
from sandboxer.cli.options import current_namespace, namespace_option, output_option
from sandboxer.cli.printing import columns, header, note, printer_for, row, write
from sandboxer.kinds.meta import Resource
from sandboxer.kinds.sandbox import Sandbox

if TYPE_CHECKING:
    from sandboxer.store import Change, Store

# Columns of a watched table get this much room, because rows that come later are not known yet.
WATCH_WIDTHS = (22, 16, 14, 12, 12, 8)


def select(
    store: Store,
    wanted: Sequence[Reference],
    namespace: str | None,
    selector: selectors.Selector,
) -> list[Resource]:
    """
    Return the objects meant by the references, sorted by kind, namespace and name.

    Args:
        store: Where to look.
        wanted: Kinds and names; an empty name is all of the kind.
        namespace: Only this one; None is all.
        selector: Labels they must have.

    Raises:
        NotFoundError: A name does not exist.
    """
    found: list[Resource] = []
    for reference in wanted:
        if reference.name:
            found.append(get_object(store, reference, namespace or "default"))
            continue
        scope = namespace if reference.kind.namespaced else None
        listed: list[Resource] = list(store.list(reference.kind, namespace=scope))
        listed.sort(key=lambda r: (r.metadata.namespace or "", r.metadata.name))
        found += [r for r in listed if selectors.matches(selector, r.metadata.labels)]
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
        selectors.parse(selector),
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
        selectors.parse(selector),
        output=output,
        watch=False,
    )


def show(
    wanted: Sequence[Reference],
    namespace: str | None,
    selector: selectors.Selector,
    *,
    output: str,
    watch: bool,
) -> int:
    """Print the objects meant, in the format asked for, and follow them if *watch*."""
    single = len(wanted) == 1 and bool(wanted[0].name)
    printer = printer_for(output, single=single, with_namespace=namespace is None)
    if watch and output.partition("=")[0] not in ("table", "wide", "json", "name"):
        raise click.UsageError("--watch prints table, wide, json or name")

    async def work(store: Store) -> int:
        revision = store.revision
        found = select(store, wanted, namespace, selector)
        if found or output not in ("table", "wide"):
            if not watch or output != "json":
                write(printer(found))
        elif not watch:
            note(f"No {_plural(wanted)} found{f' in namespace {namespace}' if namespace else ''}.")
        if watch:
            await _follow(store, wanted, namespace, selector, output=output, since=revision)
        return Exit.OK

    return with_store(work)


def _plural(wanted: Sequence[Reference]) -> str:
    return ", ".join(reference.kind.plural for reference in wanted)


async def _follow(
    store: Store,
    wanted: Sequence[Reference],
    namespace: str | None,
    selector: selectors.Selector,
    *,
    output: str,
    since: int,
) -> None:
    """Print one line per change until interrupted; a deleted object is shown a last time."""
    names = {(r.kind.model_fields["kind"].default, r.name): r.kind for r in wanted}
    async for change in store.watch(since=since):
        key = change.entry.key
        kind = names.get((key.kind, key.name)) or names.get((key.kind, ""))
        if kind is None or (kind.namespaced and namespace not in (None, key.namespace)):
            continue
        if not selectors.matches(selector, change.entry.labels):
            continue
        write(_changed(change, kind, output, with_namespace=namespace is None))


def _changed(change: Change, kind: type[Resource], output: str, *, with_namespace: bool) -> str:
    resource = kind.parse(json.loads(change.entry.body))
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
