"""
One pass over one sandbox: observe, plan, act, record. This is the whole loop.

`Reconciler.reconcile` does at most one effect and returns; the queue brings the key back. It never
sleeps, never retries and never decides about delays: what it raises tells the worker.

Design notes:

* **The intention comes first.** Before an extension is asked for anything, status says so, in a
  compare-and-set against the store. That write is also the check before every destructive act: had
  the sandbox's uid, generation or deletion changed since this pass read it, the write conflicts.
* **Dying is normal.** After each `await` the process may be gone. What was begun is in the
  intention, what exists carries the uid, and the same step is planned again.
* **Seeing is believing.** An action counts when a look at the backend shows its effect. Steps that
  follow from something missing are planned a second time on a fresh look, because a view from
  memory may be older than what another process did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace

from sandboxer.clock import Clock
from sandboxer.engine import lifetime, placing, record
from sandboxer.engine.adopted import recalled
from sandboxer.engine.breaker import Breakers, Way
from sandboxer.engine.copies import host_of_copy, makes_from_nothing
from sandboxer.engine.desired import with_secrets
from sandboxer.engine.journal import Journal
from sandboxer.engine.leasing import Leasing
from sandboxer.engine.leaving import HOST_GIVEN_UP
from sandboxer.engine.manifest import NOT_KEPT, manifest_of
from sandboxer.engine.newhosts import NewHosts
from sandboxer.engine.observer import Observer
from sandboxer.engine.outcome import Done
from sandboxer.engine.plan import Situation, Step, next_step, was_acted_on
from sandboxer.engine.sight import Sight, require
from sandboxer.engine.switch import (
    DEAD_MANS_SWITCH,
    Guard,
    Switches,
    fired,
    guarded,
    unguarded,
)
from sandboxer.errors import SandboxerError, TransientError, Waiting
from sandboxer.extension import Extension, Instance, Observation
from sandboxer.kinds.meta import FINALIZER, Key
from sandboxer.kinds.sandbox import Sandbox, SandboxStatus
from sandboxer.routing import Choice, NoFit, isolation_objection
from sandboxer.store import Cause, Store

# Seconds an extension may take for one action. Generous: it covers a pull of several GB; it only
# has to end a call that would hang for ever.
ACTION_LIMIT_S = 1800.0

# Seconds for one readiness check, which looks once.
CHECK_LIMIT_S = 120.0

# Steps that follow from what is *not* there; see "Seeing is believing".
JUDGED_BY_SIGHT = frozenset({"Repair", "Report", "Route", "Forget"})


@dataclass(kw_only=True)
class Reconciler:
    """Brings one sandbox at a time nearer to its document."""

    store: Store
    observer: Observer
    extensions: Mapping[str, Extension]
    leasing: Leasing
    new_hosts: NewHosts
    breakers: Breakers
    silent: Collection[str]
    """Names of hosts that this process has asked and that did not answer."""
    switches: Switches
    journal: Journal
    clock: Clock

    async def reconcile(self, key: Key) -> Done:
        """
        Do the one step that is due for a sandbox.

        Raises:
            SandboxerError: The step failed; it is recorded, and planned again when it comes back.
            Waiting: What was asked for is under way.
        """
        sandbox = self.store.get(Sandbox, key.name, key.namespace)
        if sandbox is None:
            return Done()
        sight = self._sight(sandbox)
        async with self.journal.recording(sandbox, "Observe"):
            situation = await self._observe(sight)
            step = next_step(situation)
            if step.name in JUDGED_BY_SIGHT and situation.observation is not None:
                seen, sight = await self._look(sight), self._sight(sandbox)
                situation = sight.situation(seen, now=self.clock.now())
                step = next_step(situation)
            if _may_have_fired(situation):
                # What is gone may be so by its host's hand, which nobody was told yet.
                fired_at = await self.switches.ask_about(sight.known_host, sandbox)
                situation = replace(situation, fired_at=fired_at)
                step = next_step(situation)
            if makes_from_nothing(situation, step):
                copy_on = await host_of_copy(sight, self.store, self.observer)
                situation = replace(situation, copy_on=copy_on)
                step = next_step(situation)
        return await self._act(sight, situation, step)

    async def failed(self, key: Key, error: TransientError) -> None:
        """Record an error that nobody expected."""
        await self.journal.record_unexpected(key, error)

    def _sight(self, sandbox: Sandbox) -> Sight:
        sight = Sight.of(sandbox, store=self.store, extensions=self.extensions)
        elsewhere = self.leasing.elsewhere(sight) if sight.is_to_leave else None
        host = sandbox.status.host
        return replace(
            sight,
            elsewhere=elsewhere,
            is_silent=host in self.silent,
            boot_id=self.observer.boot_id(host),
            fired_at=self.switches.news_of(sandbox),
            is_switch_lost=self.switches.is_lost(sandbox),
        )

    async def _observe(self, sight: Sight) -> Situation:
        now = self.clock.now()
        if sight.host is None or sight.extension is None:
            return sight.situation(None, now=now)
        uid = sight.sandbox.metadata.uid
        view = self.observer.view(sight.extension.name, sight.host.metadata.name, uid)
        if view.observation is None and sight.is_new_here:
            # Nobody looked for it yet, and the next probe may be far.
            return sight.situation(await self._look(sight), now=now)
        return sight.situation(view.observation, now=now, unknown=view.unknown_reason)

    async def _act(  # noqa: PLR0911 - one return for each kind of step
        self, sight: Sight, situation: Situation, step: Step
    ) -> Done:
        match step.name:
            case "Admit":
                return await self._admit(sight)
            case "Route" | "Reserve":
                routes = step.name == "Route"
                return await (self._route(sight) if routes else self._reserve(sight, step))
            case "Provision" | "Repair":
                return await self._provision(sight, step, situation)
            case "WaitReady":
                return await self._wait_ready(sight)
            case "Recall" | "Guard":
                asks = step.name == "Recall"
                return await (self._recall(sight) if asks else self._guard(sight))
            case "Suspend" | "Resume":
                return await self._suspend_or_resume(sight, step)
            case "Teardown" | "Relocate":
                return await self._teardown(sight, step)
            case "Expire":
                return await self._expire(sight, step)
            case "Forget":
                return await self._forget(sight, step)
            case _:
                return await self._state(sight, situation, step)

    async def _admit(self, sight: Sight) -> Done:
        sandbox, wish = sight.sandbox, sight.known_wish
        if FINALIZER not in sandbox.metadata.finalizers:
            finalizers = (*sandbox.metadata.finalizers, FINALIZER)
            sandbox = await self.journal.set_finalizers(sandbox, finalizers)
        async with self.leasing.alone():
            async with self.journal.recording(sandbox, "Admit"):
                ports = self.leasing.ports(sight)
            status = placing.admitted(sandbox, wish, ports, self.clock.now())
            await self.journal.write(sandbox, status)
        return Done(after_s=0)

    async def _route(self, sight: Sight) -> Done:
        async with self.leasing.alone():
            sandbox, uid = sight.sandbox, sight.sandbox.metadata.uid
            choice = self.leasing.kept(sight) or self.leasing.choose(sight.known_wish, uid)
            if isinstance(choice, NoFit):
                async with self.journal.recording(sandbox, "Route"):
                    await self.new_hosts.make(sandbox, sight.known_wish)
                choice = self.leasing.choose(sight.known_wish, uid)
            if isinstance(choice, NoFit):
                status = placing.not_routed(sandbox, choice, self.clock.now())
                stored = await self.journal.write(sandbox, status)
                return self._done(stored, after_s=self.breakers.next_trial_s(uid))
            await self._enter(Way(choice.host, choice.extension), sandbox, sandbox)
            await self.journal.write(sandbox, placing.routed(sandbox, choice, self.clock.now()))
        return Done(after_s=0)

    async def _reserve(self, sight: Sight, step: Step) -> Done:
        async with self.leasing.alone():
            place = self.leasing.elsewhere(sight)
            if isinstance(place, Choice):
                status = placing.reserved(sight.sandbox, place, step, self.clock.now())
                await self.journal.write(sight.sandbox, status)
        return Done(after_s=0)

    async def _provision(self, sight: Sight, step: Step, situation: Situation) -> Done:
        sandbox, now = sight.sandbox, self.clock.now()
        if situation.observation is not None:
            status = record.noticed(sandbox, step, situation.observation, now)
            sandbox = sandbox.model_copy(update={"status": status})
        instance, way = sight.instance, _way(sight)
        await self._enter(way, sight.sandbox, sandbox)
        sandbox = await self._intend(sight, sandbox, "Provision", step)
        # Before there is anything to end; what cannot be armed holds nothing up.
        armed, _ = await self._guarded(sight, sandbox.status)
        sandbox = await self.journal.write(sandbox, armed)
        async with self.journal.recording(sandbox, "Provision"):
            told = self._told(instance, sandbox)
            with self.breakers.judging(way, instance.uid):
                session = await self.observer.session(sight.known_host)
                async with asyncio.timeout(ACTION_LIMIT_S):
                    result = await sight.known_extension.provision(session, told)
                seen = await self._look(sight)
            require(seen, "Starting", "Running", spec_hash=instance.spec_hash)
        if result.lost:
            # Told with the repair: it went between the look and the provision.
            gone = record.missed(sandbox, result.lost, "Data is gone.", self.clock.now())
            sandbox = sandbox.model_copy(update={"status": gone})
        if not told.manifest:
            result = replace(result, message=f"{result.message} {NOT_KEPT}".lstrip())
        objection = isolation_objection(sight.known_wish, result.isolation)
        if objection:
            status = record.too_weak(sandbox, result, objection, self.clock.now())
        else:
            status = record.provisioned(sandbox, result, instance.spec_hash, seen, self.clock.now())
        await self.journal.write(sandbox, sight.dated(status))
        return Done(after_s=0)

    async def _guard(self, sight: Sight) -> Done:
        status, failure = await self._guarded(sight, sight.sandbox.status)
        await self.journal.write(sight.sandbox, status)
        if failure is not None:
            raise failure
        return Done(after_s=0)

    async def _guarded(
        self, sight: Sight, before: SandboxStatus
    ) -> tuple[SandboxStatus, SandboxerError | None]:
        """Have its host know what to do at its end; return the status that says so, and what failed."""
        guard, switch, failure = sight.guard, before.dead_mans_switch, None
        if guard is None and switch is None and before.condition(DEAD_MANS_SWITCH) is None:
            return before, None
        try:
            switch = await self.switches.follow(sight.known_host, sight.instance, guard, switch)
        except SandboxerError as error:
            guard, failure = Guard(reason=error.reason, message=str(error)), error
        generation = sight.sandbox.metadata.generation
        return guarded(generation, before, guard, switch, self.clock.now()), failure

    async def _disarmed(self, sight: Sight, sandbox: Sandbox) -> Sandbox:
        """Return it without its switch; one that stays on its host removes what is gone already."""
        seen = sandbox.status.dead_mans_switch
        if seen is None and (sight.guard is None or not was_acted_on(sandbox)):
            return sandbox
        with suppress(SandboxerError):
            await self.switches.disarm(sight.known_host, [sandbox.metadata.uid], seen)
            return sandbox.model_copy(update={"status": unguarded(sandbox.status)})
        return sandbox

    async def _wait_ready(self, sight: Sight) -> Done:
        sandbox, timeout_s = sight.sandbox, sight.known_wish.ready_timeout_s
        async with self.journal.recording(sandbox, "WaitReady", ready_timeout_s=timeout_s):
            session = await self.observer.session(sight.known_host)
            async with asyncio.timeout(CHECK_LIMIT_S):
                await sight.known_extension.wait_ready(session, sight.instance)
            seen = await self._look(sight)
            if seen.state == "Starting":
                message = seen.message or "A health check has not passed yet."
                raise Waiting(message, retry_after_s=1.0, reason="Starting")
        if seen.state == "Running" and seen.spec_hash == sight.instance.spec_hash:
            status = record.settled(sandbox, seen, self.clock.now())
            await self.journal.write(sandbox, sight.dated(status))
        return Done(after_s=0)

    async def _recall(self, sight: Sight) -> Done:
        sandbox = sight.sandbox
        async with self.journal.recording(sandbox, "Recall"):
            session = await self.observer.session(sight.known_host)
            async with asyncio.timeout(CHECK_LIMIT_S):
                result = await sight.known_extension.recall(session, sight.instance)
        await self.journal.write(sandbox, recalled(sandbox, result, self.clock.now()))
        return Done(after_s=0)

    async def _suspend_or_resume(self, sight: Sight, step: Step) -> Done:
        suspending = step.name == "Suspend"
        action: record.Action = "Suspend" if suspending else "Resume"
        way = _way(sight)
        if not suspending:
            await self._enter(way, sight.sandbox, sight.sandbox)
        sandbox = await self._intend(sight, sight.sandbox, action, step)
        async with self.journal.recording(sandbox, action):
            extension = sight.known_extension
            told = sight.instance if suspending else self._told(sight.instance, sandbox)
            with nullcontext() if suspending else self.breakers.judging(way, told.uid):
                session = await self.observer.session(sight.known_host)
                async with asyncio.timeout(ACTION_LIMIT_S):
                    await (extension.suspend if suspending else extension.resume)(session, told)
                seen = await self._look(sight)
            require(seen, *(("Suspended",) if suspending else ("Starting", "Running")))
        outcome = record.suspended if suspending else record.resumed
        await self.journal.write(sandbox, sight.dated(outcome(sandbox, seen, self.clock.now())))
        return Done(after_s=0)

    async def _teardown(self, sight: Sight, step: Step) -> Done:
        sandbox = await self._intend(sight, sight.sandbox, "Teardown", step)
        async with self.journal.recording(sandbox, "Teardown"):
            session = await self.observer.session(sight.known_host)
            async with asyncio.timeout(ACTION_LIMIT_S):
                await sight.known_extension.teardown(session, sight.instance)
            require(await self._look(sight), "Absent")
        gone = await self._disarmed(sight, sandbox)
        await self.journal.write(sandbox, placing.torn_down(gone, step, self.clock.now()))
        return Done(after_s=0)

    async def _expire(self, sight: Sight, step: Step) -> Done:
        cause = Cause("expiry", "expiry", because=step.message)
        expired = record.expired(sight.sandbox, step, self.clock.now())
        metadata = (await self.journal.write(sight.sandbox, expired, cause=cause)).metadata
        await self.store.delete(
            Sandbox,
            metadata.name,
            metadata.namespace or "",
            uid=metadata.uid,
            resource_version=metadata.resource_version,
            cause=cause,
        )
        return Done(after_s=0)

    async def _forget(self, sight: Sight, step: Step) -> Done:
        if sight.host is not None and step.reason != HOST_GIVEN_UP:
            await self._disarmed(sight, sight.sandbox)
        kept = tuple(f for f in sight.sandbox.metadata.finalizers if f != FINALIZER)
        because = step.message if step.reason == HOST_GIVEN_UP else ""
        await self.journal.set_finalizers(sight.sandbox, kept, because=because)
        return Done()

    async def _state(self, sight: Sight, situation: Situation, step: Step) -> Done:
        """Take a step that only says something."""
        sandbox, now = sight.sandbox, self.clock.now()
        status = record.said(sandbox, step, situation.observation, now)
        if situation.fired_at is not None:
            status = fired(sandbox, situation.fired_at, now)
        status = sight.dated(status) if step.name == "Refresh" else status
        after_s = 0.0 if step.name == "Fired" else step.after_s
        return self._done(await self.journal.write(sandbox, status), after_s=after_s)

    async def _enter(self, way: Way, sandbox: Sandbox, noted: Sandbox) -> None:
        """Let it act there next, or say why it is held back, with what was noted on it since it was read."""
        try:
            self.breakers.enter(way, sandbox.metadata.uid)
        except Waiting as held:
            await self.journal.write(sandbox, record.held_back(noted, held, self.clock.now()))
            raise

    async def _intend(
        self, sight: Sight, sandbox: Sandbox, action: record.Action, step: Step
    ) -> Sandbox:
        hash_, now = sight.instance.spec_hash, self.clock.now()
        status = record.intended(sandbox, action, step=step, hash_=hash_, now=now)
        # NOTE: compared with the sandbox as it was read, not as drift was noted on it.
        return await self.journal.intend(sight.sandbox, status)

    def _told(self, instance: Instance, sandbox: Sandbox) -> Instance:
        """Return what the extension is told to make, with what it keeps for the case of a loss."""
        manifest = manifest_of(sandbox, self.store.signing_key, instance.environment)
        return replace(with_secrets(instance, sandbox), manifest=manifest)

    async def _look(self, sight: Sight) -> Observation:
        uid = sight.sandbox.metadata.uid
        return await self.observer.refresh(sight.known_extension.name, sight.known_host, uid)

    def _done(self, sandbox: Sandbox, *, after_s: float | None = None) -> Done:
        """Come back in time for the expiry and its announcement, if not earlier."""
        moment = lifetime.next_moment(sandbox)
        if moment is None:
            return Done(after_s=after_s)
        left_s = max(0.0, (moment - self.clock.now()).total_seconds())
        return Done(after_s=min(left_s, after_s if after_s is not None else left_s))


def _may_have_fired(situation: Situation) -> bool:
    seen, switch = situation.observation, situation.sandbox.status.dead_mans_switch
    gone = seen is not None and seen.state == "Absent"
    return gone and switch is not None and switch.fired_at is None and situation.fired_at is None


def _way(sight: Sight) -> Way:
    return Way(sight.known_host.metadata.name, sight.known_extension.name)
