"""Everything the store and the loaded extensions say about one sandbox, gathered for one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sandboxer.engine.desired import bare_instance, build_instance, resolve
from sandboxer.engine.leaving import Leave, leave_of
from sandboxer.engine.plan import ISOLATION_TOO_WEAK, Situation, Wanted, was_acted_on
from sandboxer.engine.switch.guard import Guard, guard_of
from sandboxer.errors import InvalidSpecError, TerminalError, TransientError
from sandboxer.extension import Extension, Instance, Observation
from sandboxer.kinds.host import Host
from sandboxer.kinds.profile import Profile
from sandboxer.kinds.sandbox import Sandbox, SandboxStatus
from sandboxer.routing import Choice, NoFit, Wish, isolation_objection, placement_objection
from sandboxer.store import Store

CANNOT_OBSERVE = "CannotObserve"
"""Reason of a Host's condition Ready: it answers, and an extension cannot see what is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One sandbox with what belongs to it; `known_…` are for steps that are planned only then."""

    sandbox: Sandbox
    wish: Wish | InvalidSpecError
    """What is asked for, or why that cannot be said."""
    host: Host | None
    """Where it was placed, while that Host exists."""
    extension: Extension | None
    """By what it was placed, while that extension is loaded."""
    told: Instance | InvalidSpecError | None
    """What the extension is told; None as long as nothing is chosen."""
    elsewhere: Choice | NoFit | None = None
    """Another place, or why there is none, of a sandbox whose host is to be left."""
    is_silent: bool = False
    """Whether this process has asked its host, and it did not answer."""
    boot_id: str = ""
    """Boot its host is in, as the newest probe found; empty before the first."""
    fired_at: datetime | None = None
    """When its host took it away by itself, where nobody has said so yet."""
    is_switch_lost: bool = False
    """Whether its host has lost its dead-man's switch."""

    @classmethod
    def of(cls, sandbox: Sandbox, *, store: Store, extensions: Mapping[str, Extension]) -> Sight:
        """Gather what belongs to *sandbox*; reads memory only."""
        status = sandbox.status
        extension = extensions.get(status.extension)
        host = store.get(Host, status.host) if status.host else None
        wish: Wish | InvalidSpecError
        told: Instance | InvalidSpecError | None = None
        try:
            wish = resolve(sandbox, store.get(Profile, sandbox.spec.profile), extensions)
        except InvalidSpecError as error:
            wish = told = error
        else:
            if extension is not None and not placement_objection(wish, extension.name, host):
                told = _told(sandbox, wish, extension=extension, environment=store.environment)
        if extension is not None and (told is None or isinstance(told, InvalidSpecError)):
            # What is there can be taken away even when the document makes no sense any more.
            bare = bare_instance(sandbox, extension=extension, environment=store.environment)
            told = told if isinstance(told, InvalidSpecError) and not _is_going(sandbox) else bare
        return cls(sandbox=sandbox, wish=wish, host=host, extension=extension, told=told)

    @property
    def is_to_leave(self) -> bool:
        """Tell whether its host is to be left, and it does not go anyway."""
        return self._leave() is not None and not _is_going(self.sandbox)

    @property
    def known_wish(self) -> Wish:
        """The wish, of a sandbox that was accepted."""
        assert isinstance(self.wish, Wish)
        return self.wish

    @property
    def known_host(self) -> Host:
        """The host of a sandbox that was placed."""
        assert self.host is not None
        return self.host

    @property
    def known_extension(self) -> Extension:
        """
        The extension of a sandbox that was placed.

        Raises:
            TerminalError: It is not loaded any more.
        """
        if self.extension is None:
            raise TerminalError(
                f"{self.sandbox.key} runs by {self.sandbox.status.extension}, which is not loaded.",
                reason="ExtensionMissing",
                remedy="Install the package that provides it and restart the controller.",
            )
        return self.extension

    @property
    def instance(self) -> Instance:
        """What the extension is told, without the values of secrets."""
        assert isinstance(self.told, Instance)
        return self.told

    @property
    def guard(self) -> Guard | None:
        """How its host is to take it away at its end without a controller; None is not at all."""
        if self.extension is None or self.host is None or not isinstance(self.told, Instance):
            return None
        lease_s = self.wish.switch_lease_s if isinstance(self.wish, Wish) else None
        return guard_of(lease_s, self.told, extension=self.extension, host=self.host)

    @property
    def is_new_here(self) -> bool:
        """Tell whether it was just placed on a host that answers, so nobody looked for it yet."""
        return (
            not was_acted_on(self.sandbox)
            and self.host is not None
            and self.host.status.is_true("Reachable")
        )

    def dated(self, status: SandboxStatus) -> SandboxStatus:
        """Return a status that says everything is as wished, with the boot its host is in."""
        return status.model_copy(update={"boot_id": self.boot_id or status.boot_id})

    def situation(
        self, observation: Observation | None, *, now: datetime, unknown: str = ""
    ) -> Situation:
        """
        Return what the planner judges by.

        Args:
            observation: What is there, None when that is not known.
            now: Wall-clock time.
            unknown: Why it is not known, as a sentence.
        """
        reason, message = self._ignorance(unknown)
        return Situation(
            sandbox=self.sandbox,
            now=now,
            wanted=self._wanted(),
            observation=observation,
            unknown_reason=reason,
            unknown_message=message,
            leave=self._leave(),
            boot_id=self.boot_id,
            fired_at=self.fired_at,
            is_switch_lost=self.is_switch_lost,
        )

    def _leave(self) -> Leave | None:
        if self.host is None or self.host.spec.drain == "Keep":
            return None
        return leave_of(self.host, self.elsewhere, is_silent=self.is_silent)

    def _wanted(self) -> Wanted | InvalidSpecError:
        if isinstance(self.wish, InvalidSpecError):
            return self.wish
        if isinstance(self.told, InvalidSpecError):
            return self.told
        status = self.sandbox.status
        weakness = isolation_objection(self.wish, status.isolation)
        if weakness and status.spec_hash:
            return InvalidSpecError(
                f"{weakness} What runs is left as it is.",
                field="spec.isolation.minimum",
                reason=ISOLATION_TOO_WEAK,
                remedy="Or delete the sandbox and create it again.",
            )
        return Wanted(
            spec_hash=self.told.spec_hash if self.told is not None else "",
            expires_at=self.wish.expires_at,
            guard=self.guard,
            placement_objection=self._placement_objection(self.wish),
            isolation_objection=weakness,
        )

    def _placement_objection(self, wish: Wish) -> str:
        placed_by, host = self.sandbox.status.extension, self.sandbox.status.host
        if not placed_by:
            return ""
        if self.host is None and not was_acted_on(self.sandbox):
            return f"Host {host} went before anything was made there."
        return placement_objection(wish, placed_by, self.host)

    def _ignorance(self, unknown: str) -> tuple[str, str]:
        status = self.sandbox.status
        if self.extension is None:
            return "ExtensionMissing", (
                f"Extension {status.extension} is not loaded. Install the package that provides "
                "it and restart the controller."
            )
        if self.host is None:
            return "HostMissing", f"There is no Host {status.host} any more; apply it again."
        reachable = self.host.status.condition("Reachable")
        if reachable is not None and reachable.status == "False":
            return reachable.reason, reachable.message
        ready = self.host.status.condition("Ready")
        if ready is not None and ready.reason == CANNOT_OBSERVE:
            return ready.reason, ready.message
        return "NotObserved", unknown or f"Host {status.host} was not looked at yet."


def _told(
    sandbox: Sandbox, wish: Wish, *, extension: Extension, environment: str
) -> Instance | InvalidSpecError:
    status = sandbox.status
    if wish.suspended and "suspend" not in extension.capabilities:
        return InvalidSpecError(
            f"{sandbox.key} is to be suspended, and {extension.name} cannot do that.",
            field="spec.operatingMode",
            reason="CannotSuspend",
            remedy="Set spec.operatingMode to Running, or place it by another extension.",
        )
    try:
        return build_instance(
            sandbox, wish, extension=extension.name, ports=status.ports, environment=environment
        )
    except InvalidSpecError as error:
        return error


def _is_going(sandbox: Sandbox) -> bool:
    return sandbox.metadata.deletion_timestamp is not None


def require(seen: Observation, *states: str, spec_hash: str | None = None) -> None:
    """
    Check that a look shows what an action was to bring about.

    Raises:
        TransientError: It is in none of *states*, or made by another spec hash.
    """
    if seen.state not in states or spec_hash not in (None, seen.spec_hash):
        raise TransientError(
            f"Afterwards it is {seen.state} instead of {' or '.join(states)}. {seen.message}",
            reason="NotAsWished",
        )
