"""
What of one sandbox is not as `provision` left it: the record against what was found; no I/O.

Compared: that each container is the one that was made and runs, its name, networks and limits; that
each network and volume is the one that was made; that workspace, `repo` and the record are there.
Not compared: what cannot change under a container's id, which says it all, and what is inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sandboxer.kinds.sandbox import Difference
from sandboxer_extensions.compose_ssh.inventory import Container, Inventory, Thing, Workspace
from sandboxer_extensions.compose_ssh.made import Limit, MadeContainer, Record, limit_text
from sandboxer_extensions.compose_ssh.stack import LABEL_SERVICE

# Hex digits of a container's id that are shown, as engines do.
_SHOWN_ID = 12


@dataclass(slots=True)
class Found:
    """Everything found of one sandbox."""

    containers: list[Container] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)
    workspace: Workspace | None = None
    unmarked: bool = False
    """Whether its directory is there with a marker that cannot be read."""


def found_of(inventory: Inventory) -> Found:
    """Return an inventory that was asked for one sandbox."""
    workspace = next(iter(inventory.workspaces), None)
    unmarked = workspace is None and bool(inventory.unmarked)
    return Found(inventory.containers, inventory.things, workspace, unmarked)


def record_of(found: Found) -> Record:
    """Return the record to keep of what was just made."""
    return Record(
        containers={
            c.id: MadeContainer(
                service=_service(c), name=c.name, image=c.image, networks=list(c.networks)
            )
            for c in found.containers
        },
        networks={t.name: t.made_at for t in found.things if t.kind == "network"},
        volumes={t.name: t.made_at for t in found.things if t.kind == "volume"},
    )


def differences(found: Found) -> Iterator[Difference]:
    """Yield what is different from the record; what runs or not is told by the judge."""
    workspace = found.workspace
    if workspace is None:
        yield _without_workspace(found)
        return
    if not workspace.has_repo:
        yield _missing("workspace/repo", data_lost=True)
    if workspace.record is None:
        yield from _lost_volumes(found, workspace.before)
        yield _missing("workspace/record")
        return
    yield from _of_things(found, workspace.record)
    for container in found.containers:
        yield from _of_container(container, workspace, found.containers)


def containers_to_replace(found: Found) -> list[str]:
    """Return the ids of containers that a repair has to make anew; none when nothing is recorded."""
    workspace = found.workspace
    if workspace is None or workspace.record is None:
        return []
    every = any(_of_things(found, workspace.record))
    return [
        c.id
        for c in found.containers
        if every or any(_of_container(c, workspace, found.containers))
    ]


def losses(before: Found, made: Found) -> Iterator[Difference]:
    """Yield what held data before a provision and had to be made anew by it."""
    workspace = before.workspace
    if workspace is None:
        gone = _without_workspace(before)
        yield from [gone] if gone.data_lost else []
        return
    if not workspace.has_repo:
        yield _missing("workspace/repo", data_lost=True)
    yield from _lost_volumes(made, workspace.record or workspace.before)


def _lost_volumes(found: Found, before: Record | None) -> Iterator[Difference]:
    if before is not None:
        yield from (one for one in _of_things(found, before) if one.data_lost)


def _of_things(found: Found, record: Record) -> Iterator[Difference]:
    prefix = f"{found.workspace.name}_" if found.workspace else ""
    recorded = (("network", record.networks), ("volume", record.volumes))
    for kind, made in recorded:
        seen = {thing.name: thing.made_at for thing in found.things if thing.kind == kind}
        for name, made_at in made.items():
            path, holds_data = f"{kind}s/{name.removeprefix(prefix)}", kind == "volume"
            if name not in seen:
                yield _missing(path, data_lost=holds_data)
            elif made_at and seen[name] and made_at != seen[name]:
                yield Difference(
                    path=path, wanted=f"made {made_at}", seen=f"made {seen[name]}",
                    data_lost=holds_data,
                )  # fmt: skip


def _of_container(
    seen: Container, workspace: Workspace, containers: Sequence[Container]
) -> Iterator[Difference]:
    assert workspace.record is not None
    path = f"containers/{_service(seen)}"
    made = workspace.record.containers.get(seen.id)
    if made is None:
        yield from _of_stranger(seen, workspace.record.containers, containers)
        return
    if made.name != seen.name:
        yield Difference(path=f"{path}/name", wanted=made.name, seen=seen.name)
    if seen.state == "running" and list(seen.networks) != made.networks:
        yield Difference(
            path=f"{path}/networks", wanted=_listed(made.networks), seen=_listed(seen.networks)
        )
    for limit in sorted(workspace.limits.get(seen.id, ()), key=lambda each: each.field):
        yield _of_limit(path, limit)


def _of_stranger(
    seen: Container, recorded: Mapping[str, MadeContainer], containers: Sequence[Container]
) -> Iterator[Difference]:
    """Tell of a container that is not the one that was made: in its place, or besides it."""
    service = _service(seen)
    made = {id_: one for id_, one in recorded.items() if one.service == service}
    if not made or any(c.id in made for c in containers):
        yield Difference(path=f"containers/{seen.name}", wanted="absent", seen=seen.state)
        return
    id_, one = next(iter(made.items()))
    path = f"containers/{service}"
    yield Difference(path=f"{path}/id", wanted=id_[:_SHOWN_ID], seen=seen.id[:_SHOWN_ID])
    if one.image and seen.image and one.image != seen.image:
        yield Difference(path=f"{path}/image", wanted=one.image, seen=seen.image)


def _of_limit(path: str, limit: Limit) -> Difference:
    wanted, seen = limit_text(limit.field, limit.wanted), limit_text(limit.field, limit.seen)
    return Difference(path=f"{path}/{limit.field}", wanted=wanted, seen=seen)


def _without_workspace(found: Found) -> Difference:
    if found.unmarked:
        return Difference(path="workspace/marker", wanted="present", seen="damaged")
    return _missing("workspace", data_lost=True)


def _missing(path: str, *, data_lost: bool = False) -> Difference:
    return Difference(path=path, wanted="present", seen="missing", data_lost=data_lost)


def _listed(networks: Sequence[str]) -> str:
    return ", ".join(networks) or "none"


def _service(container: Container) -> str:
    return container.labels.get(LABEL_SERVICE, container.name)
