"""
The methods of `ext.local`: each is one script, run in one go on the machine.

What the scripts do stands in `scripts/*.sh`; what they print about the sandboxes is read by
`observing`; what a sandbox runs is written by `launching`.

Design notes: Everything that changes something is a shell script under a lock and not Python that
walks the disk, because a script runs on when the controller dies, and a half of it that ran can be
finished by running it again. Refused: systemd units (not everywhere, not for every user), a
supervisor daemon (one more thing that can be down).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import ClassVar, Literal, NamedTuple

from sandboxer.errors import (
    InvalidSpecError,
    NotFoundError,
    TerminalError,
    TransientError,
    Waiting,
)
from sandboxer.extension import (
    Capability,
    Extension,
    Inputs,
    Instance,
    Observation,
    Offer,
    Provisioned,
)
from sandboxer.kinds.host import ABSOLUTE_PATH_PATTERN, Host, HostFacts
from sandboxer.kinds.sandbox import IsolationLevel, IsolationSeen, Reachability
from sandboxer.session import Completed, Connection, Session, Streams
from sandboxer_extensions.ending import ended_with_caller, new_mark
from sandboxer_extensions.local import launching, observing

# sysexits.h, as `scripts/workspace.sh` uses them.
EXIT_TERMINAL = 65

# Copying, locking (30 s) and killing (2 s) together stay far below.
SCRIPT_TIMEOUT_S = 120.0

# After a start there is nothing to wait for but the kernel.
READY_RETRY_S = 0.5

ISOLATION_DETAIL: Mapping[str, str] = {
    "bubblewrap": (
        "bubblewrap: own processes, mounts, /tmp and IPC, no capabilities, the machine's programs "
        "read-only and nothing else of it. The network is shared"
    ),
    "unshare": (
        "unshare: own processes, mounts and IPC, no capabilities. The machine's files are visible "
        "and as writable as they are for this user; the network is shared"
    ),
    "none": "nothing is enforced: the process runs as this user like any other",
}


class LocalInputs(Inputs):
    """Inputs of `ext.local`."""

    command: str = launching.DEFAULT_COMMAND
    """What to run, given to `/bin/sh -c` in the work directory; by default only a process that stays."""
    repo: str | None = None
    """Absolute path of a directory that is copied into the work directory before the first start."""
    isolation: Literal["auto", "bubblewrap", "unshare", "none"] = "auto"
    """By what means to enclose the process; `auto` takes the first of them that works here."""


class Enclosure(NamedTuple):
    """How a command gets into a running sandbox."""

    level: str
    """`bubblewrap`, `unshare` or `none`."""
    init: str
    """Pid whose namespaces are entered; `0` when the command gets the same walls of its own."""


class LocalExtension(Extension):
    """A workspace and a process on the controller's own machine."""

    name: ClassVar[str] = "ext.local"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {"suspend", "exec", "logs", "forward", "removal"}
    )
    inputs_model: ClassVar[type[Inputs]] = LocalInputs

    def offer(self, host: Host, inputs: Inputs) -> Offer:
        """Fit only on the machine the controller runs on; see `Extension.offer`."""
        if host.spec.transport != "local":
            return Offer(fits=False, reason="ext.local works on the controller's own machine only")
        tools = host.status.facts.tools
        wished = _inputs(inputs).isolation
        lacking = [tool for tool in ("flock", "setsid") if tool not in tools]
        if lacking:
            return Offer(fits=False, reason=f"{' and '.join(lacking)} must be installed")
        means = [
            m for m, tool in (("bubblewrap", "bwrap"), ("unshare", "unshare")) if tool in tools
        ]
        if wished not in ("auto", "none", *means):
            return Offer(fits=False, reason=f"{wished} is wished and not installed")
        chosen = (means or ["none"])[0] if wished == "auto" else wished
        return Offer(fits=True, reason=f"enclosed by {chosen}", isolation=_level(chosen))

    async def provision(self, session: Session, instance: Instance) -> Provisioned:
        """Make workspace and process as wanted; see `Extension.provision`."""
        if instance.ports:
            raise InvalidSpecError(
                f"Sandbox {instance.name} asks for ports, and ext.local shares this machine's "
                "network: its program is reachable on the port it listens on.",
                field="spec.ports",
                remedy="Remove spec.ports, or use an extension with containers.",
            )
        inputs = _inputs(instance.inputs)
        launch = launching.launch_text(inputs.command, instance)
        answer = await self._start(session, instance, launch, copied=False)
        if answer == "copy" and inputs.repo:
            await session.upload(inputs.repo, f"{_workspace(session, instance.short_id)}/work")
            answer = await self._start(session, instance, launch, copied=True)
        word, _, level = answer.partition(" ")
        if word != "running" or level not in ISOLATION_DETAIL:
            raise TransientError(f"Starting {instance.short_id} ended unclearly: {answer[:100]!r}.")
        return _provisioned(session, instance, level)

    async def wait_ready(self, session: Session, instance: Instance) -> None:
        """Return when the process runs; see `Extension.wait_ready`."""
        seen = await self.observe(session, instance.environment, instance.uid)
        state = seen[0].state if seen else "Absent"
        if state == "Stopped":
            raise TransientError(
                f"The process of {instance.short_id} does not stay: {seen[0].message}",
                reason="ProcessEnded",
                remedy="Look at `sandboxer logs`.",
            )
        if state != "Running":
            raise Waiting(f"{instance.short_id} is {state}.", retry_after_s=READY_RETRY_S)

    async def observe(
        self, session: Session, environment: str, uid: str = ""
    ) -> Sequence[Observation]:
        """Read all workspaces and processes in one script; see `Extension.observe`."""
        only = _short_id(uid) if uid else ""
        completed = await session.script(_script("observe"), _work_root(session), only)
        _check(completed, f"cannot observe the local sandboxes on {session.host}")
        read = observing.read_observations if uid else observing.read_same_observations
        seen = read(completed.stdout, environment=environment, extension=self.name)
        return [one for one in seen if not uid or one.uid == uid]

    async def teardown(self, session: Session, instance: Instance) -> None:
        """Kill every process and remove the workspace; see `Extension.teardown`."""
        await self.reap(session, instance.environment, instance.uid)

    async def reap(self, session: Session, environment: str, uid: str) -> None:
        """Do what `teardown` does, which needs nothing but the uid; see `Extension.reap`."""
        await _changing(session, "remove", environment, uid)

    def removal(self, facts: HostFacts, instance: Instance) -> Sequence[str]:
        """Do what `reap` does; see `Extension.removal`."""
        names = (instance.short_id, instance.uid, instance.environment)
        return ("sh", "-c", _changing_script("remove"), "sh", facts.work_root.rstrip("/"), *names)

    async def recall(self, session: Session, instance: Instance) -> Provisioned:
        """Read what encloses the process from its record; see `Extension.recall`."""
        means = await _changing(session, "recall", instance.environment, instance.uid)
        if means not in ISOLATION_DETAIL:
            raise TransientError(f"Cannot tell what encloses {instance.short_id}: {means[:100]!r}.")
        return _provisioned(session, instance, means)

    async def suspend(self, session: Session, instance: Instance) -> None:
        """Kill the processes and keep the workspace; see `Extension.suspend`."""
        await _changing(session, "suspend", instance.environment, instance.uid)

    async def resume(self, session: Session, instance: Instance) -> None:
        """Start again in the kept workspace; see `Extension.resume`."""
        await self.provision(session, instance)

    async def exec(
        self, session: Session, instance: Instance, argv: Sequence[str], streams: Streams,
        *, container: str = "",
    ) -> int:  # fmt: skip
        """Run a command in the namespaces of the process, else in equal ones of its own."""
        _only_container(instance, container)
        # The environment travels in a file that the command opens and removes: stdin is the
        # user's, and arguments can be read by everybody.
        # Its name is also the mark by which the command is found again.
        file = new_mark()
        enclosure = await self._enter(session, instance, file)
        ties, term = ("terminal", "xterm-256color") if streams.terminal else ("session", "dumb")
        workspace = _workspace(session, instance.short_id)
        command = [
            "/bin/sh", "-c", _script("inside", "enclose", "exec"), "sandboxer", workspace,
            f"{instance.environment}/{instance.uid}", file, *enclosure, ties, term, *argv,
        ]  # fmt: skip
        async with ended_with_caller(session, file):
            return await session.stream(command, streams)

    async def logs(
        self, session: Session, instance: Instance, streams: Streams,
        *, container: str = "", follow: bool = False, tail: int | None = None,
    ) -> None:  # fmt: skip
        """Print what is kept of the output, about 16 MiB at most."""
        _only_container(instance, container)
        lines = "" if tail is None else str(max(0, tail))
        workspace = _workspace(session, instance.short_id)
        argv = ["/bin/sh", "-c", _script("logs"), "sandboxer", workspace, lines]
        await session.stream([*argv, "yes" if follow else "no"], streams)

    async def forward(
        self, session: Session, instance: Instance, port: int, *, container: str = ""
    ) -> Connection:
        """Connect to a port of this machine, whose network the sandbox shares."""
        _only_container(instance, container)
        return await session.connect("127.0.0.1", port)

    async def _start(
        self, session: Session, instance: Instance, launch: bytes, *, copied: bool
    ) -> str:
        """Run the provisioning script; return its answer, `copy` or `running LEVEL`."""
        inputs = _inputs(instance.inputs)
        return await _changing(
            session, "provision", instance.environment, instance.uid,
            observing.labels_text(instance.labels()), instance.spec_hash, inputs.isolation,
            "yes" if copied else "no", launching.repository(inputs.repo),
            _script("enclose", "keeper"), stdin=f"{instance.manifest}\n".encode() + launch,
        )  # fmt: skip

    async def _enter(self, session: Session, instance: Instance, file: str) -> Enclosure:
        answer = await _changing(
            session, "enter", instance.environment, instance.uid, file,
            stdin=launching.environment_text(instance),
        )  # fmt: skip
        level, _, init = answer.partition(" ")
        if level not in ISOLATION_DETAIL or not init.isdecimal():
            raise TransientError(f"Cannot tell how to enter {instance.short_id}: {answer[:100]!r}.")
        return Enclosure(level, init)


def _only_container(instance: Instance, container: str) -> None:
    if container:
        raise NotFoundError(
            f"{instance.namespace}/{instance.name} has no container {container[:63]!r}; by "
            "ext.local it is one group of processes."
        )


def _inputs(inputs: Inputs) -> LocalInputs:
    if not isinstance(inputs, LocalInputs):
        raise InvalidSpecError("These are not inputs of ext.local.", field="spec.inputs")
    return inputs


def _level(means: str) -> IsolationLevel:
    return "none" if means == "none" else "namespace"


def _provisioned(session: Session, instance: Instance, means: str) -> Provisioned:
    workspace = _workspace(session, instance.short_id)
    limits = [
        name for name in ("cpu", "memory", "pids") if getattr(instance.resources, name) is not None
    ]
    notes = [f"The limits on {', '.join(limits)} are not enforced by ext.local."] if limits else []
    if means == "none" and _inputs(instance.inputs).isolation == "auto":
        notes.append("Neither bubblewrap nor unshare works here, so nothing encloses the process.")
    return Provisioned(
        handle={"workspace": workspace, "means": means},
        reachability=Reachability(ssh_target=session.target, remote_dir=f"{workspace}/work"),
        isolation=IsolationSeen(
            level=_level(means),
            detail=f"{ISOLATION_DETAIL[means]}; limits on cpu, memory and pids are not enforced.",
        ),
        message=" ".join(notes),
    )


def _short_id(uid: str) -> str:
    """
    Return the name of a uid's resources, as `Instance.short_id` makes it.

    Raises:
        InvalidSpecError: It is no UUID, so it could name a file elsewhere.
    """
    if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", uid):
        raise InvalidSpecError(f"{uid[:40]!r} is not the uid of a sandbox.", field="metadata.uid")
    return f"sbx-{uid.replace('-', '')[:12]}"


def _work_root(session: Session) -> str:
    """Return the directory of the workspaces; refuse paths that /proc prints in another form."""
    root = session.facts.work_root
    if not re.fullmatch(ABSOLUTE_PATH_PATTERN.strip("^$"), root) or ".." in root.split("/"):
        raise TerminalError(
            f"The work root {root[:100]!r} of host {session.host} cannot be used.",
            remedy="Set spec.workRoot of the Host to a plain absolute path.",
        )
    return root.rstrip("/")


def _workspace(session: Session, short_id: str) -> str:
    return f"{_work_root(session)}/{short_id}"


def _script(*names: str) -> str:
    """Return the packaged scripts of these names, one after the other."""
    folder = resources.files(__package__) / "scripts"
    return "\n".join((folder / f"{name}.sh").read_text("utf-8") for name in names)


def _changing_script(name: str) -> str:
    return _script("inside", "enclose", "workspace", name)


async def _changing(
    session: Session, name: str, environment: str, uid: str, *arguments: str, stdin: bytes = b""
) -> str:
    """Run a script that changes something of one sandbox; return its last line."""
    short_id = _short_id(uid)
    completed = await session.script(
        _changing_script(name),
        _work_root(session), short_id, uid, environment, *arguments,
        stdin=stdin, timeout_s=SCRIPT_TIMEOUT_S,
    )  # fmt: skip
    _check(completed, f"cannot {name} {short_id} on {session.host}")
    return (completed.stdout.decode("utf-8", "replace").strip().splitlines() or [""])[-1]


def _check(completed: Completed, doing: str) -> None:
    """Turn an exit status of the scripts into an outcome."""
    if completed.exit_status == 0:
        return
    message = f"{doing[0].upper()}{doing[1:]}: {completed.error_text()}"
    if completed.exit_status == EXIT_TERMINAL:
        raise TerminalError(message, remedy="Look at the named path or program on the machine.")
    raise TransientError(message)
