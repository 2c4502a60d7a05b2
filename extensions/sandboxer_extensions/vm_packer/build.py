"""
Mode `build`: run Packer on a template, here or on another machine, and keep what it makes.

Packer runs detached, under a keeper of its own (`scripts/build_keeper.sh`) that masks and bounds
its log, moves the image out of the sandbox's directory, computes checksums and writes down how it
ended. So a build outlives the controller, and whoever asks next finds it by its record. What lies
where, and why, stands in `docs/design/0004-packer-build.md`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sandboxer.errors import InvalidSpecError, TerminalError, TransientError, Waiting
from sandboxer.extension import Instance, Observation, Offer, Provisioned
from sandboxer.kinds.host import Host, HostSpec
from sandboxer.kinds.sandbox import IsolationSeen, Reachability
from sandboxer.session import Session, Streams
from sandboxer_extensions.local.observing import labels_text
from sandboxer_extensions.vm_packer import build_launch, build_log, build_observing, build_scripts
from sandboxer_extensions.vm_packer.inputs import VMInputs
from sandboxer_extensions.vm_packer.scripting import script_text

EXTENSION = "ext.vm-packer"

# Seconds. Removing a big tree takes long; a copy stays below the 1800 s the engine gives an action.
REMOVE_TIMEOUT_S = 900.0
COPY_TIMEOUT_S = 1500.0

# Seconds until a running build is looked at again: a person watches, and a look takes 20 ms.
LOOK_INTERVAL_S = 1.0

# KiB that must be free before anything is made; how much an image takes only its template knows.
LEAST_FREE_KILOBYTES = 64 * 1024

ISOLATION_DETAIL = (
    "Packer and its provisioners run as the login user like any other program of that machine; "
    "limits are not enforced"
)


@dataclass(frozen=True)
class Build:
    """The methods of `ext.vm-packer` for builds."""

    def host_name(self, wished: VMInputs) -> str:
        """Return no name: a build runs on any Host with Packer that placement allows."""
        del wished
        return ""

    def find_host(self, wished: VMInputs) -> HostSpec:
        """Know no machine that is not a Host already; never asked, as no name is given."""
        raise InvalidSpecError(f"{wished.packer_template} is built on a Host that exists.")

    def offer(self, host: Host, wished: VMInputs) -> Offer:
        """Fit where Packer is installed."""
        del wished
        tools = host.status.facts.tools
        needed = ("packer", "flock", "setsid", "rsync")
        lacking = [tool for tool in needed if tool not in tools]
        if lacking:
            return Offer(fits=False, reason=f"{' and '.join(lacking)} must be installed")
        return Offer(fits=True, reason=f"Packer is there as {tools['packer']}")

    async def provision(self, session: Session, instance: Instance) -> Provisioned:
        """Start the build unless it runs or ran; a template that is wrong is refused before."""
        wished = _inputs(instance)
        if instance.ports:
            raise InvalidSpecError(
                f"Sandbox {instance.name} asks for ports, and a build publishes none.",
                field="spec.ports",
                remedy="Remove spec.ports.",
            )
        template, directory = build_launch.template(wished), _directory(session, instance)
        answer = await build_scripts.changing(
            session, "provision", instance.environment, instance.uid,
            labels_text(instance.labels()), instance.spec_hash, str(LEAST_FREE_KILOBYTES),
            stdin=f"{instance.manifest}\n".encode(),
        )  # fmt: skip
        if answer == "cleaning":
            raise _cleaning()
        if answer != "done":
            copy = _copy_place(answer, directory)
            await session.upload(template, copy, timeout_s=COPY_TIMEOUT_S)
            await _validate(session, instance, copy)
            await _start(session, instance, copy)
        return _provisioned(session, instance, directory)

    async def recall(self, session: Session, instance: Instance) -> Provisioned:
        """Say where the build is; all of it follows from the inputs."""
        return _provisioned(session, instance, _directory(session, instance))

    async def wait_ready(self, session: Session, instance: Instance) -> None:
        """Return when Packer has ended well; say how far it is before, and why when it failed."""
        seen = await _look(session, instance.environment, instance.uid)
        if not seen:
            raise TransientError(f"The build of {instance.name} is gone.")
        found, state = seen[0].found, seen[0].observation.state
        if found.failed:
            cause = build_log.failure(found.log)
            if found.exit_status == build_observing.EXIT_UNRECORDED:
                raise _unrecorded(instance, cause)
            raise TerminalError(
                f"Packer ended with exit status {found.exit_status}: {cause}",
                reason="PackerFailed",
                remedy="Look at `sandboxer logs`; a changed spec (input `sync`, for example) "
                "builds anew.",
            )
        if state == "Starting":
            progress = build_log.progress(found.log)
            raise Waiting(progress.message, retry_after_s=LOOK_INTERVAL_S, reason=progress.reason)
        if state != "Running":
            raise TransientError(f"The build is not whole: {seen[0].observation.message}")

    async def observe(
        self, session: Session, environment: str, uid: str = ""
    ) -> Sequence[Observation]:
        """Read all builds in one script."""
        return [seen.observation for seen in await _look(session, environment, uid)]

    async def reap(self, session: Session, environment: str, uid: str) -> None:
        """Cancel the build and remove its directory; images stay where they are."""
        answer = await build_scripts.changing(
            session, "remove", environment, uid, timeout_s=REMOVE_TIMEOUT_S
        )
        if answer == "cleaning":
            raise _cleaning()

    async def exec(
        self, session: Session, instance: Instance, argv: Sequence[str], streams: Streams
    ) -> int:
        """Refuse: there is nothing inside."""
        del session, argv, streams
        raise TerminalError(
            f"{instance.namespace}/{instance.name} is a build, and there is nothing to enter.",
            reason="NotCapable",
            remedy="Use `sandboxer logs`, or a provisioner in the template.",
        )

    async def logs(
        self, session: Session, instance: Instance, streams: Streams,
        *, follow: bool, tail: int | None,
    ) -> None:  # fmt: skip
        """Print what Packer printed, about 8 MiB at most; following ends with the build."""
        lines = "" if tail is None else str(max(0, tail))
        argv = [
            "sh",
            "-c",
            script_text("build_logs"),
            "sandboxer",
            _directory(session, instance),
        ]
        await session.stream([*argv, lines, "yes" if follow else "no"], streams)


def _inputs(instance: Instance) -> VMInputs:
    assert isinstance(instance.inputs, VMInputs), "the extension has checked it"
    return instance.inputs


def _directory(session: Session, instance: Instance) -> str:
    return f"{build_scripts.builds(session)}/{instance.short_id}"


def _images(session: Session, instance: Instance) -> str:
    root = session.facts.work_root.rstrip("/")
    return f"{root}/images/{instance.name}-{instance.short_id}"


def _copy_place(answer: str, directory: str) -> str:
    word, _, place = answer.partition(" ")
    if word != "copy" or not re.fullmatch(rf"{re.escape(directory)}/\.copy\.\d+", place):
        raise TransientError(f"Making {directory} ended unclearly: {answer[:100]!r}.")
    return place


async def _validate(session: Session, instance: Instance, copy: str) -> None:
    """Let Packer judge the template with the variables it will get."""
    wished = _inputs(instance)
    completed = await build_scripts.run(
        session, "validate", instance.environment, instance.uid,
        copy, _packer(session), stdin=build_launch.launch_text(instance, wished),
    )  # fmt: skip
    if completed.exit_status == build_scripts.EXIT_INVALID:
        said = build_launch.masked(completed.error_text(4000), instance.secrets)
        raise InvalidSpecError(
            f"Packer refuses the template {wished.packer_template}: "
            f"{build_log.plain(said, build_log.FAILURE_LENGTH_MAX)}",
            field="spec.inputs.packer_template",
            reason="TemplateInvalid",
            remedy="Mend the template, and change input `sync` to have it read again.",
        )
    build_scripts.check(
        completed, f"cannot validate the template of {instance.name} on {session.host}"
    )


async def _start(session: Session, instance: Instance, copy: str) -> None:
    answer = await build_scripts.changing(
        session, "start", instance.environment, instance.uid,
        copy, labels_text(instance.labels()), instance.spec_hash, _images(session, instance),
        _packer(session), stdin=build_launch.start_text(instance, _inputs(instance)),
    )  # fmt: skip
    if answer == "cleaning":
        raise _cleaning()
    if answer != "done":
        raise TransientError(f"Starting the build ended unclearly: {answer[:100]!r}.")


def _cleaning() -> Waiting:
    return Waiting(
        "Packer was cancelled and is cleaning up.",
        retry_after_s=LOOK_INTERVAL_S,
        reason="Cancelling",
    )


def _unrecorded(instance: Instance, cause: str) -> TerminalError:
    return TerminalError(
        f"Packer made the image of {instance.name}, and it could not be recorded: {cause}",
        reason="ImageNotRecorded",
        remedy="Look at `sandboxer logs`; before you delete the sandbox, take out of its directory "
        "what is not in images/.",
    )


def _packer(session: Session) -> str:
    return session.facts.tools.get("packer", "packer")


def _provisioned(session: Session, instance: Instance, directory: str) -> Provisioned:
    limits = [
        name for name in ("cpu", "memory", "pids") if getattr(instance.resources, name) is not None
    ]
    return Provisioned(
        handle={"build": directory, "images": _images(session, instance)},
        reachability=Reachability(ssh_target=session.target, remote_dir=f"{directory}/template"),
        isolation=IsolationSeen(level="none", detail=ISOLATION_DETAIL),
        message=f"The limits on {', '.join(limits)} are not enforced on Packer." if limits else "",
    )


async def _look(session: Session, environment: str, uid: str) -> tuple[build_observing.Seen, ...]:
    completed = await build_scripts.run(session, "observe", environment, uid)
    build_scripts.check(completed, f"cannot observe the builds on {session.host}")
    return build_observing.read_builds(
        completed.stdout, environment=environment, extension=EXTENSION, uid=uid
    )
