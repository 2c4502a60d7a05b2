"""
Mode `attach`: a workspace with a copy of a repository on a VM that stays.

Each method is one script on the VM, and one rsync where there is something to copy. What is made
there, whose it is and how its processes are found stands in `docs/design/0003-vm-attach.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sandboxer.errors import InvalidSpecError, TerminalError, TransientError, UnreachableError
from sandboxer.extension import Instance, Observation, Offer, Provisioned
from sandboxer.kinds.host import Host, HostFacts, HostSpec
from sandboxer.kinds.sandbox import IsolationSeen
from sandboxer.session import Completed, Copying, Session, Streams
from sandboxer_extensions.ending import VARIABLE, new_mark
from sandboxer_extensions.local import launching
from sandboxer_extensions.local.observing import labels_text
from sandboxer_extensions.vm_packer import aliases, gitignores, inputs, observing, ports, reaching
from sandboxer_extensions.vm_packer.inputs import DEFAULT_ROOT, VMInputs
from sandboxer_extensions.vm_packer.scripting import run_script, script_text

# sysexits.h, as `scripts/shared.sh` uses them.
EXIT_TERMINAL = 65

# Seconds. Waiting for the lock (30 s) and killing (2 s) stay far below; removing a big tree may not.
SCRIPT_TIMEOUT_S = 120.0
REMOVE_TIMEOUT_S = 900.0

# Seconds for one copy; what arrived until then is kept, and the next call goes on with it. Below
# the 1800 s the engine gives an action.
COPY_TIMEOUT_S = 1700.0

# Seconds between two lines about the progress of a copy.
TELL_INTERVAL_S = 2.0

# KiB that must be free before anything is made: less is gone before the first compiler runs.
LEAST_FREE_KILOBYTES = 64 * 1024

# Characters of a command in the log.
COMMAND_LENGTH = 200

ISOLATION_DETAIL = (
    "a directory on a machine that others use too: processes, network and files of the login user "
    "are shared, and limits are not enforced"
)


@dataclass(frozen=True)
class Attach:
    """The methods of `ext.vm-packer` for workspaces."""

    def host_name(self, wished: VMInputs) -> str:
        """Return the Host that `vm` means; an explicit port must be the VM's."""
        if wished.tunnel_port is not None:
            ports.tunnel_port(wished.target, wished.tunnel_port)
        return inputs.host_name(wished)

    def find_host(self, wished: VMInputs) -> HostSpec:
        """Describe the VM behind an alias of the SSH configuration."""
        known = aliases.known_aliases()
        if wished.target not in known:
            raise InvalidSpecError(
                f"There is no host {inputs.host_name(wished)}, and {wished.target!r} is no alias "
                f"of the SSH configuration. It has: {', '.join(known[:20]) or 'none'}.",
                field="spec.inputs.vm",
                reason="VMNotFound",
                remedy="Add a `Host` entry to ~/.ssh/config of the controller's user, or apply a "
                "Host document.",
            )
        port = ports.tunnel_port(wished.target, wished.tunnel_port)
        return HostSpec(ssh_alias=wished.target, tunnel_port=port)

    def offer(self, host: Host, wished: VMInputs) -> Offer:
        """Fit on exactly the VM that is named, when it has what is needed."""
        if objection := _objection(host, wished):
            return Offer(fits=False, reason=objection)
        return Offer(fits=True, reason=f"a workspace below {wished.root}")

    async def provision(self, session: Session, instance: Instance) -> Provisioned:
        """Make the workspace, and copy the repository into it unless that was done."""
        wished = _inputs(instance)
        if instance.ports:
            raise InvalidSpecError(
                f"Sandbox {instance.name} asks for ports, and programs on a VM are reachable on "
                "the port they listen on.",
                field="spec.ports",
                remedy="Remove spec.ports and use `sandboxer port-forward`.",
            )
        repo = launching.repository(wished.repo)
        directory = _directory(instance)
        answer = await _changing(
            session, "provision", instance.environment, instance.uid,
            wished.root, directory.rpartition("/")[2], labels_text(instance.labels()),
            instance.spec_hash, "yes" if repo else "no", str(LEAST_FREE_KILOBYTES),
            stdin=f"{instance.manifest}\n".encode(),
        )  # fmt: skip
        if answer == "copy":
            told = await _copy(session, repo, directory, wished)
            await _changing(
                session, "synced", instance.environment, instance.uid,
                directory, instance.spec_hash, told,
            )  # fmt: skip
        elif answer != "ready":
            raise TransientError(f"Making {directory} ended unclearly: {answer[:100]!r}.")
        return _provisioned(session, instance, directory)

    async def recall(self, session: Session, instance: Instance) -> Provisioned:
        """Say where the workspace is; all of it follows from the inputs."""
        return _provisioned(session, instance, _directory(instance))

    async def wait_ready(self, session: Session, instance: Instance) -> None:
        """Return when the workspace is whole; there is nothing to wait for."""
        seen, _ = await self.observe(session, instance.environment, instance.uid)
        if not seen or seen[0].state != "Running":
            why = seen[0].message if seen else "It is gone."
            raise TransientError(f"The workspace of {instance.name} is not whole: {why}")

    async def observe(
        self, session: Session, environment: str, uid: str = ""
    ) -> tuple[Sequence[Observation], bool]:
        """Read the markers in all roots in one script; tell too whether builds may be there."""
        completed = await _run(session, "observe", environment, uid)
        _check(completed, f"cannot observe the workspaces on {session.host}")
        seen = observing.read_observations(
            completed.stdout, environment=environment, extension="ext.vm-packer", uid=uid
        )
        return seen, observing.BUILDS in completed.stdout.splitlines()

    def removal(self, facts: HostFacts, instance: Instance) -> tuple[str, ...]:
        """Return what `reap` runs, as a command for the VM."""
        arguments = _arguments(facts, instance.environment, instance.uid)
        return ("sh", "-c", script_text("shared", "remove"), "sh", *arguments)

    async def reap(self, session: Session, environment: str, uid: str) -> bool:
        """Kill every process of the workspace and remove it; tell whether builds may be there."""
        answer = await _changing(session, "remove", environment, uid, timeout_s=REMOVE_TIMEOUT_S)
        return answer.encode() == observing.BUILDS

    async def exec(
        self, session: Session, instance: Instance, argv: Sequence[str], streams: Streams
    ) -> int:
        """Run a command in the work directory, with the login's environment and the sandbox's."""
        # The environment travels in a file that the command opens and removes: stdin is the
        # user's, and arguments can be read by everybody.
        mark, directory = new_mark(), _directory(instance)
        # What a terminal shows is for eyes, and what `tar` prints is a copy under way.
        logged = streams.terminal is None and argv[0].rpartition("/")[2] != "tar"
        command = [
            "env", f"SANDBOXER_ID={instance.environment}/{instance.uid}", f"{VARIABLE}={mark}",
            "sh", "-c", script_text("exec"), "sandboxer", directory,
            mark, "yes" if logged else "no", *argv,
        ]  # fmt: skip
        async with _ended_with_caller(session, instance, mark):
            # To its end, cancelled or not: an environment that arrives later would stay.
            await _to_its_end(
                _changing(
                    session, "enter", instance.environment, instance.uid, directory, mark,
                    f"exec {_shown(argv)}", stdin=launching.environment_text(instance),
                )
            )  # fmt: skip
            return await session.stream(command, streams)

    async def logs(
        self, session: Session, instance: Instance, streams: Streams,
        *, follow: bool, tail: int | None,
    ) -> None:  # fmt: skip
        """Print what is kept of the log, about 8 MiB and the output of the last command."""
        lines = "" if tail is None else str(max(0, tail))
        argv = ["sh", "-c", script_text("logs"), "sandboxer", _directory(instance), lines]
        await session.stream([*argv, "yes" if follow else "no"], streams)


def _objection(host: Host, wished: VMInputs) -> str:
    """Return why the VM cannot be worked on as wished, empty when it can."""
    spec, tools = host.spec, host.status.facts.tools
    if spec.transport != "ssh":
        return "a VM is reached over SSH, and this host is the controller's own machine"
    if spec.ssh_alias is not None and wished.target not in (spec.ssh_alias, host.metadata.name):
        return f"it is the alias {spec.ssh_alias}, and the sandbox names {wished.target}"
    here = spec.tunnel_port or (spec.port if spec.address in ("127.0.0.1", "localhost") else None)
    if wished.tunnel_port not in (None, here):
        way = f"through tunnel port {here}" if here else "directly"
        return (
            f"it is reached {way}, and the sandbox asks for tunnel port {wished.tunnel_port}; "
            "change spec.tunnelPort of the Host"
        )
    if wished.repo and "rsync" not in tools:
        return "rsync must be installed there"
    if spec.ssh_alias is not None and spec.tunnel_port is not None:
        return ports.objection(spec.ssh_alias, spec.tunnel_port)
    return ""


def _inputs(instance: Instance) -> VMInputs:
    assert isinstance(instance.inputs, VMInputs), "the extension has checked it"
    return instance.inputs


def _directory(instance: Instance) -> str:
    wished = _inputs(instance)
    return wished.workspace_dir or f"{wished.root}/{instance.short_id}"


def _provisioned(session: Session, instance: Instance, directory: str) -> Provisioned:
    limits = [
        name for name in ("cpu", "memory", "pids") if getattr(instance.resources, name) is not None
    ]
    return Provisioned(
        handle={"workspace": directory},
        reachability=reaching.reachability(session.target, _inputs(instance), f"{directory}/work"),
        isolation=IsolationSeen(level="none", detail=ISOLATION_DETAIL),
        message=f"The limits on {', '.join(limits)} are not enforced on a VM." if limits else "",
    )


@dataclass(slots=True)
class _Teller:
    """Writes how far a copy is into the log of the workspace, from time to time."""

    session: Session
    directory: str
    repo: str
    report: str = ""
    _task: asyncio.Task[None] | None = field(default=None, init=False)

    def take(self, report: str) -> None:
        self.report = report

    @asynccontextmanager
    async def telling(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._tell())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _tell(self) -> None:
        told = ""
        while True:
            await asyncio.sleep(TELL_INTERVAL_S)
            if self.report == told:
                continue
            told = self.report
            with contextlib.suppress(TransientError):
                await self.session.script(
                    script_text("tell"), self.directory, f"copying {self.repo}: {told}"
                )


async def _copy(session: Session, repo: str, directory: str, wished: VMInputs) -> str:
    """Copy the repository and return a sentence about it."""
    if wished.filters == "gitignore":
        await asyncio.to_thread(gitignores.check_gitignores, repo)
    teller, started = _Teller(session, directory, repo), time.monotonic()
    copying = Copying(
        filters=(":- .gitignore",) if wished.filters == "gitignore" else (),
        resumable=True,
        progress=teller.take,
    )
    try:
        async with teller.telling():
            await session.upload(
                repo, f"{directory}/work", copying=copying, timeout_s=COPY_TIMEOUT_S
            )
    except UnreachableError:
        raise
    except TransientError as error:
        raise TransientError(
            f"{error.message} On {directory.rpartition('/')[0]} {await _free(session, directory)}.",
            reason=error.reason,
            remedy="Make room or raise the quota of the login user, if that is why; the copy goes "
            "on where it stopped.",
        ) from error
    return f"copied {repo} in {time.monotonic() - started:.1f} s ({teller.report or 'no change'})"


async def _free(session: Session, directory: str) -> str:
    completed = await session.script(script_text("free"), directory)
    words = completed.stdout.decode("utf-8", "replace").split()
    return " ".join("".join(c for c in word if c.isprintable()) for word in words)[:300]


@asynccontextmanager
async def _ended_with_caller(
    session: Session, instance: Instance, mark: str
) -> AsyncIterator[None]:
    """
    End the command when the caller goes, and remove its environment if it did not come to that.

    `ending.END` needs a grep that reads beyond a NUL.
    """
    try:
        yield
    except BaseException:
        await asyncio.shield(_abandon(session, instance, mark))
        raise


async def _to_its_end(work: Coroutine[Any, Any, object]) -> None:
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    finally:
        await asyncio.wait((task,))


async def _abandon(session: Session, instance: Instance, mark: str) -> None:
    # NOTE: a VM that does not answer keeps the command; teardown finds it by the uid.
    with contextlib.suppress(TransientError):
        await _run(
            session, "abandon", instance.environment, instance.uid, _directory(instance), mark
        )


def _shown(argv: Sequence[str]) -> str:
    line = "".join(c if c.isprintable() else "?" for c in shlex.join(argv))
    return f"{line[:COMMAND_LENGTH]}{'…' if len(line) > COMMAND_LENGTH else ''}"


async def _run(
    session: Session,
    name: str,
    environment: str,
    uid: str,
    *arguments: str,
    stdin: bytes = b"",
    timeout_s: float = SCRIPT_TIMEOUT_S,
) -> Completed:
    return await run_script(
        session, script_text("shared", name),
        *_arguments(session.facts, environment, uid), *arguments,
        stdin=stdin, timeout_s=timeout_s,
    )  # fmt: skip


def _arguments(facts: HostFacts, environment: str, uid: str) -> tuple[str, ...]:
    """Return what every script begins with."""
    index = f"{facts.work_root.rstrip('/')}/vm-roots"
    return index, DEFAULT_ROOT, _short_id(uid), uid, environment


async def _changing(
    session: Session,
    name: str,
    environment: str,
    uid: str,
    *arguments: str,
    stdin: bytes = b"",
    timeout_s: float = SCRIPT_TIMEOUT_S,
) -> str:
    """Run a script that changes something of one workspace; return its last line."""
    completed = await _run(
        session, name, environment, uid, *arguments, stdin=stdin, timeout_s=timeout_s
    )
    _check(completed, f"cannot {name} {_short_id(uid)} on {session.host}")
    return (completed.stdout.decode("utf-8", "replace").strip().splitlines() or [""])[-1]


def _short_id(uid: str) -> str:
    """
    Return the name of a uid's resources, as `Instance.short_id` makes it; empty for no uid.

    Raises:
        InvalidSpecError: It is no UUID, so it could name a file elsewhere.
    """
    if uid and not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", uid):
        raise InvalidSpecError(f"{uid[:40]!r} is not the uid of a sandbox.", field="metadata.uid")
    return f"sbx-{uid.replace('-', '')[:12]}" if uid else ""


def _check(completed: Completed, doing: str) -> None:
    """Turn an exit status of the scripts into an outcome."""
    if completed.exit_status == 0:
        return
    message = f"{doing[0].upper()}{doing[1:]}: {completed.error_text()}"
    if completed.exit_status == EXIT_TERMINAL:
        raise TerminalError(
            message,
            reason="WorkspaceRefused",
            remedy="Look at the named path on the VM, or choose another root or workspace_dir.",
        )
    raise TransientError(message)
