"""What somebody does to a compose sandbox behind our back, on real hosts: seen, told and mended."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sandboxer.errors import TransientError
from sandboxer.extension import Instance, Observation
from sandboxer.kinds.sandbox import Difference, Resources
from sandboxer.session import Session
from sandboxer.units import Quantity
from tests.integration.compose_lab import (
    ENVIRONMENT,
    EXTENSION,
    TWO_SERVICES,
    instance,
    observed,
    run_inside,
    until,
)
from tests.rig import Rig

# What is done, the path that must be told, and whether data is lost by it. Names: {app} and {db} are
# the containers, {id} the sandbox's short id, {ws} its workspace.
_HARMS = [
    pytest.param("podman kill {app}", "containers/app/state", False, id="killed"),
    pytest.param("podman stop -t 0 {app}", "containers/app/state", False, id="stopped"),
    pytest.param("podman pause {app}", "containers/app/state", False, id="paused"),
    pytest.param("podman rm -f -t 0 {app}", "containers/app", False, id="removed"),
    pytest.param("podman update --memory 128m {app}", "containers/app/memory", False, id="limit"),
    pytest.param("podman rename {app} other", "containers/app/name", False, id="renamed"),
    pytest.param(
        "podman network disconnect {id}_default {app}",
        "containers/app/networks", False, id="disconnected",
    ),
    pytest.param(
        "podman rm -f -t 0 {app} && podman run -d --name {id}_app_1 --network {id}_default "
        "{labels} --env CHANGED=1 localhost/sbx-base:1 sleep 999",
        "containers/app/id", False, id="made-by-hand",
    ),
    pytest.param(
        "podman run -d --name {id}_more {labels} localhost/sbx-base:1 sleep 999",
        "containers/{id}_more", False, id="one-too-many",
    ),
    pytest.param(
        "podman rm -f -t 0 --depend {db} && podman network rm {id}_default",
        "networks/default", False, id="network-removed",
    ),
    pytest.param(
        "podman rm -f -t 0 --depend {db} && podman volume rm {id}_data",
        "volumes/data", True, id="volume-removed",
    ),
    pytest.param(
        "podman rm -f -t 0 --depend {db} && podman volume rm {id}_data && sleep 1 && "
        "podman volume create {labels} {id}_data",
        "volumes/data", True, id="volume-made-by-hand",
    ),
    pytest.param("rm -rf {ws}", "workspace", True, id="workspace-deleted"),
    pytest.param("rm -rf {ws}/repo", "workspace/repo", True, id="repo-deleted"),
    pytest.param(
        "echo x > {ws}/.sandboxer.json", "workspace/marker", False, id="marker-damaged"
    ),
    pytest.param("echo x > {ws}/.made", "workspace/record", False, id="record-damaged"),
]  # fmt: skip


async def _made(rig: Rig, session: Session) -> Instance:
    """Provision a sandbox of two services, and return it as the engine knows it afterwards."""
    wanted = instance(
        rig, inputs={"compose": TWO_SERVICES}, resources=Resources(memory=Quantity("64Mi")),
        handle={"project": "known"},
    )  # fmt: skip
    await EXTENSION.provision(session, wanted)
    return wanted


def _words(wanted: Instance) -> dict[str, str]:
    """Return what stands for the braces of a harm."""
    of_it = f"podman ps -aq --filter label=sandboxer.dev/uid={wanted.uid} --filter"
    labels = wanted.labels() | {"sandboxer.dev/service": "app", "sandboxer.dev/expected": "db,app"}
    return {
        "app": f"$({of_it} label=sandboxer.dev/service=app)",
        "db": f"$({of_it} label=sandboxer.dev/service=db)",
        "id": wanted.short_id,
        "ws": f"/build/{wanted.short_id}",
        "labels": " ".join(f"--label {name}={value}" for name, value in labels.items()),
    }


async def _seen(session: Session, wanted: Instance) -> tuple[Observation, Observation]:
    """Return what a look at the one and a look at the whole host say."""
    whole = await EXTENSION.observe(session, ENVIRONMENT)
    one = await observed(session, wanted)
    assert one is not None
    return one, next(each for each in whole if each.uid == wanted.uid)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("harm", "path", "lost"), _HARMS)
async def test_every_drift_is_told_and_mended(
    rig: Rig, place: tuple[str, Session], harm: str, path: str, *, lost: bool
) -> None:
    """Each harm has its difference in both kinds of look, and is gone after one provision."""
    await _check(rig, place, harm=harm, path=path, lost=lost)


@pytest.mark.parametrize(
    ("harm", "path", "lost"),
    [each for each in _HARMS if each.id in ("made-by-hand", "volume-removed")],
)
async def test_a_drift_is_told_and_mended(
    rig: Rig, place: tuple[str, Session], harm: str, path: str, *, lost: bool
) -> None:
    """Another container and a lost volume are told, and mended by provision."""
    await _check(rig, place, harm=harm, path=path, lost=lost)


async def _check(rig: Rig, place: tuple[str, Session], *, harm: str, path: str, lost: bool) -> None:
    name, session = place
    wanted = await _made(rig, session)
    before = await _seen(session, wanted)
    words = _words(wanted)

    done = rig.ssh(name, harm.format(**words))
    assert done.returncode == 0, done.stderr
    one, whole = await _seen(session, wanted)
    await EXTENSION.provision(session, wanted)
    after = await _seen(session, wanted)

    assert [each.drift for each in before] == [(), ()]
    told = {each.path: each for each in one.drift}
    assert path.format(**words) in told, one.drift
    assert told[path.format(**words)].data_lost is lost
    assert whole.drift == one.drift
    assert [(each.state, each.drift) for each in after] == [("Running", ())] * 2
    assert len(rig.ssh(name, "podman ps -aq").stdout.split()) == len(("app", "db"))


async def test_a_limit_is_put_back(rig: Rig, h1: Session) -> None:
    """The limit the kernel holds is the wished one again, and the other container is left alone."""
    wanted = await _made(rig, h1)
    words = _words(wanted)
    ids = rig.ssh("h1", "podman ps -q --no-trunc").stdout.split()
    app, db = (rig.ssh("h1", f"echo {words[name]}").stdout.strip() for name in ("app", "db"))
    rig.ssh("h1", f"podman update --memory 128m --cpus 0.5 {app}")

    seen = await observed(h1, wanted)
    await EXTENSION.provision(h1, wanted)

    assert seen is not None
    assert seen.drift == (
        Difference(path="containers/app/cpu", wanted="no limit", seen="0.5"),
        Difference(path="containers/app/memory", wanted="64 MiB", seen="128 MiB"),
    )
    left = rig.ssh("h1", "podman ps -q").stdout.split()
    assert len(ids) == len(left)
    assert db in left
    assert app not in left


@pytest.mark.exhaustive
async def test_what_is_as_made_is_left_alone(rig: Rig, h1: Session) -> None:
    """Another provision of what is as it was made restarts nothing."""
    wanted = await _made(rig, h1)
    ids = rig.ssh("h1", "podman ps -q --no-trunc").stdout

    await EXTENSION.provision(h1, wanted)

    assert rig.ssh("h1", "podman ps -q --no-trunc").stdout == ids


async def test_files_deleted_with_the_repository_are_copied_again(
    rig: Rig, h1: Session, tmp_path: Path
) -> None:
    """A repository whose copy was deleted is copied again, and the container sees the new copy."""
    (tmp_path / "hello.txt").write_text("hi")
    wanted = instance(
        rig, handle={"project": "known"},
        inputs={"repo": str(tmp_path), "image": rig.image, "command": "sleep 1000"},
    )  # fmt: skip
    await EXTENSION.provision(h1, wanted)
    rig.ssh("h1", f"rm -rf /build/{wanted.short_id}/repo")

    await EXTENSION.provision(h1, wanted)

    assert await run_inside(h1, wanted, "cat", "/workspace/hello.txt") == (0, "hi")


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "harm",
    [
        pytest.param("podman pause {app}", id="paused"),
        pytest.param("podman network disconnect {id}_default {app}", id="disconnected"),
    ],
)
async def test_the_engine_tells_by_itself(rig: Rig, h1: Session, harm: str) -> None:
    """The event stream names the sandbox, by its uid or its short id."""
    wanted = await _made(rig, h1)
    hints: set[str] = set()

    async def follow() -> None:
        async for hint in EXTENSION.watch(h1, ENVIRONMENT):
            hints.add(hint)

    async def told() -> bool:
        # NOTE: again and again, because nobody says when the stream has begun.
        rig.ssh("h1", harm.format(**_words(wanted)))
        rig.ssh(
            "h1",
            "podman unpause -a; podman network connect {id}_default {app}".format(**_words(wanted)),
        )
        return bool(hints)

    following = asyncio.create_task(follow())
    await until(told)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)

    assert hints <= {wanted.uid, wanted.short_id}


@pytest.mark.exhaustive
async def test_what_somebody_else_put_in_its_place_is_left_alone(rig: Rig, h1: Session) -> None:
    """A container without our labels that has the name of ours stays; the failure names it."""
    wanted = await _made(rig, h1)
    stranger = "podman run -d --name {id}_app_1 localhost/sbx-base:1 sleep 999"
    rig.ssh("h1", ("podman rm -f -t 0 {app} && " + stranger).format(**_words(wanted)))

    seen = await observed(h1, wanted)
    with pytest.raises(TransientError, match="already in use"):
        await EXTENSION.provision(h1, wanted)

    assert seen is not None
    assert [one.path for one in seen.drift] == ["containers/app"]
    assert rig.ssh("h1", f"podman ps -q --filter name={wanted.short_id}_app_1").stdout
