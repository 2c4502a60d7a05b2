"""Local processes: a start that is cancelled at any moment ends, and leaves nothing running."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import PIPE
from contextlib import suppress
from pathlib import Path

import pytest

from sandboxer.transport.processes import CannotStartError, reap_process, start_process

SLEEP = ("sleep", "1000")

# Turns of the event loop that a start takes, and some more.
TURNS = range(12)


def children() -> set[str]:
    """Return the processes of this one that have not been waited for."""
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    found: set[str] = set()
    for task in tasks:
        with suppress(FileNotFoundError):  # A thread may end meanwhile.
            found.update((task / "children").read_text().split())
    return found


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("count", TURNS)
async def test_cancelled_start_leaves_no_process(count: int) -> None:
    """Cancelled after each turn of the event loop, the caller hears of it at once."""
    before = children()
    starting = asyncio.create_task(start_process(SLEEP, PIPE))
    await turns(count)

    starting.cancel()
    async with asyncio.timeout(30):
        with suppress(asyncio.CancelledError):
            await reap_process(await starting)

    assert children() <= before


async def test_a_program_that_is_not_there_is_told_as_a_shell_does() -> None:
    """127 is "not found" there, see "Exit Status" of sh(1)."""
    with pytest.raises(CannotStartError) as failed:
        await start_process(("/no/such/program",), PIPE)

    assert failed.value.exit_status == 127
