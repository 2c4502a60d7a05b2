"""
The story of a sandbox: one event for each thing that happened to it, in a sentence.

News are told from two statuses, the one before a write and the one after it, so whatever leads to
a change of state is told the same way, and nothing is told twice. Conditions say how things are;
only what a person would want to know later becomes news. They are kept as transitions, with the
status itself and for longer than the sandbox lives, and as events for who watches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sandboxer.engine import lifetime
from sandboxer.engine.breaker import ACTIONS_FAIL
from sandboxer.engine.conditions import restated
from sandboxer.engine.disk import DISK_PRESSURE
from sandboxer.engine.drift import drift_evidence, loss
from sandboxer.engine.evidence import evidence_of
from sandboxer.engine.leaving import HOST_GIVEN_UP, LEAVING
from sandboxer.engine.plan import COPY_ELSEWHERE, HOST_REBOOTED
from sandboxer.engine.switch import DEAD_MANS_SWITCH, FIRED
from sandboxer.kinds.host import Host, HostStatus
from sandboxer.kinds.meta import Condition, Status
from sandboxer.kinds.sandbox import Sandbox, SandboxStatus
from sandboxer.store import News

_DRIFT_ANSWERS = {
    COPY_ELSEWHERE: "It is not made a second time.",
    HOST_REBOOTED: "It is repaired now.",
    "Drift": "It is repaired now.",
    "DriftReported": "It is left as it is, as spec.driftPolicy asks.",
    "RepairPostponed": "It was repaired often; the next repair waits a little.",
}


@dataclass(frozen=True, slots=True)
class _Scene:
    """One write of a status."""

    sandbox: Sandbox
    """With the status before."""
    after: SandboxStatus
    took_s: float | None
    """Seconds since it was accepted, when this process saw that."""

    @property
    def before(self) -> SandboxStatus:
        return self.sandbox.status

    @property
    def place(self) -> str:
        return f"host {self.after.host or self.before.host}"

    def became(self, type_: str) -> bool:
        return self.after.is_true(type_) and not self.before.is_true(type_)

    def message(self, type_: str) -> str:
        condition = self.after.condition(type_)
        return condition.message if condition is not None else ""

    def reason(self, type_: str) -> str:
        condition = self.after.condition(type_)
        return condition.reason if condition is not None else ""

    @property
    def evidence(self) -> dict[str, str]:
        """What was seen on the backend when something is not as wished."""
        return evidence_of(self.sandbox, self.after)


def sandbox_news(
    sandbox: Sandbox, after: SandboxStatus, *, took_s: float | None = None
) -> list[News]:
    """
    Return what happened to a sandbox, in the order it is to be told.

    Args:
        sandbox: With its status before.
        after: Its status now.
        took_s: Seconds since it was accepted; None when that is not known.
    """
    scene = _Scene(sandbox, after, took_s)
    told = (chapter(scene) for chapter in _CHAPTERS)
    return [news for news in told if news is not None]


def host_news(host: Host, after: HostStatus) -> list[News]:
    """Return what happened to a host."""
    reachable = restated(host.status, after, "Reachable")
    if reachable is not None and reachable.status == "False":
        return [News(reason=reachable.reason, message=reachable.message, type="Warning")]
    ready = restated(host.status, after, "Ready")
    news = _of_host(host, after)
    if reachable is not None and host.status.condition("Reachable") is not None:
        news.append(News(reason="HostBack", message="It answers again."))
    elif ready is not None and ready.status == "True" and _failed_actions(host.status):
        news.append(News(reason="ActionsWork", message=f"Actions succeed again. {ready.message}"))
    elif ready is not None and ready.status == "True":
        news.append(News(reason="Ready", message=f"It answers. {ready.message}"))
    news += _disk_news(host.status, after)
    if ready is not None and ready.status == "False":
        cordoned = ready.reason == "Unschedulable"
        type_: Literal["Normal", "Warning"] = "Normal" if cordoned else "Warning"
        news.append(News(reason=ready.reason, message=ready.message, type=type_))
    return news


def _disk_news(before: HostStatus, after: HostStatus) -> list[News]:
    """Tell that a disk is full, and that there is room again; which one it is may change meanwhile."""
    disk, was_full = after.condition(DISK_PRESSURE), before.is_true(DISK_PRESSURE)
    if disk is not None and disk.status == "True" and not was_full:
        return [News(reason=DISK_PRESSURE, message=disk.message, type="Warning")]
    if disk is not None and disk.status == "False" and was_full:
        return [News(reason="DiskHasRoom", message=disk.message)]
    return []


def _failed_actions(status: HostStatus) -> bool:
    ready = status.condition("Ready")
    return ready is not None and ready.reason == ACTIONS_FAIL


def _of_host(host: Host, after: HostStatus) -> list[News]:
    """Tell that it was started anew, or that nothing is left on it."""
    news, before = [], host.status.facts.boot_id
    if before and after.facts.boot_id not in ("", before):
        message = f"It was started anew: its boot id is {after.facts.boot_id}, and was {before}."
        news.append(News(reason=HOST_REBOOTED, message=message, type="Warning"))
    drained = restated(host.status, after, "Drained")
    if drained is not None and drained.status == "True":
        news.append(News(reason="Drained", message=drained.message))
    return news


def catalog_news(before: Status, after: Status) -> list[News]:
    """Return what happened to a profile or an extension; that one is usable at first is no news."""
    ready = restated(before, after, "Ready")
    if ready is None or (ready.status == "True" and before.condition("Ready") is None):
        return []
    type_: Literal["Normal", "Warning"] = "Normal" if ready.status == "True" else "Warning"
    return [News(reason=ready.reason, message=ready.message, type=type_)]


def _accepted(scene: _Scene) -> News | None:
    accepted = restated(scene.before, scene.after, "Accepted")
    if accepted is None:
        return None
    if accepted.status == "True":
        return News(reason="Accepted", message=f"{accepted.message} {scene.message('Expired')}")
    return News(reason=accepted.reason, message=accepted.message, type="Warning")


def _routed(scene: _Scene) -> News | None:
    before, after = scene.before, scene.after
    if after.is_true("Routed") and (before.host, before.extension) != (after.host, after.extension):
        message, evidence = f"It is placed: {after.placement_reason}", {"host": after.host}
        return News(reason="Routed", message=message, evidence=evidence)
    routed = restated(before, after, "Routed")
    if routed is None or routed.status != "False" or routed.reason == "Pending":
        return None
    return News(reason=routed.reason, message=routed.message, type="Warning")


def _host(scene: _Scene) -> News | None:
    reachable = restated(scene.before, scene.after, "HostReachable")
    if reachable is None:
        return None
    if reachable.status == "False":
        return News(reason=reachable.reason, message=reachable.message, type="Warning")
    if scene.before.condition("HostReachable") is None:
        return None
    return News(reason="HostBack", message=f"It can be seen on {scene.place} again.")


def _drifted(scene: _Scene) -> News | None:
    """Tell what drifted, and tell it again when something else has."""
    other = scene.after.drift != scene.before.drift
    if not scene.after.is_true("Drifted") or not (scene.became("Drifted") or other):
        return None
    answer = _DRIFT_ANSWERS.get(scene.reason("Drifted"), "")
    message = " ".join(filter(None, (scene.message("Drifted"), loss(scene.after), answer)))
    evidence = {**scene.evidence, **drift_evidence(scene.after)}
    reason = HOST_REBOOTED if scene.reason("Drifted") == HOST_REBOOTED else "Drifted"
    return News(reason=reason, message=message, type="Warning", evidence=evidence)


def _leaving(scene: _Scene) -> News | None:
    """Tell that it is to leave its host, and why it does not; that it has left, its new place tells."""
    leaving = restated(scene.before, scene.after, LEAVING) or _given_up_again(scene)
    if leaving is None or leaving.reason == "Moved":
        return None
    is_bad = leaving.reason in ("NoOtherPlace", HOST_GIVEN_UP)
    type_: Literal["Normal", "Warning"] = "Warning" if is_bad else "Normal"
    host = {"host": scene.before.host}
    return News(reason=leaving.reason, message=leaving.message, type=type_, evidence=host)


def _given_up_again(scene: _Scene) -> Condition | None:
    """Return what is said when another host of it is given up; only the words are other ones."""
    before, after = scene.before.condition(LEAVING), scene.after.condition(LEAVING)
    if before is None or after is None or after.reason != HOST_GIVEN_UP:
        return None
    return after if after.message != before.message else None


def _begun(scene: _Scene) -> News | None:
    """Tell what is begun; suspending and resuming are told when they are done."""
    before, now = scene.before.intention, scene.after.intention
    if now is None or (before is not None and before.action == now.action):
        return None
    extension = scene.after.extension
    if now.action == "Provision" and not scene.after.is_true("Drifted"):
        if scene.before.spec_hash == "":
            return News(reason="Provisioning", message=f"{extension} makes it on {scene.place}.")
        return News(
            reason="Updating",
            message=f"{extension} brings it to generation {scene.sandbox.metadata.generation}.",
        )
    if now.action != "Teardown" or scene.after.is_true("Stalled"):
        return None
    if scene.sandbox.metadata.deletion_timestamp is not None:
        message = f"Its deletion was asked for; {extension} takes it away from {scene.place}."
        return News(reason="Deleting", message=message)
    message = f"{scene.message('Reconciling')} It is taken away from {scene.place} first."
    return News(reason="Relocating", message=message)


def _made(scene: _Scene) -> News | None:
    before, after = scene.before.intention, scene.after
    if before is None or before.action != "Provision" or after.intention is not None:
        return None
    if not after.is_true("Provisioned"):
        return None
    if scene.before.is_true("Drifted"):
        return _repaired(scene)
    kinds = Counter(resource.kind for resource in after.resources)
    made = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "nothing of its own"
    message = f"{scene.message('Provisioned')} On {scene.place}: {made}."
    return News(reason="Provisioned", message=message)


def _repaired(scene: _Scene) -> News:
    message = f"What had drifted was put right; it was repair number {scene.after.repairs}."
    lost = loss(scene.before)
    return News(
        reason="Repaired",
        message=f"{message} {lost} It was made anew without it." if lost else message,
        type="Warning" if lost else "Normal",
        evidence=drift_evidence(scene.before),
    )


def _rested(scene: _Scene) -> News | None:
    if scene.became("Suspended"):
        return News(reason="Suspended", message="It is at rest, and its workspace is kept.")
    suspended = restated(scene.before, scene.after, "Suspended")
    moved = scene.after.host != scene.before.host
    if suspended is None or moved or not scene.before.is_true("Suspended"):
        return None
    return News(reason="Resumed", message=f"It runs again on {scene.place}.")


def _ready(scene: _Scene) -> News | None:
    """Tell that it is ready; when its host was gone, `HostBack` says so already."""
    ready = scene.before.condition("Ready")
    if not scene.became("Ready") or (ready is not None and ready.status == "Unknown"):
        return None
    after = f" It took {scene.took_s:.1f} s." if scene.took_s is not None else ""
    return News(reason="Ready", message=f"{scene.message('Ready')}{after}")


def _waiting(scene: _Scene) -> News | None:
    """Tell what is waited for; that a start takes its time is no news."""
    ready = restated(scene.before, scene.after, "Ready")
    if ready is None or scene.reason("Reconciling") != "Waiting":
        return None
    was_ready = scene.before.is_true("Ready")
    if ready.reason == "Starting" and not was_ready:
        return None
    type_: Literal["Normal", "Warning"] = "Warning" if was_ready else "Normal"
    return News(reason=ready.reason, message=ready.message, type=type_, evidence=scene.evidence)


def _failed(scene: _Scene) -> News | None:
    """Tell each failure, unless a refusal or a lost host was told already."""
    if scene.reason("HostReachable") and not scene.after.is_true("HostReachable"):
        return None
    stalled = restated(scene.before, scene.after, "Stalled")
    if stalled is not None and stalled.status == "True":
        refused = not scene.after.is_true("Accepted")
        return None if refused else _warning(scene, "Stalled")
    if scene.reason("Reconciling") != "Retrying":
        return None
    again = _attempts(scene.after) > _attempts(scene.before)
    return _warning(scene, "Ready") if again or _is_other(scene) else None


def _is_other(scene: _Scene) -> bool:
    return restated(scene.before, scene.after, "Ready") is not None


def _attempts(status: SandboxStatus) -> int:
    return status.intention.attempts if status.intention is not None else 0


def _warning(scene: _Scene, type_: str) -> News:
    action = {"action": scene.after.intention.action} if scene.after.intention else {}
    return News(
        reason=scene.reason(type_),
        message=scene.message(type_),
        type="Warning",
        evidence={**scene.evidence, **action},
    )


def _expires_soon(scene: _Scene) -> News | None:
    expired = restated(scene.before, scene.after, "Expired")
    if expired is None or expired.reason != lifetime.WARNED:
        return None
    return News(reason=expired.reason, message=expired.message, type="Warning")


def _expired(scene: _Scene) -> News | None:
    if not scene.became("Expired"):
        return None
    ttl = scene.sandbox.spec.lifetime.ttl
    evidence = {"ttl": str(ttl)} if ttl is not None else {}
    message = f"{scene.message('Expired')} It is deleted."
    return News(reason="Expired", message=message, evidence=evidence)


def _guarded(scene: _Scene) -> News | None:
    """Tell what its host does at its end, once it did and when it cannot."""
    said = restated(scene.before, scene.after, DEAD_MANS_SWITCH)
    # That it has left a host, its new place tells.
    if said is None or said.reason == "Moved":
        return None
    type_: Literal["Normal", "Warning"] = "Normal" if said.status == "True" else "Warning"
    reason = {"Armed": "SwitchArmed", FIRED: "SwitchFired"}.get(said.reason, said.reason)
    return News(
        reason=reason, message=said.message, type=type_, evidence={"host": scene.after.host}
    )


def _torn_down(scene: _Scene) -> News | None:
    provisioned = restated(scene.before, scene.after, "Provisioned")
    if provisioned is None or provisioned.reason != "TornDown":
        return None
    return News(reason="TornDown", message=f"Nothing of it is left on {scene.place}.")


_CHAPTERS: tuple[Callable[[_Scene], News | None], ...] = (
    _accepted, _routed, _host, _leaving, _drifted, _begun, _made, _rested, _ready, _waiting, _failed,
    _guarded, _expires_soon, _expired, _torn_down,
)  # fmt: skip
