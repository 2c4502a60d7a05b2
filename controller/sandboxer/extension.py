"""
THE CONTRACT: what a backend must do. Its author reads this file and `sandboxer/session.py`.

An extension turns one `Instance` (everything there is to know about one sandbox) into resources on
a backend, says what it sees there, and takes it away again. The engine decides when, how often and
what to do about failures. An extension never sleeps to retry, never stores anything, never looks
at other sandboxes, and keeps no state between calls: it may be killed at any instruction and asked
again by another process.

The law, for every method:

* **Level-triggered.** A call asks for a state, not for an action. Asked again, it finds the work
  done and returns the same answer; half done, it finishes it.
* **Labelled from birth.** Whatever is created carries `Instance.labels()` in the same step that
  creates it, so `observe` finds it even if the call dies in the next instruction.
* **Never somebody else's.** Nothing without our labels, and nothing of another
  `Instance.environment`, is changed or removed; only `prune` takes what nobody uses.
* **An outcome is a type.** Return, or raise one of `sandboxer.errors`: `Waiting` (under way),
  `TransientError` (try again), `UnreachableError` (the backend did not answer: outcome unknown),
  `TerminalError` (a person must act), `InvalidSpecError` (the manifest must change). Anything else
  is a bug and is treated as transient.
* **Exit codes lie.** Judge by what `observe` sees, not by what a tool returned.
* **Hostile input.** Inputs, repositories and everything a host prints are somebody else's text:
  arguments are passed as lists, never pasted into a shell line.

Register the class in the entry point group `sandboxer.extensions` under its `name`, run
`sandboxer.testing.conformance` against it, and read `docs/extension-sdk.md` for a walk-through.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, SecretStr

from sandboxer.errors import InvalidSpecError
from sandboxer.kinds.host import Host, HostFacts, HostSpec
from sandboxer.kinds.meta import GROUP
from sandboxer.kinds.sandbox import (
    Difference,
    IsolationLevel,
    IsolationSeen,
    Reachability,
    Resources,
    ResourceSeen,
)
from sandboxer.session import Connection, Session, Streams

LABEL_UID = f"{GROUP}/uid"
LABEL_ENVIRONMENT = f"{GROUP}/environment"
LABEL_NAMESPACE = f"{GROUP}/namespace"
LABEL_NAME = f"{GROUP}/name"
LABEL_SPEC_HASH = f"{GROUP}/spec-hash"
LABEL_EXTENSION = f"{GROUP}/extension"
LABEL_OWNER = f"{GROUP}/owner"
LABEL_EXPIRES_AT = f"{GROUP}/expires-at"

Capability = Literal["suspend", "exec", "logs", "forward", "watch", "prune", "removal"]

State = Literal["Absent", "Incomplete", "Starting", "Running", "Suspended", "Stopped"]
"""
What is there of one sandbox, as the extension judges it.

Absent      nothing at all carries its uid
Incomplete  something is there, something wanted is missing
Starting    everything wanted runs, a health check has not passed yet
Running     everything wanted runs and every health check passes
Suspended   it was suspended by `suspend`, and is whole
Stopped     everything wanted is there, something of it does not run
"""


class Inputs(BaseModel):
    """Base of an extension's inputs model: strict types, unknown inputs refused, names as written."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PortLease:
    """One port of the sandbox and the loopback port of the host that was leased for it."""

    name: str
    container_port: int
    host_port: int
    service: str = ""
    """Compose service, empty when the sandbox has one only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """Everything an extension is told about one sandbox; two equal instances want the same state."""

    uid: str
    """Identity; a UUID. Resources are named `sbx-<first 12 hex digits>`, see `short_id`."""
    namespace: str
    name: str
    environment: str
    """Which sandboxer installation owns it; two may share a host."""
    extension: str
    """Name the extension is registered under."""
    spec_hash: str
    """Changes whenever anything below changes in a way the backend must follow; 16 hex digits."""
    inputs: Inputs
    """Validated by the extension's own `inputs_model`, profile defaults merged in."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Plain environment of the sandbox's processes."""
    secrets: Mapping[str, SecretStr] = field(default_factory=dict)
    """Environment that must not appear in arguments, labels, logs, files readable by others."""
    resources: Resources = field(default_factory=Resources)
    """Upper limits; say in `IsolationSeen.detail` which are not enforced."""
    ports: tuple[PortLease, ...] = ()
    """Ports to publish on 127.0.0.1 of the host."""
    owner: str = "adm"
    """Actor type and project, `adm` or `agt.glas-harness`."""
    expires_at: datetime | None = None
    handle: Mapping[str, str] = field(default_factory=dict)
    """What `provision` returned last; empty before that, also when its answer was lost."""
    manifest: str = ""
    """
    One line of JSON, at most 16 KiB, from which the sandbox's object can be rebuilt.

    `provision` keeps it as it is, readable for nobody else (0600), in the same step that makes the
    first thing, and replaces what it kept before, also by nothing. It goes with the rest.
    """

    @property
    def short_id(self) -> str:
        """Name for resources: `sbx-` and the first 12 hex digits of the uid."""
        return short_id(self.uid)

    def labels(self) -> dict[str, str]:
        """Return the labels every resource carries from birth; values are valid label values."""
        labels = {
            LABEL_UID: self.uid,
            LABEL_ENVIRONMENT: self.environment,
            LABEL_NAMESPACE: self.namespace,
            LABEL_NAME: self.name,
            LABEL_SPEC_HASH: self.spec_hash,
            LABEL_EXTENSION: self.extension,
            LABEL_OWNER: self.owner,
        }
        if self.expires_at is not None:
            labels[LABEL_EXPIRES_AT] = self.expires_at.strftime("%Y-%m-%dT%H.%M.%SZ")
        return labels


def short_id(uid: str) -> str:
    """Return what the resources of a sandbox are named: `sbx-` and the first 12 digits of its uid."""
    return f"sbx-{uid.replace('-', '')[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned:
    """What `provision` reports; stored in the sandbox's status."""

    handle: Mapping[str, str] = field(default_factory=dict)
    """Notes for later calls; no secrets. `teardown` and `reap` must manage without it."""
    reachability: Reachability = field(default_factory=Reachability)
    isolation: IsolationSeen = field(default_factory=IsolationSeen)
    """What is really enforced, not what was wished."""
    message: str = ""
    """Anything a person should know, as a sentence (`the limit on pids is not enforced here`)."""
    lost: tuple[Difference, ...] = ()
    """What held data and had to be made anew, also where no look has told it as drift."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What there is of one sandbox on one backend."""

    uid: str
    state: State
    spec_hash: str = ""
    """Hash all of its resources carry; empty when they carry none or different ones."""
    resources: tuple[ResourceSeen, ...] = ()
    """In a stable order."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels read back, so that an owner can be found after the store is lost."""
    message: str = ""
    """Evidence in one sentence: which service is missing, which exit code, which check fails."""
    drift: tuple[Difference, ...] = ()
    """What is not as `provision` left it, in a stable order; also where *state* stays `Running`."""
    manifest: str = field(default="", compare=False, repr=False)
    """`Instance.manifest` as it was kept; read back only when one uid is asked for."""


def absent(uid: str) -> Observation:
    """Return the observation of a sandbox of which nothing is there."""
    return Observation(uid=uid, state="Absent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An extension's answer to "could you run this here?"."""

    fits: bool
    reason: str
    """Why, or why not, as a sentence for a person."""
    isolation: IsolationLevel = "none"
    """What would be reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """How much room is wanted on a host's disk, and what must stay."""

    free_bytes: int
    """To be free on the file system of `HostFacts.engine_store`; no more is removed than that takes."""
    keep_images: tuple[str, ...] = ()
    """Names and patterns, as in `Host.spec.disk.keepImages`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What `prune` has done."""

    removed: tuple[str, ...] = ()
    """Names of what was removed, else ids; in the order it went."""
    kept: int = 0
    """How many the backend refused to remove."""
    freed_bytes: int = 0
    """As measured on the file system, not as the backend claims: parts may be shared."""


class Extension(ABC):
    """A backend. Instances are made once per process, without arguments, and hold no state."""

    name: ClassVar[str]
    """Registered name, for example `ext.local`."""
    capabilities: ClassVar[frozenset[Capability]] = frozenset()
    """Optional methods that are implemented."""
    inputs_model: ClassVar[type[Inputs]] = Inputs
    """Inputs it takes; its JSON schema is published."""

    @abstractmethod
    def offer(self, host: Host, inputs: Inputs) -> Offer:
        """
        Say whether a sandbox with these inputs could run on *host*.

        `host.spec` is what its owner wrote, `host.status.facts` what the last probe found; a host
        that was never probed has empty facts and is not asked about.

        Pure and quick; called for every candidate host while routing.
        """

    def host_name(self, inputs: Inputs) -> str:
        """
        Return the name of the one Host these inputs name; empty, as here, means any that fits.

        Pure but for files of the operator; called with every pass.

        Raises:
            InvalidSpecError: They name what may not be reached.
        """
        del inputs
        return ""

    def find_host(self, inputs: Inputs) -> HostSpec:
        """
        Describe the machine called `host_name`, of which there is no Host yet; it is created.

        Raises:
            InvalidSpecError: Nobody knows such a machine.
        """
        raise InvalidSpecError(
            f"There is no host {self.host_name(inputs)}.", remedy="Apply a Host document."
        )

    @abstractmethod
    async def provision(self, session: Session, instance: Instance) -> Provisioned:
        """
        Make what is there equal to *instance*: create, complete, repair or update.

        Called after the intention has been stored; again after any failure, any crash, any drift
        and any change of the spec. May take minutes; must not wait for readiness. An instance
        whose processes were stopped or removed behind our back is started again, and what
        `observe` tells as drift is as wished afterwards.

        Raises:
            InvalidSpecError: The inputs name something that cannot be (a file that is not there).
            TerminalError: The host lacks something a person must install; the remedy says what.
            TransientError: It may work later.
        """

    @abstractmethod
    async def wait_ready(self, session: Session, instance: Instance) -> None:
        """
        Return when every readiness condition holds now; otherwise raise `Waiting`.

        Called repeatedly after `provision` until it returns, and whenever `observe` says
        `Starting`. It looks once, drives health checks the backend does not run by itself, and
        never blocks for longer than one check takes.
        """

    @abstractmethod
    async def observe(
        self, session: Session, environment: str, uid: str = ""
    ) -> Sequence[Observation]:
        """
        Return what is there: of one sandbox, or (empty *uid*) of all of this environment.

        An empty *environment* asks for all of every installation, each told apart by its labels:
        only `sandboxer adopt` does so, whose own store was lost.

        Called once per host and probe interval whatever the number of sandboxes, and with a *uid*
        after each action. It changes nothing (driving health checks aside). What left the state
        that `provision` made by itself is told in `Observation.drift`. A sandbox of which
        nothing is there is left out. An answer that cannot be trusted is an error, never an empty
        list: "not listed" is read as "gone".
        """

    @abstractmethod
    async def teardown(self, session: Session, instance: Instance) -> None:
        """
        Remove everything that carries this sandbox's uid, workspace included.

        Called until `observe` no longer lists the uid. Absent is success. Takes seconds: no grace
        period for processes unless the inputs ask for one.
        """

    @abstractmethod
    async def reap(self, session: Session, environment: str, uid: str) -> None:
        """
        Remove everything that carries this uid, knowing nothing else about it.

        Called for orphans, whose manifest is lost. Absent is success. Refuses, with a
        `TerminalError`, what carries the label but belongs to another environment.
        """

    def removal(self, facts: HostFacts, instance: Instance) -> Sequence[str]:
        """
        Return a command that does on the host what `reap` does; needs capability `removal`.

        It is written down there beforehand, and run by the login user when the sandbox has expired
        and no controller is left (`docs/dead-mans-switch.md`): program and arguments, nothing to read
        on standard input, exit status 0 only once nothing is left. Whatever it waits for, it waits
        for at most five minutes; another status has it run again. Empty means that it is not
        possible for this sandbox. Pure; called with every pass.
        """
        raise NotImplementedError

    async def recall(self, session: Session, instance: Instance) -> Provisioned:
        """
        Say what `provision` said, of something that it made and that runs; change nothing.

        Called once for a sandbox that was adopted: what `provision` said was lost with the store.
        An extension that has nothing to say of a sandbox need not implement it.
        """
        del session, instance
        return Provisioned()

    async def suspend(self, session: Session, instance: Instance) -> None:
        """Stop the processes, keep workspace and volumes; needs capability `suspend`."""
        raise NotImplementedError

    async def resume(self, session: Session, instance: Instance) -> None:
        """Undo `suspend`; needs capability `suspend`."""
        raise NotImplementedError

    async def exec(
        self, session: Session, instance: Instance, argv: Sequence[str], streams: Streams,
        *, container: str = "",
    ) -> int:  # fmt: skip
        """
        Run a command inside the sandbox and return its exit status; needs capability `exec`.

        A call that is cancelled takes the command with it, children included: whoever asked for
        it has gone. A command that ended by itself leaves what it put into the background alone.

        Args:
            session: Where it runs.
            instance: Which sandbox.
            argv: Program and arguments, given to the program exactly as they are.
            streams: Input, output, terminal.
            container: Compose service; empty means the first one.
        """
        raise NotImplementedError

    async def logs(
        self, session: Session, instance: Instance, streams: Streams,
        *, container: str = "", follow: bool = False, tail: int | None = None,
    ) -> None:  # fmt: skip
        """Write what the sandbox printed to `streams.stdout`; needs capability `logs`."""
        raise NotImplementedError

    async def forward(
        self, session: Session, instance: Instance, port: int, *, container: str = ""
    ) -> Connection:
        """
        Connect to a TCP port of a program inside the sandbox; needs capability `forward`.

        Args:
            session: Where it runs.
            instance: Which sandbox.
            port: Port the program inside listens on; it need not be in `Instance.ports`.
            container: Compose service; empty means the first one.

        Raises:
            NotFoundError: There is no such container.
            TransientError: Nothing listens there now.
            TerminalError: There is no way to it; the remedy says what would make one.
        """
        raise NotImplementedError

    async def prune(self, session: Session, pruning: Pruning) -> Pruned:
        """
        Remove from a host what can be fetched again and nobody uses; needs capability `prune`.

        Called on a host whose owner asked for it, while its disk is full, every few minutes at
        most. Removed is only what no container of anybody uses, running or not, and what no
        sandbox there names, of whatever installation; never a container, a volume, a workspace, or
        anything that carries our labels. The backend must refuse by itself what has come into use
        since it was asked: nothing is forced. Takes at most two minutes.

        Raises:
            UnreachableError: The host does not answer.
            TransientError: The backend cannot say what is used; nothing was removed.
        """
        raise NotImplementedError

    def watch(self, session: Session, environment: str) -> AsyncIterator[str]:
        """
        Yield the uid of a sandbox whenever its observation may have changed; needs `watch`.

        Where what changed carries no label, its short id (`Instance.short_id`) does as well.
        Only a hint: the engine observes again. Ends with `UnreachableError` when the stream
        breaks; the next probe finds what was missed.
        """
        raise NotImplementedError
