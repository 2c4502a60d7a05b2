"""
The changing commands of one sandbox on one host, each under its lock, with their outcomes as types.
"""

from __future__ import annotations

from dataclasses import replace

from sandboxer.errors import InvalidSpecError, TerminalError, TransientError, Waiting
from sandboxer.extension import Instance
from sandboxer.kinds.host import HostFacts
from sandboxer.session import Completed, Session
from sandboxer_extensions.compose_ssh import scripts
from sandboxer_extensions.compose_ssh.made import Record

# Seconds one `up` may take on the host, pulls and builds included, before it is ended there.
UP_LIMIT_S = 540
# Seconds we wait for it: longer than the host's own limit, so that its answer is seen.
_UP_TIMEOUT_S = 570.0
# Seconds; a removal of 64 containers takes 4 on two cores.
_REMOVE_TIMEOUT_S = 120.0
# Seconds a removal queues behind a command that is still running. Commands that build something
# never queue: one that did, and whose controller died, could run after the removal.
_REMOVE_LOCK_WAIT_S = 20
# Of what the compose tool printed; its errors come last.
_PRINTED_CHARACTERS = 1500
# Seconds until it is worth looking whether the other command has ended.
_BUSY_RETRY_S = 2.0


async def locked(
    session: Session,
    short_id: str,
    script: str,
    *arguments: str,
    stdin: bytes = b"",
    timeout_s: float = 60.0,
    lock_wait_s: int = 0,
) -> Completed:
    """
    Run *script* under the sandbox's lock and judge the exit statuses that are ours.

    Raises:
        Waiting: A command from before is still running on the host.
        TerminalError: The workspace's path is taken by something that is not ours.
        InvalidSpecError: A link in the repository leads out of it.
        TransientError: The workspace could not be removed, or the host lacks the means.
    """
    if "flock" not in session.facts.tools:
        raise TerminalError(
            f"Host {session.host} has no flock, which keeps two commands apart.",
            reason="NoFlock",
            remedy="Install util-linux there.",
        )
    done = await session.script(
        scripts.LOCKED, session.facts.work_root, str(lock_wait_s), short_id, script, *arguments,
        stdin=stdin, timeout_s=timeout_s,
    )  # fmt: skip
    _judge(session, short_id, done)
    return done


def _judge(session: Session, short_id: str, done: Completed) -> None:
    where = f"{session.facts.work_root}/{short_id} on host {session.host}"
    if done.exit_status == 0:
        return
    if done.exit_status == scripts.LOCKED_STATUS:
        raise Waiting(
            f"An earlier command for {where} is still running.",
            retry_after_s=_BUSY_RETRY_S,
            reason="CommandRunning",
        )
    if done.exit_status == scripts.FOREIGN_STATUS:
        raise TerminalError(
            f"{where} is not this sandbox's workspace: its marker is missing or names another.",
            reason="NotOurs",
            remedy="Look at the directory and move it away.",
        )
    if done.exit_status == scripts.ESCAPE_STATUS:
        raise InvalidSpecError(
            f"{done.error_text(200)!r} leads out of the repository through a symbolic link.",
            field="spec.inputs.repo",
            reason="ComposeRefused",
        )
    raise TransientError(
        f"The command for {where} failed with status {done.exit_status}: {done.error_text()}"
    )


async def remove(session: Session, instance: Instance | None, environment: str, uid: str) -> None:
    """Remove everything that carries *uid*; *instance* is None when its manifest is lost."""
    if not session.facts.engine:
        raise TransientError(
            f"Host {session.host} has no container engine that answers, so what sandbox {uid} "
            "has there cannot be removed.",
            reason="NoEngine",
            remedy="Start the engine's service.",
        )
    short_id = f"sbx-{uid.replace('-', '')[:12]}"
    grace_s = int(getattr(instance.inputs, "stop_grace_s", 0)) if instance else 0
    await locked(
        session, short_id, scripts.REMOVE, uid, session.facts.engine, environment, str(grace_s),
        timeout_s=_REMOVE_TIMEOUT_S + grace_s, lock_wait_s=_REMOVE_LOCK_WAIT_S,
    )  # fmt: skip


def removal(facts: HostFacts, instance: Instance) -> tuple[str, ...]:
    """Return what `remove` runs, as a command for the host."""
    return (
        "sh", "-c", scripts.LOCKED, "sh", facts.work_root, str(_REMOVE_LOCK_WAIT_S),
        instance.short_id, scripts.REMOVE, instance.uid, facts.engine, instance.environment, "0",
    )  # fmt: skip


async def up(
    session: Session, script: str, instance: Instance, *arguments: str, stdin: bytes
) -> str:
    """Run one of the two `up` scripts; return the end of what the compose tool printed, redacted."""
    done = await locked(
        session, instance.short_id, script, instance.uid, *arguments,
        stdin=stdin, timeout_s=_UP_TIMEOUT_S,
    )  # fmt: skip
    return printed(done, instance)


async def keep_record(session: Session, instance: Instance, record: Record) -> None:
    """Keep what was made beside the workspace's marker, with the limits the kernel holds."""
    await locked(
        session, instance.short_id, scripts.RECORD, instance.uid, *record.containers,
        stdin=f"{record.model_dump_json()}\n".encode(),
    )  # fmt: skip


def printed(done: Completed, instance: Instance) -> str:
    """Return the end of what the tool printed, without the values of the instance's secrets."""
    text = done.stdout.decode("utf-8", "replace")
    for secret in instance.secrets.values():
        value = secret.get_secret_value()
        if value:
            text = text.replace(value, "***")
    # NOTE: cut only now, or half a secret would be left at the cut and not be known again.
    return replace(done, stdout=text.encode(), stderr=b"").error_text(_PRINTED_CHARACTERS)
