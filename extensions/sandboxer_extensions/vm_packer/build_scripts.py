"""The scripts of mode `build`: where they work, how they are run and what their end means."""

from __future__ import annotations

import re

from sandboxer.errors import InvalidSpecError, TerminalError, TransientError
from sandboxer.session import Completed, Session
from sandboxer_extensions.vm_packer.scripting import run_script, script_text

# sysexits.h, as the scripts use them: 64 the template is wrong, 65 a person must act.
EXIT_INVALID = 64
EXIT_TERMINAL = 65

# Seconds. Waiting for the lock (30 s), Packer's cleanup (10 s of it in one call) and its judgement
# of a template (100 s) stay below.
SCRIPT_TIMEOUT_S = 160.0


def builds(session: Session) -> str:
    """Return the directory of the builds on a machine."""
    return f"{session.facts.work_root.rstrip('/')}/builds"


async def run(
    session: Session,
    name: str,
    environment: str,
    uid: str,
    *arguments: str,
    stdin: bytes = b"",
    timeout_s: float = SCRIPT_TIMEOUT_S,
) -> Completed:
    """Run `scripts/build_<name>.sh` for the build of a uid, or for all of them when it is empty."""
    return await run_script(
        session, script_text("shared", "build_shared", f"build_{name}"),
        f"{builds(session)}/.none", builds(session), _short_id(uid), uid, environment, *arguments,
        stdin=stdin, timeout_s=timeout_s,
    )  # fmt: skip


async def changing(
    session: Session,
    name: str,
    environment: str,
    uid: str,
    *arguments: str,
    stdin: bytes = b"",
    timeout_s: float = SCRIPT_TIMEOUT_S,
) -> str:
    """Run a script that changes something of one build; return its last line."""
    completed = await run(
        session, name, environment, uid, *arguments, stdin=stdin, timeout_s=timeout_s
    )
    check(completed, f"cannot {name} the build {_short_id(uid)} on {session.host}")
    return (completed.stdout.decode("utf-8", "replace").strip().splitlines() or [""])[-1]


def check(completed: Completed, doing: str) -> None:
    """
    Turn an exit status of the scripts into an outcome.

    Raises:
        TerminalError: A person must look at what the message names.
        TransientError: It may work later.
    """
    if completed.exit_status == 0:
        return
    message = f"{doing[0].upper()}{doing[1:]}: {completed.error_text()}"
    if completed.exit_status == EXIT_TERMINAL:
        raise TerminalError(
            message, reason="BuildRefused", remedy="Look at the named path on the machine."
        )
    raise TransientError(message)


def _short_id(uid: str) -> str:
    """
    Return the name of a uid's resources, as `Instance.short_id` makes it; empty for no uid.

    Raises:
        InvalidSpecError: It is no UUID, so it could name a file elsewhere.
    """
    if uid and not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", uid):
        raise InvalidSpecError(f"{uid[:40]!r} is not the uid of a sandbox.", field="metadata.uid")
    return f"sbx-{uid.replace('-', '')[:12]}" if uid else ""
