"""Lifetimes end at their time: announced once, over clocks that jump and controllers that restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sandboxer.engine.clockwatch import CLOCK_WATCH_S
from sandboxer.errors import TerminalError
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.store import Store
from sandboxer.testing.builders import host, profile, sandbox
from tests.changing import change_spec
from tests.integration.engine_lab import Lab, open_lab

HOUR_S = 3600.0
ANNOUNCED_S = HOUR_S - 360


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(tmp_path) as opened:
        await opened.store.create(profile())
        await opened.store.create(host())
        yield opened


async def live(lab: Lab, **lifetime: Any) -> str:
    """Create a sandbox with a lifetime and let it become ready; return its uid."""
    created = await lab.store.create(sandbox(lifetime=lifetime or {"ttl": "1h"}))
    await lab.until(lambda: lab.is_true("Ready"))
    return created.metadata.uid


def is_gone(lab: Lab) -> bool:
    return lab.store.get(Sandbox, "hello") is None


def is_announced(lab: Lab) -> bool:
    expired = lab.sandbox().status.condition("Expired")
    return expired is not None and expired.reason == "ExpiresSoon"


async def reasons(store: Store, uid: str) -> list[str]:
    return [each.reason for each in await store.transitions(uid)]


def left_s(lab: Lab) -> float:
    expires_at = lab.sandbox().status.expires_at
    assert expires_at is not None
    return (expires_at - lab.clock.now()).total_seconds()


async def test_announced_once(lab: Lab) -> None:
    """The end is announced before it comes, once, whatever happens to the sandbox until then."""
    uid = await live(lab)

    await lab.until(lambda: is_announced(lab), step_s=5)
    when_s = left_s(lab)
    await _change(lab, env={"A": "1"})
    await lab.until(lambda: lab.is_true("Ready"))
    await lab.until(lambda: is_gone(lab), step_s=5)

    assert 300 < when_s <= 360
    told = await reasons(lab.store, uid)
    assert told.count("ExpiresSoon") == 1
    assert told.index("ExpiresSoon") < told.index("Expired")


async def test_absolute_expiry(lab: Lab) -> None:
    """A lifetime can end at a moment, whenever the sandbox was made."""
    uid = await live(lab, expiresAt="2026-01-01T14:30:00+01:00")

    lasts_s = left_s(lab)
    lab.clock.advance(lasts_s - 30)
    await lab.until(lambda: is_gone(lab), step_s=0.5)

    assert 5000 < lasts_s <= 5400
    (tombstone,) = await lab.store.tombstones(uid=uid)
    assert tombstone.deleted_by == "expiry"
    assert f"{tombstone.deletion_requested_at:%H:%M}" == "13:30"


async def test_extended_is_announced_again(lab: Lab) -> None:
    """A longer lifetime takes the announcement back, and its own end is announced."""
    uid = await live(lab)
    await lab.until(lambda: is_announced(lab), step_s=5)

    await _change(lab, lifetime={"ttl": "3h"})
    await lab.until(lambda: not is_announced(lab))
    alive_s = left_s(lab)
    await lab.until(lambda: is_gone(lab), step_s=20)

    assert alive_s > 2 * HOUR_S
    assert (await reasons(lab.store, uid)).count("ExpiresSoon") == 2


async def test_clock_set_forward(lab: Lab) -> None:
    """A wall clock that was set forward beyond the end ends it within seconds, ready or stalled."""
    await live(lab)
    lab.world.fail("provision", TerminalError("No engine."))
    await lab.store.create(sandbox("stalled", lifetime={"ttl": "1h"}))
    await lab.until(lambda: lab.is_true("Stalled", "stalled"))

    lab.clock.jump(2 * HOUR_S)
    start_s = lab.clock.monotonic_s()
    await lab.until(lambda: is_gone(lab) and lab.store.get(Sandbox, "stalled") is None)

    assert lab.clock.monotonic_s() - start_s < 3 * CLOCK_WATCH_S


async def test_clock_set_back(lab: Lab) -> None:
    """A wall clock that was set back makes it live until its moment has come by that clock."""
    uid = await live(lab)
    await lab.until(lambda: is_announced(lab), step_s=5)

    lab.clock.jump(-2 * HOUR_S)
    for _ in range(60):
        lab.clock.advance(100)
        await lab.idle()
    alive, ago_s = not is_gone(lab), left_s(lab)
    await lab.until(lambda: is_gone(lab), step_s=5)

    assert alive
    assert ago_s > 1000
    assert (await reasons(lab.store, uid)).count("ExpiresSoon") == 1


@pytest.mark.parametrize(
    "away_s",
    [
        pytest.param(ANNOUNCED_S - 60, id="before-announcement"),
        pytest.param(ANNOUNCED_S + 60, id="before-end"),
        pytest.param(HOUR_S + 60, id="after-end"),
    ],
)
async def test_controller_was_away(tmp_path: Path, away_s: float) -> None:
    """A controller that comes back after any time announces what is left to announce, and ends it."""
    async with open_lab(tmp_path) as first:
        await first.store.create(profile())
        await first.store.create(host())
        uid = await live(first)
        made_at, world = first.sandbox().metadata.creation_timestamp, first.world
        assert made_at is not None
    async with open_lab(tmp_path, world=world) as second:
        now = second.clock.now()
        second.clock.jump(away_s - (now - made_at).total_seconds())
        await second.until(lambda: is_gone(second), step_s=5)
        told = await reasons(second.store, uid)
        (tombstone,) = await second.store.tombstones(uid=uid)

    assert told.count("ExpiresSoon") == (0 if away_s > HOUR_S else 1)
    assert tombstone.deleted_by == "expiry"
    assert tombstone.deletion_requested_at is not None
    late_s = (tombstone.deletion_requested_at - made_at).total_seconds() - max(HOUR_S, away_s)
    assert 0 <= late_s < 60
    assert world.things == {}


async def _change(lab: Lab, **spec: Any) -> None:
    await change_spec(lab.store, Sandbox, lab.sandbox().metadata.name, **spec)
