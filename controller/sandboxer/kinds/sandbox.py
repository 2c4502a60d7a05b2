"""
The Sandbox: one isolated environment, wanted in `spec`, observed in `status`.

`spec` belongs to the user and is never changed by the controller; `status` belongs to the
controller. Fields of the product that nothing enforces yet (egress, snapshots, budgets) are not in
this model: a manifest that asks for them is refused rather than ignored.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from sandboxer.kinds.meta import (
    API_VERSION,
    Column,
    LabelKey,
    LabelValue,
    Model,
    Name,
    Resource,
    Status,
    Timestamp,
    list_map,
    rule,
)
from sandboxer.units import CPUQuantity, Duration, Quantity

DEFAULT_PROFILE = "profile.sandbox-canary"

ENV_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"

MAX_DIFFERENCES = 16
"""Differences kept of one drift: what a person reads, and 4 KiB of status at most."""

EnvName = Annotated[str, Field(pattern=ENV_NAME_PATTERN)]
IsolationLevel = Literal["none", "namespace", "container", "vm"]
"""How far a sandbox is kept from its host, weakest first."""
ISOLATION_ORDER: tuple[IsolationLevel, ...] = ("none", "namespace", "container", "vm")

Phase = Literal[
    "Pending", "Provisioning", "Starting", "Ready", "Degraded", "Suspended", "Unknown",
    "Terminating", "Failed",
]  # fmt: skip


class Selector(Model):
    """Picks objects by their labels."""

    match_labels: dict[LabelKey, LabelValue] = {}
    """All of these must be equal; an empty selector picks everything."""


class Placement(Model):
    """Where the sandbox may run; everything left out is free."""

    host: Name | None = None
    """Exactly this Host."""
    host_selector: Selector | None = None
    """Only Hosts with these labels."""
    extension: Name | None = None
    """Exactly this extension, when the profile offers several."""


class Lifetime(Model):
    """How long the sandbox may live: for ever, unless `ttl` or `expiresAt` says otherwise."""

    model_config = ConfigDict(
        json_schema_extra=rule(
            "!(has(self.ttl) && has(self.expiresAt))", "name at most one of ttl and expiresAt"
        )
    )

    ttl: Duration | None = None
    """Time from creation until it expires."""
    expires_at: Timestamp | None = None
    """Moment at which it expires."""
    on_expiry: Literal["Delete"] = "Delete"
    """What happens then."""

    @model_validator(mode="after")
    def _one_end(self) -> Lifetime:
        if self.ttl is not None and self.expires_at is not None:
            msg = "name at most one of ttl and expiresAt"
            raise ValueError(msg)
        return self

    @property
    def is_limited(self) -> bool:
        """Whether it says when it ends."""
        return self.ttl is not None or self.expires_at is not None

    def end(self, created: datetime) -> datetime | None:
        """Return when what was created then expires, in whole seconds; None is never."""
        if self.expires_at is not None:
            return self.expires_at.astimezone(UTC).replace(microsecond=0)
        if self.ttl is None:
            return None
        return (created + timedelta(seconds=self.ttl.seconds)).replace(microsecond=0)


class Resources(Model):
    """Upper limits for each container or process tree, as far as the extension enforces them."""

    cpu: CPUQuantity | None = None
    """Processor share."""
    memory: Quantity | None = None
    """Bytes of memory; exceeding it kills the process."""
    pids: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Number of processes and threads."""


class SecretRef(Model):
    """An environment variable whose value is read where the controller runs, never stored."""

    model_config = ConfigDict(
        json_schema_extra=rule(
            "has(self.fromFile) != has(self.fromEnv)", "name exactly one of fromFile and fromEnv"
        )
    )

    name: EnvName
    """Variable in the sandbox."""
    from_file: str | None = None
    """Absolute path of a file on the controller's machine; one trailing newline is dropped."""
    from_env: EnvName | None = None
    """Variable in the controller's environment; must start with `SANDBOXER_SECRET_`."""

    @model_validator(mode="after")
    def _one_source(self) -> SecretRef:
        if (self.from_file is None) == (self.from_env is None):
            msg = "name exactly one of fromFile and fromEnv"
            raise ValueError(msg)
        return self


class Port(Model):
    """A port inside the sandbox that is published on the host's loopback address."""

    name: Name
    """How `status.reachability.ports` calls it."""
    container_port: Annotated[int, Field(ge=1, le=65535)]
    """Port the program inside listens on."""
    service: Name | None = None
    """Compose service; may be left out when there is only one."""


class Isolation(Model):
    """What separation the sandbox must have."""

    minimum: IsolationLevel = "none"
    """Weakest acceptable level; an extension that gives less on a host does not fit there."""


class Actor(Model):
    """Who asks."""

    type: Literal["adm", "agt", "atm"] = "adm"
    """Operator, agent or automation."""
    project: LabelValue = ""
    """Project the sandbox is for."""


def _require_distinct(field: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            msg = f"{field} name {name!r} twice"
            raise ValueError(msg)


class SandboxSpec(Model):
    """Desired state."""

    profile: Name = DEFAULT_PROFILE
    """Recipe to use; see `sandboxer get profiles`."""
    inputs: dict[str, str | int | float | bool] = {}
    """Values for the profile's extension; over the profile's own defaults."""
    env: dict[EnvName, str] = {}
    """Environment of every process in the sandbox; not for secrets."""
    secret_refs: Annotated[
        tuple[SecretRef, ...], Field(max_length=64, json_schema_extra=list_map("name"))
    ] = ()
    """Environment that must not be stored or shown."""
    placement: Placement = Placement()
    """Where it may run."""
    lifetime: Lifetime = Lifetime()
    """How long it may live."""
    resources: Resources = Resources()
    """Upper limits."""
    ports: Annotated[
        tuple[Port, ...], Field(max_length=32, json_schema_extra=list_map("name"))
    ] = ()
    """Ports to publish on the host's loopback address."""
    isolation: Isolation = Isolation()
    """What separation it must have."""
    operating_mode: Literal["Running", "Suspended"] = "Running"
    """`Suspended` stops the processes and keeps the workspace."""
    drift_policy: Literal["Repair", "Report"] = "Repair"
    """What to do when the actual state leaves the wanted one by itself."""
    ready_timeout: Duration | None = None
    """Time from provisioning until Ready, 5m when nobody says; later it is Stalled, and still watched."""
    actor: Actor = Actor()
    """Who asks."""

    @model_validator(mode="after")
    def _distinct_names(self) -> SandboxSpec:
        _require_distinct("ports", [port.name for port in self.ports])
        variables = [*self.env, *(secret.name for secret in self.secret_refs)]
        _require_distinct("env and secretRefs", variables)
        return self


class Intention(Model):
    """A side effect that was about to happen when it was stored, so a crash cannot hide it."""

    action: Literal["Provision", "Suspend", "Resume", "Teardown"]
    """What was about to be done."""
    spec_hash: str = ""
    """Hash of the desired state it was for."""
    started_at: Timestamp
    """When this attempt's series began; kept over retries of the same action."""
    attempts: int = 0
    """How often it was tried and failed; 0 while the first try is under way."""


class Ending(Model):
    """How a program ended, as the engine that ran it knows."""

    exit_code: int
    """Exit status; 128 + N after signal N."""
    oom_killed: bool = False
    """Whether the kernel killed it because it needed more memory than it may have."""
    ended_at: Timestamp | None = None
    """When, by the host's clock."""


class ResourceSeen(Model):
    """One thing on the backend that carries this sandbox's uid."""

    kind: str
    """`container`, `network`, `volume`, `workspace`, `process`, `build`, `artifact`."""
    name: str
    """The backend's name for it."""
    state: str
    """The backend's word for its state."""
    health: str = ""
    """`healthy`, `unhealthy`, `starting`, or empty where there is no check."""
    detail: str = ""
    """Exit code or other evidence."""
    digest: str = ""
    """`sha256:` and the checksum in hex, of an artifact; empty where nothing is summed."""
    ending: Ending | None = None
    """How it ended, of a program that does not run and whose backend says it."""


def _is_false(value: object) -> bool:
    return not value


class Difference(Model):
    """One thing that left the wanted state by itself."""

    path: str
    """What: `containers/app/memory`, `volumes/data`, `workspace`, `state`."""
    wanted: str
    """How it should be, in the backend's words."""
    seen: str
    """How it is."""
    data_lost: Annotated[bool, Field(exclude_if=_is_false)] = False
    """Whether what it held is gone, so that a repair makes it anew without it."""

    def __str__(self) -> str:
        """Return it as a line of a diff: `containers/app/memory: 64 MiB -> 128 MiB`."""
        return f"{self.path}: {self.wanted} -> {self.seen}"


class Tunnel(Model):
    """A reverse tunnel by which a machine is reached; somebody else keeps it up."""

    name: str
    """What the tunnel is for: the machine's alias."""
    local_address: str = "127.0.0.1"
    """Where it ends on the controller's machine."""
    local_port: Annotated[int, Field(ge=1, le=65535)]
    """Port it ends at there."""
    remote_port: Annotated[int, Field(ge=1, le=65535)] = 22
    """Port of the SSH server on the machine."""
    owner: str = ""
    """Who keeps it up, as the port registry says."""


class Reachability(Model):
    """How a person or a program gets to the sandbox."""

    ssh_target: str = ""
    """`user@address:port` of the host, empty when it is the local machine."""
    ssh_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port in `sshTarget`, for programs."""
    remote_dir: str = ""
    """Workspace directory on the host."""
    tunnel: Tunnel | None = None
    """The reverse tunnel the SSH connection takes, if it takes one."""
    ports: dict[str, int] = {}
    """Published port on the host's loopback address, by port name."""


class IsolationSeen(Model):
    """What the backend really enforces."""

    level: IsolationLevel = "none"
    """Level reached on this host."""
    detail: str = ""
    """By what means, and what is not enforced, as a sentence."""


class Destination(Model):
    """Another place, set aside before a sandbox leaves the one it has."""

    extension: str
    host: str
    ports: dict[str, int] = {}
    """Host ports leased there, by port name."""
    reason: str = ""
    """Why this one, and why not the others."""


class SwitchSeen(Model):
    """The dead-man's switch of a sandbox, as its host has it."""

    expires_at: Timestamp
    """End of the lifetime its host knows."""
    lease_s: Annotated[int, Field(ge=1)]
    """Seconds without a controller after which the host acts on an expired sandbox."""
    watcher: Literal["systemd", "cron", "process"]
    """What watches on the host."""
    survives_reboot: bool = False
    """Whether it still watches after the host was rebooted, without a controller."""
    directory: str = ""
    """Where the host keeps it."""
    fired_at: Timestamp | None = None
    """When the host took the sandbox away; absent unless it did."""


class SandboxStatus(Status):
    """Observed state. Conditions: Accepted, Routed, Provisioned, Ready, HostReachable, Drifted, Leaving, Suspended, Expired, DeadMansSwitch, Stalled, Reconciling."""

    phase: Phase = "Pending"
    """Derived from the conditions, for people only."""
    extension: str = ""
    """Extension that was chosen."""
    host: str = ""
    """Host that was chosen; empty for an extension that needs none."""
    placement_reason: str = ""
    """Why this extension and host, and why not the others."""
    boot_id: str = ""
    """Boot of the host in which it was last seen as wished; another one there means a reboot."""
    destination: Destination | None = None
    """Where it goes next; absent while it stays."""
    intention: Intention | None = None
    """The side effect under way; absent when none is."""
    spec_hash: str = ""
    """Hash of the desired state that was last provisioned."""
    handle: dict[str, str] = {}
    """The extension's own notes about what it made; no secrets."""
    ports: dict[str, int] = {}
    """Host ports leased to this sandbox, by port name."""
    resources: tuple[ResourceSeen, ...] = ()
    """What was last seen on the backend."""
    reachability: Reachability | None = None
    """How to get there, once provisioned."""
    isolation: IsolationSeen | None = None
    """What is enforced, once provisioned."""
    expires_at: Timestamp | None = None
    """When its lifetime ends."""
    dead_mans_switch: SwitchSeen | None = None
    """What takes it away when it has expired and no controller is left; absent when nothing does."""
    provisioned_at: Timestamp | None = None
    """When provisioning last succeeded."""
    repairs: int = 0
    """How often drift was repaired."""
    drift: Annotated[
        tuple[Difference, ...],
        Field(max_length=MAX_DIFFERENCES, json_schema_extra=list_map("path")),
    ] = ()
    """What is not as it should be, while the condition Drifted holds; the first of many."""


class Sandbox(Resource):
    """One isolated environment."""

    plural: ClassVar[str] = "sandboxes"
    short_names: ClassVar[tuple[str, ...]] = ("sbx",)
    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="Profile", json_path=".spec.profile"),
        Column(name="Phase", json_path=".status.phase"),
        Column(name="Ready", json_path='.status.conditions[?(@.type=="Ready")].status'),
        Column(name="Host", json_path=".status.host"),
        Column(name="Age", json_path=".metadata.creationTimestamp", type="date"),
        Column(name="Extension", json_path=".status.extension", priority=1),
        Column(name="Isolation", json_path=".status.isolation.level", priority=1),
        Column(name="Expires", json_path=".status.expiresAt", priority=1),
        Column(
            name="Message", json_path='.status.conditions[?(@.type=="Ready")].message', priority=1
        ),
    )

    api_version: Literal["sandboxer.dev/v1alpha1"] = API_VERSION
    kind: Literal["Sandbox"] = "Sandbox"
    spec: SandboxSpec = SandboxSpec()
    status: SandboxStatus = SandboxStatus()
