"""
End a command inside a sandbox whose caller has gone.

Neither engine ends the process inside a container when its client dies, a process that left its
group survives the group, and sshd passes no signal on to commands of root. So a command that is entered carries a mark of its own in its
environment, which its children inherit, and everything that carries it is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from sandboxer.errors import SandboxerError
from sandboxer.session import Session

_log = logging.getLogger(__name__)

VARIABLE = "SANDBOXER_EXEC"
"""Environment variable whose value is the mark."""

# Seconds until nothing of a command is left; SIGKILL needs a moment on a busy machine.
_END_LIMIT_S = 20.0

# Standard input is the mark: in an argument it would be found in this script's own processes.
# SIGHUP tells shells and editors that their terminal is gone; what stays gets SIGKILL. Nothing has
# to be seen twice, because an engine may be about to start the command when its client is killed.
END = """
mark=$(cat)
[ -n "$mark" ] || exit 1
marked() {
    printf '%s\\n' "$mark" | grep -lsF -f - /proc/[0-9]*/environ /proc/[0-9]*/cmdline |
        sed 's|^/proc/||; s|/.*||' | sort -u
}
signal=HUP rounds=0 empty=0
while [ "$empty" -lt 2 ] && [ "$rounds" -lt 50 ]; do
    pids=$(marked)
    if [ -n "$pids" ]; then
        empty=0
        kill -s "$signal" $pids 2>/dev/null
        [ "$signal" = KILL ] || kill -s CONT $pids 2>/dev/null
        [ "$rounds" -lt 3 ] || signal=KILL
    else
        empty=$((empty + 1))
    fi
    rounds=$((rounds + 1))
    sleep 0.1
done
[ "$empty" -gt 0 ]
"""

EndMore = Callable[[str], Awaitable[object]]


def new_mark() -> str:
    """Return a mark that no other command has."""
    return f"exec.{secrets.token_hex(16)}"


@asynccontextmanager
async def ended_with_caller(
    session: Session, mark: str, also: EndMore | None = None
) -> AsyncIterator[None]:
    """
    End everything that carries *mark* when the body is left by an error or a cancellation.

    Args:
        session: Where the command runs.
        mark: Its mark.
        also: A further way to end it, for what this user may not signal.
    """
    try:
        yield
    except BaseException:
        await asyncio.shield(_end(session, mark, also))
        raise


async def _end(session: Session, mark: str, also: EndMore | None) -> None:
    # NOTE: a host that does not answer keeps the command; the error on its way says so already, and
    # none of ours may take the place of a cancellation.
    with contextlib.suppress(SandboxerError):
        ended = await session.script(END, stdin=mark.encode(), timeout_s=_END_LIMIT_S)
        if ended.exit_status != 0:
            _log.warning(
                "what a command started on %s may still run: %s", session.host, ended.error_text()
            )
        if also is not None:
            await also(mark)
