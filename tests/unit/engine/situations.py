"""Situations for the planner, from the few words a case or a property gives."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sandboxer.engine.leaving import Leave
from sandboxer.engine.plan import Situation, Wanted
from sandboxer.engine.switch import Guard, Switch
from sandboxer.errors import InvalidSpecError
from sandboxer.extension import Observation
from sandboxer.kinds.meta import API_VERSION, FINALIZER
from sandboxer.kinds.sandbox import Destination, Difference, ResourceSeen, Sandbox
from sandboxer.testing.clock import EPOCH

HASH = "a" * 16
OTHER_HASH = "b" * 16
HASHES = {"same": HASH, "other": OTHER_HASH, "mixed": ""}

STAGES = ("new", "accepted", "routed", "provisioned", "ready", "suspended")
"""How far a sandbox has come, each including the ones before; `suspended` instead of `ready`."""


def situation(given: Mapping[str, Any]) -> Situation:
    """
    Return the situation a case describes.

    Args:
        given: `stage` (see `STAGES`), `deleting`, `generation`, `finalizers`, `spec` and `status`
            (as in a document, over the stage's own), `intention` (an action), `provisionedAgo`
            and `expiresIn` (seconds), `sees` (a state, or `unknown`), `seesHash`, `wants` (hash),
            `wantsExpiry` (seconds), `adopted`, `objection`, `weak`
            (an objection), `refused` (a reason), `unknown` (a reason), `drained` (the host it fits
            on besides its own, or `nowhere`), `aside` (the host set aside for it), `leaving` (what
            was said of that), `unprobed`, `givenUp`, `build` (a state), `boot` (id), `drift` (paths
            of differences), `copy` (another host that has one), `guard` (seconds until the end that
            its host is to know), `guarded` (the same, as its host knows it), `unguarded` (it was
            tried), `switch` (`lost` or `fired`).
    """
    sees = given.get("sees", "Absent")
    expires_in = given.get("wantsExpiry", given.get("expiresIn"))
    wanted: Wanted | InvalidSpecError = Wanted(
        spec_hash=HASHES[given.get("wants", "same")],
        expires_at=_moment(expires_in),
        guard=_guard(given),
        placement_objection=given.get("objection", ""),
        isolation_objection=given.get("weak", ""),
    )
    if "refused" in given:
        wanted = InvalidSpecError("It is wrong.", reason=given["refused"])
    return Situation(
        sandbox=_sandbox(given),
        now=EPOCH,
        wanted=wanted,
        observation=None if sees == "unknown" else _observation(sees, given),
        unknown_reason=given.get("unknown", "HostUnreachable") if sees == "unknown" else "",
        leave=_leave(given),
        boot_id=given.get("boot", ""),
        fired_at=EPOCH if given.get("switch") == "fired" else None,
        is_switch_lost=given.get("switch") == "lost",
        copy_on=given.get("copy", ""),
    )


def _guard(given: Mapping[str, Any]) -> Guard | None:
    expires_at = _moment(given.get("guard"))
    if expires_at is None:
        return None
    return Guard(switch=Switch(expires_at=expires_at, lease_s=600, command=("true",)))


def _leave(given: Mapping[str, Any]) -> Leave | None:
    if not ("drained" in given or given.get("givenUp")):
        return None
    other = given.get("drained", "nowhere")
    return Leave(
        message="Host h1 is drained.",
        is_given_up=given.get("givenUp", False),
        destination=None if other == "nowhere" else _destination(other),
        objection="There is no other host." if other == "nowhere" else "",
        is_judged=not given.get("unprobed", False),
    )


def _destination(name: str) -> Destination:
    return Destination(extension="ext.fake", host=name)


def _observation(state: Any, given: Mapping[str, Any]) -> Observation:
    if state == "Absent":
        return Observation(uid="u", state="Absent")
    seen = ResourceSeen(kind="process", name="p", state=given.get("resource", "running"))
    if "build" in given:
        seen = ResourceSeen(kind="build", name="b", state=given["build"])
    hash_ = HASHES[given.get("seesHash", "same")]
    drift = tuple(
        Difference(path=path, wanted="present", seen="missing") for path in given.get("drift", ())
    )
    return Observation(uid="u", state=state, spec_hash=hash_, resources=(seen,), drift=drift)


def _sandbox(given: Mapping[str, Any]) -> Sandbox:
    stage = STAGES.index(given.get("stage", "new"))
    metadata: dict[str, Any] = {
        "name": "hello",
        "namespace": "default",
        "uid": "u",
        "generation": given.get("generation", 1),
        "finalizers": given.get("finalizers", [FINALIZER] if stage else []),
    }
    if given.get("deleting"):
        metadata["deletionTimestamp"] = EPOCH.isoformat()
    status = _status(given.get("stage", "new"), stage)
    if "intention" in given:
        status["intention"] = {"action": given["intention"], "startedAt": EPOCH.isoformat()}
    if "provisionedAgo" in given:
        status["provisionedAt"] = _text(-given["provisionedAgo"])
    if "expiresIn" in given:
        status["expiresAt"] = _text(given["expiresIn"])
    if "aside" in given:
        status["destination"] = _destination(given["aside"]).to_document()
    if "aside" in given or "leaving" in given:
        leaving = _condition("Leaving", "True") | {"reason": given.get("leaving", "Moving")}
        status["conditions"].append(leaving)
    if "guarded" in given:
        seen = {"expiresAt": _text(given["guarded"]), "leaseS": 600, "watcher": "process"}
        status["deadMansSwitch"] = seen
        status["conditions"].append(_condition("DeadMansSwitch", "True"))
    if given.get("unguarded"):
        status["conditions"].append(_condition("DeadMansSwitch", "False"))
    if given.get("adopted"):
        status["conditions"].append(_condition("Provisioned", "True") | {"reason": "Adopted"})
    return Sandbox.parse(
        {
            "apiVersion": API_VERSION,
            "kind": "Sandbox",
            "metadata": metadata,
            "spec": given.get("spec", {}),
            "status": status | given.get("status", {}),
        }
    )


def _status(name: str, stage: int) -> dict[str, Any]:
    conditions: list[dict[str, Any]] = []
    status: dict[str, Any] = {"conditions": conditions}
    if stage >= STAGES.index("accepted"):
        conditions += [_condition("Accepted", "True"), _condition("Reconciling", "True")]
    if stage >= STAGES.index("routed"):
        status |= {"extension": "ext.fake", "host": "h1"}
    if stage >= STAGES.index("provisioned"):
        status |= {"specHash": HASH, "provisionedAt": _text(-3600)}
    if stage >= STAGES.index("ready"):
        asleep = name == "suspended"
        status["resources"] = [{"kind": "process", "name": "p", "state": "running"}]
        conditions[1] = _condition("Reconciling", "False")
        conditions += [
            _condition("HostReachable", "True"),
            _condition("Ready", "False" if asleep else "True"),
            _condition("Suspended", "True" if asleep else "False"),
        ]
    return status


def _condition(type_: str, status: str) -> dict[str, Any]:
    return {
        "type": type_,
        "status": status,
        "reason": "Given",
        "observedGeneration": 1,
        "lastTransitionTime": EPOCH.isoformat(),
    }


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else EPOCH + timedelta(seconds=seconds)


def _text(seconds: float) -> str:
    return (EPOCH + timedelta(seconds=seconds)).isoformat()
