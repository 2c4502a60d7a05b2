"""`sinks` as a person uses it: a slip in a name or a number is said, not taken for good news."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sandboxer.clock import SystemClock
from sandboxer.store import Registration, Store
from sandboxer.testing.builders import sandbox
from tests.e2e.installation import Installation

LETTERS = 3


async def _give_up(data_dir: Path) -> list[int]:
    """Have a sink that gave up an event of each of some sandboxes; return their numbers."""
    store = await Store.open(data_dir / "store.db", clock=SystemClock())
    await store.deliveries.register([Registration(name="state-hub", url="https://hub/…")])
    for number in range(LETTERS):
        await store.create(sandbox(f"s{number}"))
    due = await store.deliveries.due("state-hub", limit=LETTERS, furthest_s=600)
    for letter in due:
        await store.deliveries.bury(letter, "It answered 410.")
    await store.close()
    return [letter.position for letter in due]


def test_slips(tmp_path: Path) -> None:
    """An unknown sink is refused with the one that was meant; missing numbers are named."""
    installation = Installation(tmp_path)
    first, second, _ = asyncio.run(_give_up(tmp_path / "data"))

    dead = installation.run("sinks", "dead", "state-hup")
    whole = installation.run("sinks", "retry", "--sink", "state-hup")
    some = installation.run("sinks", "retry", "998", str(second), "999", str(first))

    for refused in (dead, whole):
        assert refused.returncode == 4
        assert 'Did you mean "state-hub"?' in refused.stderr
    assert (some.returncode, some.stdout) == (4, "2 sent again\n")
    assert "no dead letter 998, 999 of" in some.stderr
