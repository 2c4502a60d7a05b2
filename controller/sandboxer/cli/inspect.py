"""`inspect`: the machines themselves, probed now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sandboxer.cli.access import with_api
from sandboxer.cli.exits import Exit, exit_of
from sandboxer.cli.names import Reference, get_object
from sandboxer.cli.printing import columns, note, safe_text, write
from sandboxer.client.paths import path_of
from sandboxer.errors import SandboxerError
from sandboxer.kinds.host import LOCAL_HOST, Host, HostFacts, HostLoad
from sandboxer.kinds.inventory import FoundSandbox, HostInventory
from sandboxer.units import format_bytes, format_duration

if TYPE_CHECKING:
    from sandboxer.cli.access import Access
    from sandboxer.client.client import Client


@click.group()
def inspect() -> None:
    """Look at hosts themselves, not at what is stored about them."""


@inspect.command()
@click.argument("name", metavar="[NAME]", default="")
def host(name: str) -> int:
    """
    Probe a host (all without NAME): facts, load, disk, and what of ours is there by sandbox.

    Exit code 7 when a host does not answer, 8 when it refuses us or shows another key.
    """

    async def work(access: Access) -> int:
        hosts = await hosts_called(access.client, name)
        code = int(Exit.OK)
        for number, each in enumerate(hosts):
            write("\n" if number else "")
            code = max(code, await _inspect(access.client, each))
        return code

    return with_api(work, writes=True)


@inspect.command()
@click.option("--host", "name", metavar="NAME", default="", help="Only this host.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def stale(name: str, output: str) -> int:
    """
    Probe hosts and list what carries our label there and belongs to no sandbox.

    Exit code 7 when a host does not answer, 9 when an extension could not look at one: what is there
    is not known then.
    """
    from sandboxer.cli.stale import list_stale

    return list_stale(name, output)


async def hosts_called(client: Client, name: str) -> list[Host]:
    """
    Return one host, or all for an empty name, this machine first.

    Raises:
        NotFoundError: There is none of that name.
    """
    if not name:
        hosts = (await client.list(Host)).items
        return sorted(hosts, key=lambda h: (h.metadata.name != LOCAL_HOST, h.metadata.name))
    found = await get_object(client, Reference(Host, name), "")
    return [found] if isinstance(found, Host) else []


async def look_at(client: Client, host: Host) -> HostInventory:
    """
    Have a host probed now by whoever serves the API.

    Raises:
        HostSilentError: It does not answer.
        UnreachableError: The API does not.
        TerminalError: It refuses us, or is not who it should be.
    """
    path = path_of(Host, name=host.metadata.name, subresource="inventory")
    return await client.ask_host(HostInventory, path)


async def _inspect(client: Client, host: Host) -> int:
    try:
        seen = await look_at(client, host)
    except SandboxerError as error:
        code = exit_of(error)
        fault = "does not answer" if code == Exit.UNREACHABLE else "cannot be used"
        write(f"{host.metadata.name}  {_address(host)}  {fault}\n")
        note("\n  ".join(filter(None, (f"error: {error.message}", error.remedy))))
        return code
    write(f"{host.metadata.name}  {_address(host)}  answered in {seen.round_trip_ms:.1f} ms\n")
    write(facts_text(seen.facts, seen.load))
    write(trouble_text(host))
    write(inventory_text(seen.sandboxes))
    return Exit.OK


def _address(host: Host) -> str:
    spec = host.spec
    if spec.ssh_alias is not None:
        return f"{spec.ssh_alias} (alias)"
    return (
        "this machine" if spec.transport == "local" else f"{spec.user}@{spec.address}:{spec.port}"
    )


def facts_text(facts: HostFacts, load: HostLoad) -> str:
    """Return what a machine is and does, one thing per line."""
    compose = " ".join(facts.compose_command) + f" {facts.compose_version}"
    rows = [
        ["system", f"{facts.os}, kernel {facts.kernel}, {facts.architecture}"],
        ["up", format_duration(load.uptime_s)],
        ["user", f"{facts.user} (uid {facts.uid})"],
        ["processors", f"{facts.cpus}, load {load.load1:.2f}"],
        ["memory", f"{format_bytes(load.memory_available_bytes)} free of {format_bytes(facts.memory_bytes)}"],
        ["work root", facts.work_root],
        ["its disk", disk_text(load.disk_total_bytes, load.disk_free_bytes)],
        ["engine", f"{facts.engine} {facts.engine_version}".strip() or "none"],
        ["store", facts.engine_store or "unknown"],
        ["its disk", disk_text(load.store_disk_total_bytes, load.store_disk_free_bytes)],
        ["compose", facts.compose_refused or compose.strip() or "none"],
        ["tools", ", ".join(sorted(facts.tools)) or "none"],
    ]  # fmt: skip
    return columns([["", name, safe_text(value)] for name, value in rows])


def trouble_text(host: Host) -> str:
    """Return what the controller last said is wrong with a host, one thing per line."""
    bad = {"Ready": "False", "DiskPressure": "True", "OrphansHeld": "True"}
    said = (c for c in host.status.conditions if bad.get(c.type) == c.status)
    return "".join(f"   trouble      {safe_text(f'{c.reason}: {c.message}')}\n" for c in said)


def disk_text(total_bytes: int, free_bytes: int) -> str:
    """Return how full a disk is; `unknown` for one whose size the host does not say."""
    if not 0 <= free_bytes <= total_bytes or not total_bytes:
        return "unknown"
    full = 100 * (total_bytes - free_bytes) / total_bytes
    return f"{format_bytes(free_bytes)} free of {format_bytes(total_bytes)}, {full:.0f} % full"


def inventory_text(sandboxes: Sequence[FoundSandbox]) -> str:
    """Return what carries our label on a machine, by sandbox, and whether somebody owns it."""
    if not sandboxes:
        return "   ours         nothing\n"
    rows = [["", "SANDBOX", "UID", "STATE", "RESOURCES", "OWNER"]]
    for found in sandboxes:
        name = f"{found.namespace or '?'}/{found.name or '?'}"
        kinds = [resource.kind for resource in found.resources]
        counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        owner = "in the store" if found.owned else "ORPHAN"
        cells = (name, found.uid[:8], found.state, counted)
        rows.append(["", *(safe_text(cell) for cell in cells), owner])
    return columns(rows)
