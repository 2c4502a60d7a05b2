"""
The Host: a machine on which sandboxes are placed, reached over SSH or the local one.

`status` holds what changes rarely. Load and the moment of the last probe change with every probe,
so they are rewritten only together with something that matters (`docs/host-telemetry.md`).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from sandboxer.kinds.meta import API_VERSION, Column, Model, Resource, Status, Timestamp, rule
from sandboxer.units import Duration

LOCAL_HOST = "local"
"""Name of the Host that stands for the controller's own machine."""

# A host name or an address; a leading dash would be an option to ssh, a colon belongs to IPv6.
ADDRESS_PATTERN = r"^[A-Za-z0-9:]([A-Za-z0-9.:_-]{0,252}[A-Za-z0-9])?$"
USER_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.-]{0,31}$"
ABSOLUTE_PATH_PATTERN = r"^/[A-Za-z0-9_][A-Za-z0-9_./+-]{0,1000}$"
SSH_ALIAS_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$"
# What a name of an image consists of, and the signs of a pattern.
IMAGE_GLOB_PATTERN = r"^[A-Za-z0-9*?\[][A-Za-z0-9._/:@*?\[\]!-]{0,254}$"
HOST_KEY_PATTERN = r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/=]{16,2048}$"


class PortRange(Model):
    """Ports the controller may lease to sandboxes, both ends included."""

    model_config = ConfigDict(
        json_schema_extra=rule("self.first <= self.last", "last must not be below first")
    )

    first: Annotated[int, Field(ge=1024, le=65535)] = 42000
    """Lowest port."""
    last: Annotated[int, Field(ge=1024, le=65535)] = 42999
    """Highest port."""

    @model_validator(mode="after")
    def _in_order(self) -> PortRange:
        if self.last < self.first:
            msg = "last must not be below first"
            raise ValueError(msg)
        return self


class Capacity(Model):
    """How much the host takes."""

    sandboxes: Annotated[int, Field(ge=0, le=100_000)] = 1000
    """Sandboxes placed at the same time."""


class DiskLimits(Model):
    """When a disk counts as full, and what may be removed then."""

    model_config = ConfigDict(
        json_schema_extra=rule(
            "self.lowWatermark < self.highWatermark", "lowWatermark must be below highWatermark"
        )
    )

    high_watermark: Annotated[int, Field(ge=1, le=99)] = 85
    """Percent in use from which nothing new is placed here."""
    low_watermark: Annotated[int, Field(ge=0, le=98)] = 80
    """Percent in use at which that ends, and down to which images are removed."""
    prune: Literal["Never", "Unused"] = "Never"
    """`Unused`: above the high watermark remove images that no container uses, whoever fetched them."""
    keep_images: Annotated[
        tuple[Annotated[str, Field(pattern=IMAGE_GLOB_PATTERN)], ...], Field(max_length=100)
    ] = ()
    """Images that are never removed, as names or patterns: `docker.io/library/debian:12`, `ghcr.io/acme/*`. Without a tag every tag is meant."""

    @model_validator(mode="after")
    def _in_order(self) -> DiskLimits:
        if self.low_watermark >= self.high_watermark:
            msg = "lowWatermark must be below highWatermark"
            raise ValueError(msg)
        return self


class HostSpec(Model):
    """How to reach the machine and what may be done there."""

    model_config = ConfigDict(
        json_schema_extra=rule(
            "self.transport != 'ssh' || has(self.address) != has(self.sshAlias)",
            "transport ssh needs either address or sshAlias",
        )
    )

    transport: Literal["ssh", "local"] = "ssh"
    """`local` is the controller's own machine, without SSH."""
    address: Annotated[str, Field(pattern=ADDRESS_PATTERN)] | None = None
    """Host name or IP address; `ssh` needs it or `sshAlias`."""
    ssh_alias: Annotated[str, Field(pattern=SSH_ALIAS_PATTERN)] | None = None
    """Alias in ~/.ssh/config of the controller's user; address, port, user, keys, certificates and jump hosts come from there, and the host key from the user's known_hosts."""
    tunnel_port: Annotated[int, Field(ge=1024, le=65535)] | None = None
    """Local end of a reverse tunnel the machine opened: `sshAlias` is reached at 127.0.0.1 on this port."""
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    """TCP port of the SSH server; not read beside `sshAlias`."""
    user: Annotated[str, Field(pattern=USER_PATTERN)] = "root"
    """Login name; not read beside `sshAlias`."""
    identity_file: Annotated[str, Field(pattern=r"^[/~]")] | None = None
    """Private key on the controller's machine; absent means the usual files in ~/.ssh."""
    host_key: Annotated[str, Field(pattern=HOST_KEY_PATTERN)] | None = None
    """Pinned public key of the host, as in /etc/ssh/ssh_host_ed25519_key.pub without the comment."""
    trust_on_first_use: bool = False
    """Accept and record the key the host shows first; only for networks you trust."""
    compose_command: Annotated[tuple[str, ...], Field(min_length=1, max_length=8)] | None = None
    """Compose command as an argument list; over what the probe finds."""
    work_root: Annotated[str, Field(pattern=ABSOLUTE_PATH_PATTERN)] | None = None
    """Directory for workspaces; absent means `/var/lib/sandboxer` for root, else under the home directory."""
    capacity: Capacity = Capacity()
    """How much the host takes."""
    port_range: PortRange = PortRange()
    """Ports that may be leased to sandboxes."""
    probe_interval: Duration = Duration("15s")
    """Time between two probes."""
    disk: DiskLimits = DiskLimits()
    """When its disks count as full, and what is done about it."""
    unschedulable: bool = False
    """Keep what runs, place nothing new."""
    drain: Literal["Keep", "Move", "GiveUp"] = "Keep"
    """What becomes of the sandboxes here. `Move`: each is made anew on another host that fits, and what its workspace held is lost. `GiveUp`: besides, while the host does not answer they forget it. Nothing new is placed here with either."""

    @property
    def takes_new(self) -> bool:
        """Whether anything new may be placed here, as far as people say."""
        return not self.unschedulable and self.drain == "Keep"

    @model_validator(mode="after")
    def _reachable(self) -> HostSpec:
        if self.transport == "ssh" and (self.address is None) == (self.ssh_alias is None):
            msg = "transport ssh needs either address or sshAlias"
            raise ValueError(msg)
        if self.tunnel_port is not None and self.ssh_alias is None:
            msg = "tunnelPort needs sshAlias; else give address 127.0.0.1 and port"
            raise ValueError(msg)
        return self


class HostFacts(Model):
    """What the machine is; changes only with a reboot or an installation."""

    boot_id: str = ""
    """Random for each boot; tells a reboot from a pause."""
    hostname: str = ""
    os: str = ""
    """`PRETTY_NAME` of os-release."""
    kernel: str = ""
    architecture: str = ""
    """`uname -m`, for example `x86_64`."""
    user: str = ""
    """Login name commands run as."""
    uid: int = 0
    """Numeric user; 0 means root."""
    home: str = ""
    cpus: int = 0
    memory_bytes: int = 0
    work_root: str = ""
    """Directory that holds the workspaces, resolved."""
    engine: Literal["", "docker", "podman"] = ""
    """Container engine that answers; empty when there is none."""
    engine_version: str = ""
    engine_store: str = ""
    """Directory in which the engine keeps images and containers; empty when it does not say."""
    engine_socket: str = ""
    """Unix socket of the engine's REST API; empty when it has to be asked by command."""
    compose_command: tuple[str, ...] = ()
    """Compose command that is used; empty when there is none that can be trusted."""
    compose_version: str = ""
    compose_refused: str = ""
    """Why a compose tool that is there is not used."""
    systemd: bool = False
    """Whether the engine can run health checks by itself (podman needs systemd for it)."""
    tools: dict[str, str] = {}
    """
    Path of each optional tool found: `bwrap`, `flock`, `packer`, `rsync`, `setsid`, `timeout`,
    `unshare`.
    """


class HostLoad(Model):
    """What the machine was doing at the last probe."""

    load1: float = 0.0
    """Load average over one minute."""
    memory_available_bytes: int = 0
    disk_total_bytes: int = 0
    """Size of the file system of the work root."""
    disk_free_bytes: int = 0
    """Of these, what is free to the login's user."""
    store_disk_total_bytes: int = 0
    """Size of the file system of the engine's store; 0 when it is not known."""
    store_disk_free_bytes: int = 0
    uptime_s: float = 0.0


class HostStatus(Status):
    """Observed state. Conditions: Reachable, Ready, DiskPressure, Drained, OrphansHeld."""

    facts: HostFacts = HostFacts()
    """What the machine is."""
    load: HostLoad = HostLoad()
    """What it was doing when the status was last written."""
    host_key: str = ""
    """Public key the host showed, recorded on first use or equal to the pinned one."""
    sandboxes: int = 0
    """Sandboxes placed here."""
    resources: int = 0
    """Things carrying our label seen here."""
    last_probe_time: Timestamp | None = None
    """A recent successful probe, the last one while it does not answer; live values: `sandboxer inspect host`."""
    round_trip_ms: float = 0.0
    """Duration of that probe as the controller saw it."""


class Host(Resource):
    """A machine on which sandboxes are placed."""

    plural: ClassVar[str] = "hosts"
    short_names: ClassVar[tuple[str, ...]] = ("sbxhost",)
    namespaced: ClassVar[bool] = False
    signed_field: ClassVar[str] = "drain"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="Address", json_path=".spec.address"),
        Column(name="Reachable", json_path='.status.conditions[?(@.type=="Reachable")].status'),
        Column(name="Ready", json_path='.status.conditions[?(@.type=="Ready")].status'),
        Column(name="Sandboxes", json_path=".status.sandboxes", type="integer"),
        Column(name="Age", json_path=".metadata.creationTimestamp", type="date"),
        Column(name="Engine", json_path=".status.facts.engine", priority=1),
        Column(name="Compose", json_path=".status.facts.composeVersion", priority=1),
        Column(name="OS", json_path=".status.facts.os", priority=1),
        Column(
            name="Message", json_path='.status.conditions[?(@.type=="Ready")].message', priority=1
        ),
    )

    api_version: Literal["sandboxer.dev/v1alpha1"] = API_VERSION
    kind: Literal["Host"] = "Host"
    spec: HostSpec
    status: HostStatus = HostStatus()
