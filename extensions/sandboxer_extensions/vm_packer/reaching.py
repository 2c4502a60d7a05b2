"""How to get to a workspace: what `status.reachability` says, for people and for ops-bridge."""

from __future__ import annotations

from sandboxer.errors import InvalidSpecError
from sandboxer.kinds.sandbox import Reachability, Tunnel
from sandboxer_extensions.vm_packer import ports
from sandboxer_extensions.vm_packer.inputs import VMInputs

LOOPBACK = "127.0.0.1"


def reachability(target: str, wished: VMInputs, work_directory: str) -> Reachability:
    """
    Describe the way to a workspace.

    Args:
        target: `user@address:port` the session uses.
        wished: Says which VM it is.
        work_directory: On the VM.
    """
    _, _, place = target.rpartition("@")
    address, _, port = place.rpartition(":")
    number = int(port) if port.isdecimal() else 0
    return Reachability(
        ssh_target=target,
        ssh_port=number or None,
        remote_dir=work_directory,
        tunnel=_tunnel(address, number, wished),
    )


def _tunnel(address: str, port: int, wished: VMInputs) -> Tunnel | None:
    """Return the tunnel that ends at that address, if it is one that is registered."""
    try:
        entry = ports.read_registry().ports.get(port)
    except InvalidSpecError:
        # The way was found when the Host was made; a registry broken since hides the owner only.
        entry = None
    if address != LOOPBACK or not (entry or wished.tunnel_port == port):
        return None
    return Tunnel(
        name=wished.target,
        local_address=LOOPBACK,
        local_port=port,
        remote_port=entry.remote_port if entry else 22,
        owner=entry.owner if entry else "",
    )
