"""
From what was found to a state, by the contract's words; no I/O.

A failing health check is `Starting`, not `Stopped`: everything wanted runs, and a repair would
restart what may only be busy. It shows in the message and, through the sandbox's ready timeout,
as a stall.
"""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import Iterator, Sequence

from sandboxer.extension import (
    LABEL_EXTENSION,
    LABEL_SPEC_HASH,
    LABEL_UID,
    Observation,
    State,
    short_id,
)
from sandboxer.kinds.sandbox import Difference, Ending, ResourceSeen
from sandboxer.units import format_bytes
from sandboxer_extensions.compose_ssh.drift import Found, differences
from sandboxer_extensions.compose_ssh.inventory import Container, Inventory, Thing, Workspace
from sandboxer_extensions.compose_ssh.stack import LABEL_EXPECTED, LABEL_ONESHOT, LABEL_SERVICE

# Status of a program that a signal ended is this and the signal's number, as a shell reports it.
_SIGNALLED = 128

# Words of the engines for a container that does not run any more.
_ENDED = frozenset({"exited", "stopped", "dead"})

# Problems named in a message; a stack of 64 services may have as many.
_MAX_NAMED = 4


def judge(inventory: Inventory, *, extension: str) -> list[Observation]:
    """Return one observation per sandbox of *extension*, in the order of their uids."""
    found: dict[str, Found] = defaultdict(Found)
    for container in inventory.containers:
        if container.labels.get(LABEL_EXTENSION) == extension:
            found[container.labels[LABEL_UID]].containers.append(container)
    for thing in inventory.things:
        if thing.labels.get(LABEL_EXTENSION) == extension:
            found[thing.labels[LABEL_UID]].things.append(thing)
    for workspace in inventory.workspaces:
        if workspace.labels.get(LABEL_EXTENSION) == extension:
            found[workspace.labels[LABEL_UID]].workspace = workspace
    for uid, one in found.items():
        one.unmarked = one.workspace is None and short_id(uid) in inventory.unmarked
    return [_observation(uid, found[uid]) for uid in sorted(found)]


def expected_services(
    containers: Sequence[Container], workspace: Workspace | None
) -> tuple[str, ...]:
    """Return the services that should be there, in the compose file's order."""
    if workspace is not None:
        return workspace.expected
    stated = {c.labels.get(LABEL_EXPECTED, "") for c in containers} - {""}
    return tuple(min(stated).split(",")) if stated else ()


def _observation(uid: str, found: Found) -> Observation:
    state, message = _state(found)
    hashes = {c.labels.get(LABEL_SPEC_HASH, "") for c in found.containers}
    labelled: list[Container | Thing] = [*found.containers, *found.things]
    labels = labelled[0].labels if labelled else found.workspace.labels if found.workspace else {}
    return Observation(
        uid=uid,
        state=state,
        spec_hash=hashes.pop() if len(hashes) == 1 else "",
        resources=_resources(found),
        labels={k: v for k, v in labels.items() if k.startswith("sandboxer.dev/")},
        message=message,
        drift=tuple(_drift(found, state)),
        manifest=found.workspace.manifest if found.workspace else "",
    )


def _drift(found: Found, state: State) -> Iterator[Difference]:
    """Yield what does not run, then what is not as it was made."""
    services = {c.labels.get(LABEL_SERVICE, "") for c in found.containers}
    for service in expected_services(found.containers, found.workspace):
        if service not in services:
            yield Difference(path=f"containers/{service}", wanted="present", seen="missing")
    for container in found.containers if state != "Suspended" else ():
        if _why_stopped(container):
            service = container.labels.get(LABEL_SERVICE, container.name)
            # NOTE: one word for `stopped`, `exited` and `dead`, which one ending goes through.
            ended = container.state in _ENDED
            seen = f"ended ({container.exit_code})" if ended else container.state
            yield Difference(path=f"containers/{service}/state", wanted="running", seen=seen)
    yield from differences(found)


def _state(found: Found) -> tuple[State, str]:
    by_service: dict[str, list[Container]] = defaultdict(list)
    for container in found.containers:
        by_service[container.labels.get(LABEL_SERVICE, "")].append(container)
    expected = expected_services(found.containers, found.workspace)
    missing = [service for service in expected if service not in by_service]
    if found.workspace is None:
        damaged = "The marker of the workspace is damaged."
        return "Incomplete", damaged if found.unmarked else "The workspace directory is missing."
    if missing or not expected:
        return "Incomplete", _sentence([f"service {s} has no container" for s in missing])
    running = [c for c in found.containers if c.state == "running"]
    if found.workspace.suspended and not running:
        return "Suspended", ""
    stopped = [s for c in found.containers if (s := _why_stopped(c))]
    if stopped:
        return "Stopped", _sentence(stopped)
    waiting = [s for c in found.containers if (s := _why_not_ready(c))]
    return ("Starting", _sentence(waiting)) if waiting else ("Running", "")


def _why_stopped(container: Container) -> str:
    """Return why *container* does not run as it should, or nothing."""
    service = container.labels.get(LABEL_SERVICE, container.name)
    if container.state in {"running", "restarting"}:
        return ""
    if container.state not in _ENDED:
        return f"service {service} is {container.state}"
    if container.labels.get(LABEL_ONESHOT) == "true" and container.exit_code == 0:
        return ""
    if container.oom_killed:
        limit = format_bytes(container.memory_bytes) if container.memory_bytes else "it may have"
        return (
            f"service {service} was killed because it needed more memory than {limit} "
            f"(exit {container.exit_code}, OOM)"
        )
    return f"service {service} ended with status {container.exit_code}{_signal(container)}"


def _signal(container: Container) -> str:
    """Return the name of the signal that ended it, in brackets; nothing when none did."""
    try:
        return f" ({signal.Signals(container.exit_code - _SIGNALLED).name})"
    except ValueError:
        return ""


def _ending(container: Container) -> Ending | None:
    if container.state not in _ENDED:
        return None
    return Ending(
        exit_code=container.exit_code,
        oom_killed=container.oom_killed,
        ended_at=container.ended_at,
    )


def _why_not_ready(container: Container) -> str:
    service = container.labels.get(LABEL_SERVICE, container.name)
    if container.state == "restarting":
        return f"service {service} is being restarted, it ended with {container.exit_code}"
    if container.labels.get(LABEL_ONESHOT) == "true" and container.state == "running":
        return f"service {service} has not finished"
    if container.state == "running" and container.health not in {"", "healthy"}:
        return f"the health check of service {service} is {container.health}"
    return ""


def _resources(found: Found) -> tuple[ResourceSeen, ...]:
    seen = [
        ResourceSeen(
            kind="container", name=c.name, state=c.state, health=c.health,
            detail="" if c.state == "running" else _why_stopped(c), ending=_ending(c),
        )
        for c in found.containers
    ]  # fmt: skip
    seen += [ResourceSeen(kind=t.kind, name=t.name, state="present") for t in found.things]
    if found.workspace is not None:
        state = "suspended" if found.workspace.suspended else "present"
        seen.append(ResourceSeen(kind="workspace", name=found.workspace.name, state=state))
    return tuple(sorted(seen, key=lambda r: (r.kind, r.name)))


def _sentence(problems: Sequence[str]) -> str:
    if not problems:
        return "Nothing of it was started."
    more = len(problems) - _MAX_NAMED
    text = "; ".join(problems[:_MAX_NAMED]) + (f"; and {more} more" if more > 0 else "")
    return f"{text[0].upper()}{text[1:]}."
