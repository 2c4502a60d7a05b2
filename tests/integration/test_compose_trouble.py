"""`ext.compose-ssh` on real hosts when something goes wrong: drift, ghosts, things of others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr

from sandboxer.errors import (
    InvalidSpecError,
    SandboxerError,
    TerminalError,
    TransientError,
    Waiting,
)
from sandboxer.extension import Instance
from sandboxer.session import Session
from tests.integration.compose_lab import (
    ENVIRONMENT,
    EXTENSION,
    LISTING,
    PATIENCE_S,
    TWO_SERVICES,
    instance,
    observed,
    open_session,
    run_inside,
    settle,
    state,
    until,
)
from tests.rig import Rig


@pytest.mark.exhaustive
async def test_drift_is_seen_and_healed(rig: Rig, place: tuple[str, Session]) -> None:
    """Killed, paused and removed containers are told apart, and provision heals each."""
    name, session = place
    wanted = instance(rig, inputs={"compose": TWO_SERVICES})
    await EXTENSION.provision(session, wanted)
    of_it = f"podman ps -aq --filter label=sandboxer.dev/uid={wanted.uid}"
    app = f"$({of_it} --filter label=sandboxer.dev/service=app)"

    for harm, expected in (
        (f"podman kill {app}", "Stopped"),
        (f"podman pause {app}", "Stopped"),
        (f"podman rm -f -t 0 --depend {app}", "Incomplete"),
        (f"podman rm -f -t 0 --depend $({of_it})", "Incomplete"),
    ):  # fmt: skip
        rig.ssh(name, harm)

        seen = await observed(session, wanted)

        assert seen is not None
        assert seen.state == expected
        assert "app" in seen.message
        await EXTENSION.provision(session, wanted)
        assert await state(session, wanted) == "Running"


async def test_a_lost_workspace_is_seen_and_made_again(
    rig: Rig, place: tuple[str, Session]
) -> None:
    """Containers without their workspace are Incomplete; a workspace without containers too."""
    name, session = place
    wanted = instance(rig)
    await EXTENSION.provision(session, wanted)

    rig.ssh(name, "rm -rf /build/sbx-*")
    without_workspace = await state(session, wanted)
    await EXTENSION.provision(session, wanted)
    rig.ssh(name, "podman rm -fa -t 0; podman network prune -f")
    without_containers = await state(session, wanted)

    assert without_workspace == without_containers == "Incomplete"


async def test_a_killed_container_is_reported_by_the_watch(rig: Rig, h1: Session) -> None:
    """The uid of a sandbox whose container dies comes through the event stream."""
    wanted = instance(rig)
    await EXTENSION.provision(h1, wanted)
    stream = EXTENSION.watch(h1, ENVIRONMENT)
    first = asyncio.ensure_future(anext(stream))

    async def told() -> bool:
        rig.ssh("h1", "podman restart -t 0 $(podman ps -aq)")
        return first.done()

    await until(told)

    assert first.result() == wanted.uid
    await stream.aclose()  # type: ignore[attr-defined]


async def test_a_failed_up_says_what_the_tool_said(rig: Rig, h1: Session) -> None:
    """An image that cannot be had is a failure for now, with the tool's words and no secret."""
    wanted = instance(
        rig, inputs={"image": "localhost/nowhere:1"}, secrets={"T": SecretStr("nowhere")}
    )

    with pytest.raises(TransientError) as caught:
        await EXTENSION.provision(h1, wanted)

    assert "service main has no container" in caught.value.message.lower()
    assert "nowhere" not in caught.value.message
    assert await state(h1, wanted) == "Incomplete"
    await EXTENSION.teardown(h1, wanted)
    assert rig.ssh("h1", LISTING).stdout == ""


async def test_a_link_planted_inside_does_not_lead_out(
    rig: Rig, h1: Session, tmp_path: Path
) -> None:
    """A mount source replaced by a link to a host directory is refused before anything starts."""
    (tmp_path / "data").mkdir()
    (tmp_path / "compose.yaml").write_text(
        f"services:\n  web:\n    image: {rig.image}\n    command: [sleep, '1000']\n"
        "    volumes: ['./:/src', './data:/data']\n"
    )
    wanted = instance(rig, inputs={"repo": str(tmp_path)})
    await EXTENSION.provision(h1, wanted)
    await run_inside(h1, wanted, "sh", "-c", "rm -r /src/data; ln -s /root /src/data")
    rig.ssh("h1", "podman rm -fa -t 0")

    with pytest.raises(InvalidSpecError, match="symbolic link"):
        await EXTENSION.provision(h1, wanted)

    assert rig.ssh("h1", "podman ps -aq").stdout == ""
    await EXTENSION.teardown(h1, wanted)
    assert rig.ssh("h1", LISTING).stdout == ""


async def test_teardown_leaves_the_data_of_others(rig: Rig, place: tuple[str, Session]) -> None:
    """A volume of another sandbox stays, also in a moment when no container uses it."""
    name, session = place
    ours, other = (instance(rig, inputs={"compose": TWO_SERVICES}) for _ in range(2))
    await EXTENSION.provision(session, other)
    await EXTENSION.provision(session, ours)
    rig.ssh(name, f"podman rm -f -t 0 --depend $(podman ps -aq --filter name={other.short_id})")

    await EXTENSION.teardown(session, ours)

    assert rig.ssh(name, "podman volume ls -q").stdout == f"{other.short_id}_data\n"
    assert await state(session, ours) == "Absent"


async def test_a_workspace_that_is_not_ours_is_left_alone(rig: Rig, h1: Session) -> None:
    """A directory at the workspace's place without our marker stops provision and teardown."""
    wanted = instance(rig)
    rig.ssh("h1", f"mkdir /build/{wanted.short_id} && touch /build/{wanted.short_id}/theirs")

    with pytest.raises(TerminalError, match="not this sandbox's workspace"):
        await EXTENSION.provision(h1, wanted)
    with pytest.raises(TerminalError, match="not this sandbox's workspace"):
        await EXTENSION.teardown(h1, wanted)

    assert rig.ssh("h1", f"ls /build/{wanted.short_id}").stdout == "theirs\n"


async def test_reap_removes_ours_and_refuses_others(rig: Rig, place: tuple[str, Session]) -> None:
    """An orphan goes by its uid alone, unless it is another installation's."""
    name, session = place
    ours, theirs = instance(rig), instance(rig, environment="env-2")
    await EXTENSION.provision(session, ours)
    await EXTENSION.provision(session, theirs)

    await EXTENSION.reap(session, ENVIRONMENT, ours.uid)
    await EXTENSION.reap(session, ENVIRONMENT, ours.uid)
    with pytest.raises(TerminalError, match="env-2"):
        await EXTENSION.reap(session, ENVIRONMENT, theirs.uid)

    assert await EXTENSION.observe(session, ENVIRONMENT) == []
    assert len(await EXTENSION.observe(session, "env-2")) == 1
    assert len(rig.ssh(name, "podman ps -q").stdout.split()) == 1


async def test_a_ghost_up_is_waited_for_and_leaves_nothing(rig: Rig, h1: Session) -> None:
    """While a command of a dead controller runs, ours waits; after teardown nothing is left."""
    wanted = instance(rig, inputs={"compose": TWO_SERVICES})
    async with open_session(rig, "h1") as dying:
        ghost = asyncio.create_task(EXTENSION.provision(dying, wanted))
        await until(lambda: _locked(rig, wanted))
        ghost.cancel()
        with pytest.raises((asyncio.CancelledError, SandboxerError)):
            await ghost

    with pytest.raises(Waiting, match="earlier command"):
        await EXTENSION.provision(h1, wanted)
    await settle(lambda: EXTENSION.teardown(h1, wanted))

    assert await observed(h1, wanted) is None
    assert rig.ssh("h1", LISTING).stdout == ""


async def _locked(rig: Rig, wanted: Instance) -> bool:
    lock = f"/build/.locks/{wanted.short_id}"
    return rig.ssh("h1", f"test -e {lock} && ! flock -n {lock} true").returncode == 0


@pytest.mark.parametrize(
    "delay_s",
    [0.25, 1.0, *(pytest.param(s, marks=pytest.mark.exhaustive) for s in (0.05, 0.5, 0.75, 1.4))],
)
async def test_power_loss_during_up_heals(rig: Rig, h1: Session, delay_s: float) -> None:
    """All commands of a provision killed at some moment: the next one completes it."""
    wanted = instance(rig, inputs={"compose": TWO_SERVICES})
    doomed = asyncio.create_task(EXTENSION.provision(h1, wanted))
    # NOTE: a chosen moment, not a wait for something; each one leaves another partial state.
    await asyncio.sleep(delay_s)
    rig.ssh("h1", "pkill -9 flock; pkill -9 -f podman_compose; pkill -9 -x podman-compose; "
                  "pkill -9 -f 'podman (create|start|network|volume) '")  # fmt: skip
    await asyncio.wait([doomed], timeout=PATIENCE_S)

    await settle(lambda: EXTENSION.provision(h1, wanted))

    assert await state(h1, wanted) == "Running"
    await settle(lambda: EXTENSION.teardown(h1, wanted))
    assert await observed(h1, wanted) is None
    assert rig.ssh("h1", LISTING).stdout == ""
