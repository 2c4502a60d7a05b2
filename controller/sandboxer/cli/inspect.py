"""`inspect`: the machines themselves, probed now."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import click

from sandboxer.cli.access import with_manager
from sandboxer.cli.exits import Exit, exit_of
from sandboxer.cli.names import Reference, get_object
from sandboxer.cli.printing import columns, note, safe_text, write
from sandboxer.errors import SandboxerError
from sandboxer.extension import LABEL_NAME, LABEL_NAMESPACE, Observation
from sandboxer.kinds.host import LOCAL_HOST, Host, HostFacts, HostLoad
from sandboxer.units import format_bytes, format_duration

if TYPE_CHECKING:
    from sandboxer.manager import Manager
    from sandboxer.store import Store


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

    async def work(manager: Manager) -> int:
        await manager.register()
        hosts = _hosts(manager.store, name)
        code = int(Exit.OK)
        for number, each in enumerate(hosts):
            write("\n" if number else "")
            code = max(code, await _inspect(manager, each))
        return code

    return with_manager(work)


def _hosts(store: Store, name: str) -> list[Host]:
    if not name:
        return sorted(
            store.list(Host), key=lambda h: (h.metadata.name != LOCAL_HOST, h.metadata.name)
        )
    found = get_object(store, Reference(Host, name), "")
    return [found] if isinstance(found, Host) else []


async def _inspect(manager: Manager, host: Host) -> int:
    try:
        report = await manager.probe(host)
    except SandboxerError as error:
        code = exit_of(error)
        fault = "does not answer" if code == Exit.UNREACHABLE else "cannot be used"
        write(f"{host.metadata.name}  {_address(host)}  {fault}\n")
        note("\n  ".join(filter(None, (f"error: {error.message}", error.remedy))))
        return code
    write(f"{host.metadata.name}  {_address(host)}  answered in {report.round_trip_ms:.1f} ms\n")
    write(facts_text(report.facts, report.load))
    write(inventory_text(manager.inventory(host), manager.store))
    return Exit.OK


def _address(host: Host) -> str:
    spec = host.spec
    return (
        "this machine" if spec.transport == "local" else f"{spec.user}@{spec.address}:{spec.port}"
    )


def facts_text(facts: HostFacts, load: HostLoad) -> str:
    """Return what a machine is and does, one thing per line."""
    used = load.disk_total_bytes - load.disk_free_bytes
    full = f"{100 * used / load.disk_total_bytes:.0f} % full" if load.disk_total_bytes else ""
    compose = " ".join(facts.compose_command) + f" {facts.compose_version}"
    rows = [
        ["system", f"{facts.os}, kernel {facts.kernel}, {facts.architecture}"],
        ["up", format_duration(load.uptime_s)],
        ["user", f"{facts.user} (uid {facts.uid})"],
        ["processors", f"{facts.cpus}, load {load.load1:.2f}"],
        ["memory", f"{format_bytes(load.memory_available_bytes)} free of {format_bytes(facts.memory_bytes)}"],
        ["disk", f"{format_bytes(load.disk_free_bytes)} free of {format_bytes(load.disk_total_bytes)}, {full}"],
        ["work root", facts.work_root],
        ["engine", f"{facts.engine} {facts.engine_version}".strip() or "none"],
        ["compose", facts.compose_refused or compose.strip() or "none"],
        ["tools", ", ".join(sorted(facts.tools)) or "none"],
    ]  # fmt: skip
    return columns([["", name, safe_text(value)] for name, value in rows])


def inventory_text(seen: Collection[Observation], store: Store) -> str:
    """Return what carries our label on a machine, by sandbox, and whether somebody owns it."""
    if not seen:
        return "   ours         nothing\n"
    owners = {entry.uid for entry in store.entries("Sandbox")}
    rows = [["", "SANDBOX", "UID", "STATE", "RESOURCES", "OWNER"]]
    for observation in sorted(seen, key=lambda o: o.uid):
        labels = observation.labels
        name = f"{labels.get(LABEL_NAMESPACE, '?')}/{labels.get(LABEL_NAME, '?')}"
        kinds = [resource.kind for resource in observation.resources]
        counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        owner = "in the store" if observation.uid in owners else "ORPHAN"
        rows.append(["", safe_text(name), observation.uid[:8], observation.state, counted, owner])
    return columns(rows)
