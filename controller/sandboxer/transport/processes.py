"""
Starting a local process and ending it with its children, whenever the caller is cancelled.

Every process gets a session of its own, so that its group can be killed as one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence


class CannotStartError(Exception):
    """The program cannot be started; told as a shell tells it, as on every other machine."""

    def __init__(self, program: str, err: OSError) -> None:
        # 127 not found, 126 found but not executable: "Exit Status" of sh(1).
        self.exit_status = 127 if isinstance(err, FileNotFoundError) else 126
        self.text = f"{program[:80]}: {err.strerror}\n".encode("utf-8", "replace")
        super().__init__(program)


async def start_process(
    argv: Sequence[str], streams: int, *, preexec_fn: Callable[[], None] | None = None
) -> Process:
    """
    Start a program; a caller that is cancelled meanwhile leaves no process behind.

    Args:
        argv: Program and arguments.
        streams: `PIPE`, or the descriptor that becomes stdin, stdout and stderr.
        preexec_fn: Called in the new process before the program.

    Raises:
        CannotStartError: There is no such program, or it may not be run.
    """
    # NOTE: asyncio, cancelled before all pipes are connected, waits for ever for them to close.
    starting = asyncio.create_task(
        asyncio.create_subprocess_exec(
            *argv, stdin=streams, stdout=streams, stderr=streams,
            start_new_session=True, preexec_fn=preexec_fn,
        )
    )  # fmt: skip
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting])
        if starting.exception() is None:
            await reap_process(starting.result())
        raise
    except OSError as err:
        raise CannotStartError(argv[0], err) from err


def kill_group(process: Process) -> None:
    """Kill a process and its children."""
    # NOTE: only while the leader is not reaped; later its number may belong to somebody else.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def reap_process(process: Process) -> None:
    """Kill what is left of a process, close its pipes and wait for its end."""
    kill_group(process)
    # NOTE: asyncio's wait() waits for the pipes too, and a grandchild may hold them for hours.
    # Closing the whole transport instead would race with the child watcher for the exit status.
    for descriptor in range(3):
        pipe = process._transport.get_pipe_transport(descriptor)  # type: ignore[attr-defined]  # noqa: SLF001 - asyncio has no public way
        if pipe is not None:
            pipe.close()
    await asyncio.shield(process.wait())
