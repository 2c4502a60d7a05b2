"""`describe` and `events`: everything there is to know, in the order a person asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from sandboxer.cli.access import with_api
from sandboxer.cli.exits import Exit
from sandboxer.cli.get import select
from sandboxer.cli.names import Reference, references
from sandboxer.cli.options import current_namespace, namespace_option, output_option
from sandboxer.cli.printing import age, columns, note, printer_for, safe_text, shown_document, write
from sandboxer.kinds.event import Event
from sandboxer.kinds.meta import Resource

if TYPE_CHECKING:
    from sandboxer.cli.access import Access
    from sandboxer.client.client import Client

# Width of the names column, as in kubectl describe.
INDENT = "  "


@click.command()
@click.argument("words", metavar="KIND [NAME…] | KIND/NAME…", nargs=-1, required=True)
@namespace_option
def describe(words: tuple[str, ...], namespace: str | None) -> int:
    """Show all there is to know about objects: spec, status, conditions, events."""
    wanted = references(words)

    async def work(access: Access) -> int:
        client = access.client
        found = await select(client, wanted, current_namespace(namespace))
        # One question for all when there are many, the few of one object when there is one.
        fields = f"involvedObject.name={found[0].metadata.name}" if len(found) == 1 else ""
        events = (await client.list(Event, fields=fields)).items if found else []
        write("\n\n".join(description(resource, about(resource, events)) for resource in found))
        if not found:
            note("Nothing found.")
        return Exit.OK

    return with_api(work)


def about(resource: Resource, events: Iterable[Event]) -> list[Event]:
    """Return the events of one object, oldest first."""
    metadata = resource.metadata
    mine = [
        event
        for event in events
        if event.involved_object.kind == resource.kind
        and event.involved_object.name == metadata.name
        and event.involved_object.uid in ("", metadata.uid)
    ]
    return in_order(mine)


def in_order(events: Iterable[Event]) -> list[Event]:
    """Return events by the time they were last seen, those of one second as they were written."""
    start = datetime.fromtimestamp(0, UTC)

    def when(event: Event) -> tuple[datetime, int]:
        return event.last_timestamp or start, int(event.metadata.resource_version or 0)

    return sorted(events, key=when)


def description(resource: Resource, events: Sequence[Event]) -> str:
    """Return the whole text for one object."""
    document = shown_document(resource)
    metadata = document.pop("metadata")
    status = document.pop("status", {})
    conditions = status.pop("conditions", [])
    head = {"name": metadata.pop("name"), "namespace": metadata.pop("namespace", None)}
    head |= {"kind": document.pop("kind"), "apiVersion": document.pop("apiVersion")}
    lines = [*_lines({**head, **metadata, **document, "status": status}, "")]
    lines += _condition_lines(conditions)
    return "\n".join(lines) + "\n" + event_table(events)


def _condition_lines(conditions: Sequence[dict[str, Any]]) -> list[str]:
    if not conditions:
        return []
    now = datetime.now(UTC)
    rows = [["", "TYPE", "STATUS", "SINCE", "REASON", "MESSAGE"]]
    rows += [
        ["", c["type"], c["status"], age(c["lastTransitionTime"], now), c["reason"],
         safe_text(c.get("message", ""))]
        for c in conditions
    ]  # fmt: skip
    return ["conditions:", columns(rows).rstrip("\n")]


def _lines(value: Any, indent: str) -> list[str]:
    """Return nested mappings and lists as indented `name: value` lines; empty ones are left out."""
    lines: list[str] = []
    for name, item in value.items():
        if item in (None, "", {}, [], ()):
            continue
        if isinstance(item, dict):
            lines += [f"{indent}{name}:", *_lines(item, indent + INDENT)]
        elif isinstance(item, list):
            lines += [f"{indent}{name}:", *_list_lines(item, indent + INDENT)]
        else:
            lines.append(f"{indent}{name}: {_scalar(item)}")
    return lines


def _list_lines(items: Sequence[Any], indent: str) -> list[str]:
    lines: list[str] = []
    for item in items:
        if isinstance(item, dict):
            inner = _lines(item, indent + INDENT)
            lines += [f"{indent}- {inner[0].strip()}", *inner[1:]] if inner else []
        else:
            lines.append(f"{indent}- {_scalar(item)}")
    return lines


def _scalar(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else safe_text(str(value))


def event_table(events: Sequence[Event]) -> str:
    """Return the events of one object as a table, or `<none>`."""
    if not events:
        return "events: <none>\n"
    now = datetime.now(UTC)
    rows = [["", "LAST SEEN", "TYPE", "REASON", "COUNT", "MESSAGE"]]
    rows += [["", *_event_cells(event, now)] for event in events]
    return "events:\n" + columns(rows)


def _event_cells(event: Event, now: datetime) -> list[str]:
    seen = age(event.last_timestamp.isoformat(), now) if event.last_timestamp else ""
    return [seen, event.type, event.reason, str(event.count), safe_text(event.message)]


@click.command()
@click.option("--for", "subject", metavar="KIND/NAME", help="Only about this object.")
@namespace_option
@click.option("-A", "--all-namespaces", is_flag=True, help="In every namespace.")
@click.option("-w", "--watch", is_flag=True, help="Then print every new one until Ctrl-C.")
@output_option()
def events(
    subject: str | None,
    namespace: str | None,
    *,
    all_namespaces: bool,
    watch: bool,
    output: str,
) -> int:
    """Show what happened, oldest first: every change of state with its reason."""
    wanted = references([subject])[0] if subject else None
    if wanted is not None and not wanted.name:
        raise click.UsageError("--for takes KIND/NAME")
    scope = None if all_namespaces else current_namespace(namespace)
    printer = printer_for(output, with_namespace=scope is None)

    async def work(access: Access) -> int:
        listing = await access.client.list(Event)
        found = in_order(event for event in listing.items if _meant(event, wanted, scope))
        if output == "table":
            write(_event_lines(found, with_head=True))
        else:
            write(printer(found))
        if watch:
            await _follow(access.client, wanted, scope, since=listing.revision)
        elif not found:
            note("No events found.")
        return Exit.OK

    return with_api(work)


def _meant(event: Event, wanted: Reference | None, scope: str | None) -> bool:
    involved = event.involved_object
    # NOTE: hosts and profiles have no namespace; what happens to them concerns every namespace.
    if scope is not None and involved.namespace not in ("", scope):
        return False
    if wanted is None:
        return True
    kind = wanted.kind.model_fields["kind"].default
    return involved.kind == kind and involved.name == wanted.name


def _event_lines(events: Sequence[Event], *, with_head: bool) -> str:
    now = datetime.now(UTC)
    rows = [["LAST SEEN", "TYPE", "REASON", "OBJECT", "COUNT", "MESSAGE"]] if with_head else []
    for event in events:
        seen, type_, reason, count, message = _event_cells(event, now)
        involved = event.involved_object
        subject = f"{involved.kind.lower()}/{involved.name}"
        rows.append([seen, type_, reason, subject, count, message])
    return columns(rows) if events else ""


async def _follow(
    client: Client, wanted: Reference | None, scope: str | None, *, since: str
) -> None:
    async for change in client.watch(Event, since=since):
        if change.type in ("ADDED", "MODIFIED"):
            event = client.parsed(Event, change.document)
            if _meant(event, wanted, scope):
                write(_event_lines([event], with_head=False))
