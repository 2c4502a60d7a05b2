"""
The port registry: which local port is the end of which VM's reverse tunnel.

A file of the operator's, read and never written:

    ports:
      12221: {vm: haskell-build, owner: ops-bridge}
      12222: {vm: android-build}
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sandboxer.errors import InvalidSpecError
from sandboxer.kinds.host import SSH_ALIAS_PATTERN

# The range that is set aside for reverse tunnels of VMs, both ends included.
FIRST_PORT, LAST_PORT = 12221, 12230

# Bytes; ten entries take less than one thousand.
MAX_BYTES = 64 * 1024

# PyYAML raises whatever its constructors stumble over: `!!bool zz` is a KeyError.
UNREADABLE = (
    OSError, ValueError, yaml.YAMLError, RecursionError, LookupError, AttributeError, TypeError,
)  # fmt: skip

PORT_VARIABLE = "SANDBOXER_VM_TUNNEL_PORT"
REGISTRY_VARIABLE = "SANDBOXER_PORT_REGISTRY"


class Entry(BaseModel):
    """Whose port it is."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    vm: Annotated[str, Field(pattern=SSH_ALIAS_PATTERN)]
    """The VM's alias."""
    owner: Annotated[str, Field(max_length=100)] = ""
    """Who keeps the tunnel up."""
    remote_port: Annotated[int, Field(ge=1, le=65535)] = 22
    """Port of the SSH server on the VM."""


class Registry(BaseModel):
    """All of the file."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    ports: Mapping[Annotated[int, Field(ge=FIRST_PORT, le=LAST_PORT)], Entry] = {}

    def of(self, vm: str) -> int | None:
        """Return the lowest port of a VM."""
        return min((port for port, entry in self.ports.items() if entry.vm == vm), default=None)

    def listed(self) -> str:
        """Return what is registered, for a message."""
        entries = sorted(self.ports.items())
        return ", ".join(f"{port} ({entry.vm})" for port, entry in entries) or "none"


def registry_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the registry is looked for."""
    named = environ.get(REGISTRY_VARIABLE)
    return Path(named) if named else Path.home() / ".config/sandboxer/port-registry.yml"


def read_registry(environ: Mapping[str, str] = os.environ) -> Registry:
    """
    Return the registry; an empty one when there is no file.

    Raises:
        InvalidSpecError: The file cannot be understood.
    """
    path = registry_path(environ)
    try:
        status = path.stat()
        return _read(path, status.st_mtime_ns, status.st_size)
    except FileNotFoundError:
        return Registry()
    except UNREADABLE as error:
        raise InvalidSpecError(
            f"The port registry {path} cannot be used: {_why(error)}",
            field="spec.inputs.tunnel_port",
            reason="PortRegistryInvalid",
            remedy=f"Write it as `ports: {{{FIRST_PORT}: {{vm: haskell-build}}}}`.",
        ) from error


def tunnel_port(vm: str, wished: int | None, environ: Mapping[str, str] = os.environ) -> int | None:
    """
    Return the local end of a VM's reverse tunnel, None when it is reached without one.

    Args:
        vm: The VM's alias.
        wished: Input `tunnel_port`.
        environ: Has `SANDBOXER_VM_TUNNEL_PORT` perhaps, which counts next; then the registry.

    Raises:
        InvalidSpecError: The port is not registered, or is another VM's.
    """
    registry = read_registry(environ)
    if wished is not None:
        return _registered(vm, wished, "tunnel_port", registry)
    if text := environ.get(PORT_VARIABLE):
        port = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0  # noqa: PLR2004 - digits of 65535
        return _registered(vm, port, PORT_VARIABLE, registry, text)
    return registry.of(vm)


def objection(vm: str, port: int, environ: Mapping[str, str] = os.environ) -> str:
    """Return why `spec.tunnelPort` of a Host cannot be that VM's tunnel, empty when it is."""
    try:
        _registered(vm, port, "spec.tunnelPort", read_registry(environ))
    except InvalidSpecError as error:
        return f"{error.message.rstrip('.')}; {error.remedy}"
    return ""


def _registered(vm: str, port: int, said_by: str, registry: Registry, text: str = "") -> int:
    entry = registry.ports.get(port)
    if entry is not None and entry.vm == vm:
        return port
    why = "is not registered" if entry is None else f"is registered for {entry.vm}"
    raise InvalidSpecError(
        f"{said_by} {text or port} {why}, so VM {vm} is not reached there. "
        f"Registered ports: {registry.listed()}.",
        field="spec.inputs.tunnel_port",
        reason="PortNotRegistered",
        remedy=f"Use the VM's port, or register it in {registry_path()}.",
    )


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}."
    return f"{' '.join(str(error).split())[:300]}."


@lru_cache(maxsize=4)
def _read(path: Path, _modified_ns: int, _size: int) -> Registry:
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES} bytes")
    return Registry.model_validate(yaml.safe_load(content) or {})
