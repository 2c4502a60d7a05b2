"""The record of what was made against what is found, and reading what a host prints of both."""

from __future__ import annotations

from typing import Any

import pytest

from sandboxer.errors import TransientError
from sandboxer.kinds.host import HostFacts
from sandboxer_extensions.compose_ssh.drift import (
    Found,
    containers_to_replace,
    differences,
    losses,
    record_of,
)
from sandboxer_extensions.compose_ssh.events import hint_of
from sandboxer_extensions.compose_ssh.inventory import (
    Container,
    Thing,
    Workspace,
    with_true_times,
)
from sandboxer_extensions.compose_ssh.made import Limit, limit_text, read_made
from sandboxer_extensions.compose_ssh.stack import LABEL_SERVICE

UID = "12345678-9abc-4def-8000-000000000000"
NAME = "sbx-123456789abc"


def container(id_: str = "a1", service: str = "app", **fields: Any) -> Container:
    """Return a running container of a service."""
    known = {
        "name": f"{NAME}_{service}_1", "state": "running", "image": "img:1", "networks": ("net",),
    }  # fmt: skip
    return Container(id=id_, labels={LABEL_SERVICE: service}, **(known | fields))


def thing(kind: str, made_at: str = "2026-01-01T00:00:00Z") -> Thing:
    """Return a network or volume."""
    return Thing(kind=kind, name=f"{NAME}_data", labels={}, made_at=made_at)


MADE = Found([container(), container("b1", "db")], [thing("network"), thing("volume")])


def found(
    containers: list[Container] | None = None, things: list[Thing] | None = None, **workspace: Any
) -> Found:
    """Return what is found of a sandbox that was made as `MADE`."""
    kept = {"record": record_of(MADE)} | workspace
    return Found(
        MADE.containers if containers is None else containers,
        MADE.things if things is None else things,
        Workspace(name=NAME, labels={}, expected=("app", "db"), suspended=False, **kept),
    )


B1 = container("b1", "db")


@pytest.mark.parametrize(
    ("seen", "told", "anew"),
    [
        pytest.param(found(), [], [], id="as-made"),
        pytest.param(found([container(networks=()), B1]), ["containers/app/networks"], ["a1"], id="network-left"),
        pytest.param(found([container(state="exited", networks=()), B1]), [], [], id="ended"),
        pytest.param(found([container(name="x"), B1]), ["containers/app/name"], ["a1"], id="renamed"),
        pytest.param(found([container("a2"), B1]), ["containers/app/id"], ["a2"], id="another"),
        pytest.param(found([container("a2", image="img:2"), B1]), ["containers/app/id", "containers/app/image"], ["a2"], id="another-image"),
        pytest.param(found([*MADE.containers, container("a2", name="more")]), ["containers/more"], ["a2"], id="more"),
        pytest.param(found([*MADE.containers, container("c1", "new", name="new")]), ["containers/new"], ["c1"], id="more-services"),
        pytest.param(found(limits={"a1": [Limit("memory", "1048576", "max")]}), ["containers/app/memory"], ["a1"], id="limit"),
        pytest.param(found(things=[thing("volume")]), ["networks/data"], ["a1", "b1"], id="no-network"),
        pytest.param(found(things=[thing("network")]), ["volumes/data"], ["a1", "b1"], id="no-volume"),
        pytest.param(found(things=[thing("network"), thing("volume", "2026-01-01T00:00:09Z")]), ["volumes/data"], ["a1", "b1"], id="volume-made-again"),
        pytest.param(found(things=[thing("network"), thing("volume", "")]), [], [], id="no-time-said"),
        pytest.param(found(has_repo=False), ["workspace/repo"], [], id="no-repo"),
        pytest.param(found(record=None), ["workspace/record"], [], id="no-record"),
        pytest.param(Found(MADE.containers, MADE.things), ["workspace"], [], id="no-workspace"),
        pytest.param(Found(MADE.containers, unmarked=True), ["workspace/marker"], [], id="no-marker"),
    ],
)  # fmt: skip
def test_differences(seen: Found, told: list[str], anew: list[str]) -> None:
    """Each change has its path, and names the containers that a repair makes anew."""
    assert [one.path for one in differences(seen)] == told
    assert containers_to_replace(seen) == anew


@pytest.mark.parametrize(
    ("engine", "version", "told"),
    [
        ("docker", "20.10.24+dfsg1", ["networks/data"]),
        ("docker", "", ["networks/data"]),
        ("docker", "23.0.0", ["networks/data", "volumes/data"]),
        ("podman", "4.3.1", ["networks/data", "volumes/data"]),
    ],
)
def test_a_write_is_no_new_volume(engine: str, version: str, told: list[str]) -> None:
    """Where the engine dates a volume by the last write, its time says nothing of who made it."""
    facts = HostFacts.model_validate({"engine": engine, "engine_version": version})
    later = "2026-01-01T00:00:09Z"

    seen = with_true_times([thing("network", later), thing("volume", later)], facts)

    assert [one.path for one in differences(found(things=[*seen]))] == told


@pytest.mark.parametrize(
    ("before", "made", "lost"),
    [
        pytest.param(found(), found(), [], id="nothing"),
        pytest.param(found(), found(things=[thing("network")]), ["volumes/data"], id="gone"),
        pytest.param(
            found(record=None, before=record_of(MADE)),
            found(things=[thing("volume", "2026-01-01T00:00:09Z")]),
            ["volumes/data"], id="made-anew-by-a-second-attempt",
        ),
        pytest.param(found(record=None), found(things=[]), [], id="not-known"),
        pytest.param(found(has_repo=False), found(), ["workspace/repo"], id="repo"),
        pytest.param(Found(), found(), ["workspace"], id="workspace"),
        pytest.param(Found(unmarked=True), found(), [], id="marker"),
    ],
)  # fmt: skip
def test_a_provision_says_what_was_lost(before: Found, made: Found, lost: list[str]) -> None:
    """Also what went after the last look, and what an attempt before had made anew."""
    assert [one.path for one in losses(before, made)] == lost


def test_data_is_lost_with_what_held_it() -> None:
    """A volume, a workspace and its files hold data; a network and a container do not."""
    seen = [
        *differences(found([container("a2"), B1], [])),
        *differences(found(has_repo=False, record=None)),
    ]

    lost = {one.path for one in seen if one.data_lost}

    assert lost == {"volumes/data", "workspace/repo"}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("memory", "67108864", "64 MiB"),
        ("memory", "max", "no limit"),
        ("memory", "9223372036854771712", "no limit"),
        ("cpu", "50000 100000", "0.5"),
        ("cpu", "150000", "1.5"),
        ("cpu", "50000 0", "0.5"),
        ("cpu", "max 100000", "no limit"),
        ("cpu", "-1", "no limit"),
        ("pids", "50", "50"),
        ("pids", "max", "no limit"),
    ],
)
def test_limits_are_said_for_people(field: str, value: str, words: str) -> None:
    """What the kernel's files of both layouts say reads the same."""
    assert limit_text(field, value) == words


def test_reading_records() -> None:
    """Lines of others are passed over, and a damaged record is none."""
    record = record_of(MADE).model_dump_json()
    lines = [
        '+ {"labels":{}}', f"made {NAME} {record}", f"limit {NAME} a1 memory 1|2 3",
        f"limit {NAME} a1 nonsense 1|2", f"limit {NAME}", f"empty {NAME} -", "made sbx-x {", "made",
        f"before sbx-x {record}",
        "whole - -",
    ]  # fmt: skip

    made = read_made(lines)

    assert made[NAME].record == record_of(MADE)
    assert made[NAME].limits == {"a1": [Limit("memory", "1", "2 3")]}
    assert not made[NAME].has_repo
    assert made["sbx-x"].record is None
    assert made["sbx-x"].before == record_of(MADE)


@pytest.mark.parametrize("lines", [[], ["made sbx-a {}"], ["whole - -", "made sbx-a {}"]])
def test_cut_off_is_an_error(lines: list[str]) -> None:
    """Records that were not printed are not taken for gone."""
    with pytest.raises(TransientError):
        read_made(lines)


def event(kind: str, action: str, name: str = "", **labels: str) -> dict[str, Any]:
    """Return an event as engines send it."""
    attributes = {"name": name} | {f"sandboxer.dev/{key}": value for key, value in labels.items()}
    return {"Type": kind, "Action": action, "Actor": {"ID": "x", "Attributes": attributes}}


OURS = {"uid": UID, "environment": "here"}


@pytest.mark.parametrize(
    ("told", "hint"),
    [
        (event("container", "die", **OURS), UID),
        (event("container", "update", **OURS), UID),
        (event("container", "exec_start: sh", **OURS), ""),
        (event("container", "die", uid=UID, environment="elsewhere"), ""),
        (event("container", "die", uid="../..", environment="here"), ""),
        (event("container", "die"), ""),
        (event("network", "disconnect", f"{NAME}_app_1"), NAME),
        (event("network", "destroy", f"{NAME}_default"), NAME),
        (event("network", "create", f"{NAME}_default"), ""),
        (event("volume", "remove", f"{NAME}_data"), NAME),
        ({"Type": "volume", "Action": "destroy", "Actor": {"ID": f"{NAME}_data", "Attributes": {"driver": "local"}}}, NAME),
        (event("volume", "remove", "sbx-of-a-stranger"), ""),
        (event("image", "remove", f"{NAME}_data"), ""),
        ({"Type": "container", "Action": "die"}, ""),
        ([], ""),
    ],
)  # fmt: skip
def test_events_name_whom_they_are_about(told: Any, hint: str) -> None:
    """A container's labels say it; of networks and volumes the name does."""
    assert hint_of(told, "here") == hint
