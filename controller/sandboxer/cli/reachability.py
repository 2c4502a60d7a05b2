"""`reachability`: the way to a sandbox, for people and for what keeps its tunnel up."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from sandboxer.cli.access import with_api
from sandboxer.cli.exits import Exit, RefusedError
from sandboxer.cli.names import get_sandbox
from sandboxer.cli.options import current_namespace, namespace_option
from sandboxer.cli.printing import columns, to_yaml, write
from sandboxer.kinds.sandbox import Reachability, Sandbox

if TYPE_CHECKING:
    from sandboxer.cli.access import Access


@click.group()
def reachability() -> None:
    """Show the way to a sandbox."""


@reachability.command()
@click.argument("name", metavar="ID")
@click.option("-o", "--output", type=click.Choice(["text", "yaml", "json"]), default="text", help="Form of what is printed.")  # fmt: skip
@click.option("--emit", type=click.Choice(["ops-bridge"]), help="Print the configuration another program needs for the tunnel instead.")  # fmt: skip
@namespace_option
def show(name: str, *, output: str, emit: str | None, namespace: str | None) -> int:
    """Print SSH target, directory, published ports and tunnel of a sandbox."""

    async def work(access: Access) -> int:
        sandbox = await get_sandbox(access.client, name, current_namespace(namespace))
        way = known_way(sandbox)
        write(ops_bridge(sandbox, way) if emit else _PRINTERS[output](way))
        return Exit.OK

    return with_api(work)


def known_way(sandbox: Sandbox) -> Reachability:
    """
    Return how to get to a sandbox.

    Raises:
        RefusedError: It was not made yet.
    """
    way = sandbox.status.reachability
    if way is None:
        raise RefusedError(
            f"{sandbox.key} was not provisioned yet, so there is no way to it.",
            reason="NotProvisioned",
            remedy=f"See: sandboxer describe sandbox {sandbox.metadata.name}",
        )
    return way


def ops_bridge(sandbox: Sandbox, way: Reachability) -> str:
    """
    Return the tunnel of a sandbox as an entry of ops-bridge's configuration, YAML.

    Raises:
        RefusedError: It is reached without a tunnel.
    """
    tunnel = way.tunnel
    if tunnel is None:
        raise RefusedError(
            f"{sandbox.key} is reached directly at {way.ssh_target or 'this machine'}, so there "
            "is no tunnel to keep up.",
            reason="NoTunnel",
            remedy="Set tunnel_port, or register a port for the VM.",
        )
    entry = {
        "name": tunnel.name,
        "direction": "reverse",
        "bind": f"{tunnel.local_address}:{tunnel.local_port}",
        "target": f"127.0.0.1:{tunnel.remote_port}",
        "owner": tunnel.owner or "ops-bridge",
    }
    return to_yaml({"tunnels": [entry]})


def _text(way: Reachability) -> str:
    rows = [
        ("SSH target", way.ssh_target or "this machine"),
        ("Directory", way.remote_dir),
        *((f"Port {name}", f"127.0.0.1:{port} of the host") for name, port in way.ports.items()),
    ]
    if (tunnel := way.tunnel) is not None:
        end = f"{tunnel.local_address}:{tunnel.local_port} to port {tunnel.remote_port}"
        kept = f", kept up by {tunnel.owner}" if tunnel.owner else ""
        rows.append(("Tunnel", f"{tunnel.name}, {end}{kept}"))
    return columns([row for row in rows if row[1]])


def _document(way: Reachability) -> dict[str, Any]:
    return way.to_document()


_PRINTERS: Mapping[str, Callable[[Reachability], str]] = {
    "text": _text,
    "yaml": lambda way: to_yaml(_document(way)),
    "json": lambda way: f"{json.dumps(_document(way), indent=2)}\n",
}
