"""
A backend in memory: the contract without a machine, and with faults on demand.

`FakeWorld` is what exists; it outlives extensions and controllers as real resources do.
`FakeExtension` works on it by the contract's law. `FakeObserver` looks at it directly, for tests
of the engine that are not about telemetry.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from sandboxer.errors import TerminalError, UnreachableError, Waiting
from sandboxer.extension import (
    LABEL_ENVIRONMENT,
    Capability,
    Extension,
    Inputs,
    Instance,
    Observation,
    Offer,
    Provisioned,
    State,
    absent,
)
from sandboxer.kinds.host import Host, HostFacts, HostLoad
from sandboxer.kinds.sandbox import IsolationSeen, Reachability, ResourceSeen
from sandboxer.session import Completed, Session

FAKE_EXTENSION = "ext.fake"
"""Name `FakeExtension` has when nobody gives it another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """What exists of one sandbox on one host."""

    state: State
    spec_hash: str
    labels: Mapping[str, str]
    manifest: str = ""


@dataclass
class FakeWorld:
    """Everything that exists, and what goes wrong."""

    things: dict[tuple[str, str], Thing] = field(default_factory=dict)
    """By host name and uid."""
    cut: set[str] = field(default_factory=set)
    """Names of hosts that do not answer."""
    boots: dict[str, str] = field(default_factory=dict)
    """Boot id by name of a host; `1` where none is given. All hosts have their own host name."""
    faults: dict[tuple[str, str], list[BaseException]] = field(default_factory=dict)
    """By moment (`before` or `after` the effect) and method: raised once each, in order."""
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, host and uid of every changing call that reached the backend, in order."""
    checks_needed: int = 0
    """How often `wait_ready` says `Waiting` before a new thing is ready."""
    starts_as: State = "Starting"
    """State of a new thing."""
    pause: Callable[[str], Awaitable[None]] | None = None
    """Awaited with the name of the method before and after its effect, for tests that stop there."""
    checks: dict[str, int] = field(default_factory=dict)
    """Readiness checks made so far, by uid."""

    def change(self, uid: str, state: State) -> None:
        """Change a thing behind the controller's back; `Absent` removes it."""
        for key, thing in list(self.things.items()):
            if key[1] == uid and state == "Absent":
                del self.things[key]
            elif key[1] == uid:
                self.things[key] = replace(thing, state=state)

    def fail(self, method: str, error: BaseException, *, moment: str = "before") -> None:
        """Let the next call of *method* raise, before or after its effect."""
        self.faults.setdefault((moment, method), []).append(error)

    def raise_fault(self, moment: str, method: str) -> None:
        """Raise what is due at this moment."""
        due = self.faults.get((moment, method))
        if due:
            raise due.pop(0)

    def reach(self, host: str) -> None:
        """Raise UnreachableError when the host is cut off."""
        if host in self.cut:
            raise UnreachableError(f"Host {host} does not answer.")

    def facts(self, host: str) -> HostFacts:
        """Return what a host is."""
        return HostFacts(boot_id=self.boots.get(host, "1"), work_root="/fake", hostname=host)

    def observe(self, host: str, uid: str) -> Observation:
        """Return what is there of one sandbox."""
        thing = self.things.get((host, uid))
        if thing is None:
            return absent(uid)
        return Observation(
            uid=uid,
            state=thing.state,
            spec_hash=thing.spec_hash,
            resources=(ResourceSeen(kind="process", name=f"p-{uid[:8]}", state=thing.state),),
            labels=thing.labels,
            message="" if thing.state == "Running" else f"The process is {thing.state}.",
            manifest=thing.manifest,
        )


class FakeInputs(Inputs):
    """Inputs of the fake backend."""

    command: str = "sleep"
    """What would run."""
    repo: str = ""
    """What would be copied."""


class FakeExtension(Extension):
    """The contract, in memory."""

    name: ClassVar[str] = FAKE_EXTENSION
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"suspend"})
    inputs_model: ClassVar[type[Inputs]] = FakeInputs

    def __init__(self, world: FakeWorld) -> None:
        self.world = world

    def offer(self, host: Host, inputs: Inputs) -> Offer:  # noqa: ARG002 - the contract's name
        """Accept every host that is not labelled otherwise."""
        fits = host.metadata.labels.get("fake") != "refuse"
        reason = "it runs in memory." if fits else "the label says no."
        return Offer(fits=fits, reason=reason, isolation="namespace")

    async def provision(self, session: Session, instance: Instance) -> Provisioned:
        """Make the thing, or make it what it is wished to be."""
        key = (session.host, instance.uid)
        await self._enter("provision", session, instance.uid)
        if self.world.things.get(key, None) is None or not self._whole(key, instance):
            self.world.things[key] = Thing(
                state=self.world.starts_as,
                spec_hash=instance.spec_hash,
                labels=instance.labels(),
            )
            self.world.checks[instance.uid] = 0
        thing = self.world.things[key]
        self.world.things[key] = replace(thing, manifest=instance.manifest)
        await self._leave("provision")
        return await self.recall(session, instance)

    async def recall(self, session: Session, instance: Instance) -> Provisioned:
        """Say what `provision` said."""
        return Provisioned(
            handle={"host": session.host},
            reachability=Reachability(ports={p.name: p.host_port for p in instance.ports}),
            isolation=IsolationSeen(level="namespace", detail="Nothing runs."),
        )

    async def wait_ready(self, session: Session, instance: Instance) -> None:
        """Count the checks until there were enough."""
        await self._enter("wait_ready", session, instance.uid, changing=False)
        checks = self.world.checks.get(instance.uid, 0)
        if checks < self.world.checks_needed:
            self.world.checks[instance.uid] = checks + 1
            raise Waiting("The check has not passed yet.", retry_after_s=0.01, reason="CheckFails")
        if self.world.observe(session.host, instance.uid).state == "Starting":
            self.world.change(instance.uid, "Running")
        await self._leave("wait_ready")

    async def observe(
        self, session: Session, environment: str, uid: str = ""
    ) -> Sequence[Observation]:
        """Return what is there."""
        self.world.reach(session.host)
        return [
            self.world.observe(host, found)
            for (host, found), thing in self.world.things.items()
            if host == session.host
            and uid in ("", found)
            and environment in ("", thing.labels.get(LABEL_ENVIRONMENT))
        ]

    async def teardown(self, session: Session, instance: Instance) -> None:
        """Remove the thing."""
        await self._enter("teardown", session, instance.uid)
        self.world.things.pop((session.host, instance.uid), None)
        await self._leave("teardown")

    async def reap(self, session: Session, environment: str, uid: str) -> None:
        """Remove the thing, unless it is of another environment."""
        await self._enter("reap", session, uid)
        thing = self.world.things.get((session.host, uid))
        if thing is not None and thing.labels.get(LABEL_ENVIRONMENT) != environment:
            raise TerminalError(f"{uid} belongs to another environment.", reason="NotOurs")
        self.world.things.pop((session.host, uid), None)

    async def suspend(self, session: Session, instance: Instance) -> None:
        """Put the thing to rest."""
        await self._enter("suspend", session, instance.uid)
        self.world.change(instance.uid, "Suspended")
        await self._leave("suspend")

    async def resume(self, session: Session, instance: Instance) -> None:
        """Let the thing run again."""
        await self._enter("resume", session, instance.uid)
        if self.world.observe(session.host, instance.uid).state == "Suspended":
            self.world.change(instance.uid, "Running")
        await self._leave("resume")

    def _whole(self, key: tuple[str, str], instance: Instance) -> bool:
        thing = self.world.things[key]
        return thing.spec_hash == instance.spec_hash and thing.state in ("Starting", "Running")

    async def _enter(
        self, method: str, session: Session, uid: str, *, changing: bool = True
    ) -> None:
        self.world.reach(session.host)
        if self.world.pause is not None:
            await self.world.pause(method)
        self.world.raise_fault("before", method)
        if changing:
            self.world.calls.append((method, session.host, uid))

    async def _leave(self, method: str) -> None:
        if self.world.pause is not None:
            await self.world.pause(method)
        self.world.raise_fault("after", method)


@dataclass(frozen=True, slots=True)
class FakeSession:
    """A session that knows where it is; a script finds nothing there, and nothing else can be run."""

    host: str
    target: str = ""
    facts: HostFacts = field(default_factory=HostFacts)

    async def script(self, *_: str, **__: Any) -> Completed:
        """Say nothing, as on a machine that has nothing of ours."""
        return Completed(exit_status=0, stdout=b"", stderr=b"")

    def __getattr__(self, name: str) -> Any:
        """Refuse everything else."""
        raise NotImplementedError(f"a fake session has no {name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeView:
    """What is known of one sandbox."""

    observation: Observation | None
    unknown_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeReport:
    """What a probe of a fake host finds."""

    facts: HostFacts = field(default_factory=lambda: HostFacts(boot_id="1", work_root="/fake"))
    load: HostLoad = field(default_factory=HostLoad)
    round_trip_ms: float = 1.0
    host_key: str = ""
    resources: int = 0
    problems: Mapping[str, str] = field(default_factory=dict)


class FakeObserver:
    """
    Sees a `FakeWorld` as telemetry would, without a memory: every view is a fresh look.

    Args:
        world: What there is to see.
    """

    def __init__(self, world: FakeWorld) -> None:
        self.world = world
        self.probes = 0
        self.on_change: Callable[[str, Collection[str], str], None] | None = None

    def view(self, _extension: str, host_name: str, uid: str) -> FakeView:
        """Return what is there, unless the host is cut off."""
        if host_name in self.world.cut:
            return FakeView(observation=None, unknown_reason=f"Host {host_name} is cut off.")
        return FakeView(observation=self.world.observe(host_name, uid))

    def boot_id(self, host_name: str) -> str:
        """Return the boot a host is in; none of what is no host."""
        return self.world.facts(host_name).boot_id if host_name else ""

    def listed(self, _extension: str, host_name: str) -> Collection[Observation] | None:
        """Return everything there, unless the host is cut off."""
        return None if host_name in self.world.cut else self._all(host_name)

    async def survey(
        self,
        _extension: str,
        host: Host,
        environment: str | None = None,
        uid: str = "",
    ) -> Collection[Observation]:
        """Return everything there, or one."""
        self.world.reach(host.metadata.name)
        return [
            each
            for each in self._all(host.metadata.name)
            if uid in ("", each.uid)
            and (not environment or each.labels.get(LABEL_ENVIRONMENT) == environment)
        ]

    def _all(self, host_name: str) -> list[Observation]:
        uids = [uid for name, uid in self.world.things if name == host_name]
        return [self.world.observe(host_name, uid) for uid in uids]

    async def refresh(self, _extension: str, host: Host, uid: str) -> Observation:
        """Look at one sandbox."""
        self.world.reach(host.metadata.name)
        self.world.raise_fault("before", "refresh")
        return self.world.observe(host.metadata.name, uid)

    async def session(self, host: Host) -> Session:
        """Return a session that names the host."""
        self.world.reach(host.metadata.name)
        return FakeSession(host.metadata.name, facts=self.world.facts(host.metadata.name))

    async def probe(
        self,
        host: Host,
        *,
        extensions: Collection[str],  # noqa: ARG002 - telemetry's name
    ) -> FakeReport:
        """Answer, unless the host is cut off."""
        self.probes += 1
        self.world.reach(host.metadata.name)
        return FakeReport(facts=self.world.facts(host.metadata.name))

    async def forget(self, host_name: str) -> None:
        """Keep nothing, as ever."""

    def notice(self, host_name: str, *uids: str) -> None:
        """Say that these sandboxes changed, as telemetry does after a probe."""
        if self.on_change is not None:
            self.on_change(host_name, uids, "probe")
