"""
`ext.compose-ssh`: a sandbox is a compose project on a machine with podman or docker.

The order of a `provision`: work out the document here (`stack`), then on the host in one locked
script: workspace with its marker, containers of an older spec away, the compose tool's `up`
(`scripts`, `remote`). Whether that worked is not asked from the tool but from the engine, by label
(`inventory`, `judge`).

Design notes:

* One resolved document runs instead of the user's file plus an override: tools merge differently,
  and the file in the repository can be changed by the sandbox's own processes.
* Teardown does not call compose. It removes by label, so it needs neither the tool nor the file,
  and takes as long as one kill instead of ten seconds per service.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from sandboxer.errors import (
    InvalidSpecError,
    NotFoundError,
    TerminalError,
    TransientError,
    UnreachableError,
    Waiting,
)
from sandboxer.extension import (
    LABEL_ENVIRONMENT,
    Capability,
    Extension,
    Inputs,
    Instance,
    Observation,
    Offer,
    Provisioned,
    Pruned,
    Pruning,
    absent,
)
from sandboxer.kinds.host import Host, HostFacts
from sandboxer.kinds.sandbox import IsolationSeen, Reachability
from sandboxer.session import Connection, Session, Streams
from sandboxer_extensions.compose_ssh import addresses, dialects, events, images, remote, scripts
from sandboxer_extensions.compose_ssh.drift import (
    containers_to_replace,
    found_of,
    losses,
    record_of,
)
from sandboxer_extensions.compose_ssh.inputs import ComposeInputs
from sandboxer_extensions.compose_ssh.inventory import (
    Container,
    Inventory,
    Thing,
    Workspace,
    inspect_limits,
    run_health_checks,
    take_inventory,
)
from sandboxer_extensions.compose_ssh.judge import expected_services, judge
from sandboxer_extensions.compose_ssh.kernel_log import note_memory_kills
from sandboxer_extensions.compose_ssh.policy import check_text
from sandboxer_extensions.compose_ssh.stack import (
    LABEL_SERVICE,
    ONLY_SERVICE,
    Stack,
    build_stack,
    repo_dir,
)
from sandboxer_extensions.ending import END, VARIABLE, EndMore, ended_with_caller, new_mark

# Seconds after which a starting sandbox is looked at again; its checks run once a second at most.
_READY_RETRY_S = 1.0


class ComposeSSHExtension(Extension):
    """Compose projects on an SSH host, or on the controller's own machine."""

    name: ClassVar[str] = "ext.compose-ssh"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {"exec", "logs", "forward", "watch", "suspend", "prune", "removal"}
    )
    inputs_model: ClassVar[type[Inputs]] = ComposeInputs

    def offer(self, host: Host, inputs: Inputs) -> Offer:
        """Say whether the host has an engine and a compose tool, and would take the images."""
        assert isinstance(inputs, ComposeInputs)
        facts = host.status.facts
        if not facts.engine:
            return Offer(fits=False, reason="It has neither podman nor docker that answers.")
        try:
            dialects.dialect_of(facts)
            _check_text(inputs, qualified_images=facts.engine == "podman")
        except (TerminalError, InvalidSpecError) as error:
            return Offer(fits=False, reason=str(error))
        return Offer(
            fits=True,
            reason=f"It has {facts.engine} {facts.engine_version} and "
            f"{' '.join(facts.compose_command)} {facts.compose_version}".rstrip()
            + ".",
            isolation="container",
        )

    async def provision(self, session: Session, instance: Instance) -> Provisioned:
        """Write the workspace, copy the repository once, and bring the project up."""
        facts = session.facts
        dialect = dialects.dialect_of(facts)
        # Reads local files, which may lie on a slow disk.
        stack = await asyncio.to_thread(
            build_stack, instance, work_root=facts.work_root,
            qualified_images=facts.engine == "podman", secrets_in_file=dialect.secrets_in_file,
        )  # fmt: skip
        before = found_of(await self._inventory(session, instance))
        anew = containers_to_replace(before)
        printed = await self._bring_up(session, instance, stack, anew)
        inventory = await self._inventory(session, instance)
        observation = next(iter(judge(inventory, extension=self.name)), absent(instance.uid))
        if observation.state in {"Absent", "Incomplete"}:
            raise TransientError(
                f"{' '.join(facts.compose_command)} on host {session.host} did not bring up "
                f"{instance.namespace}/{instance.name}: {observation.message} It printed: {printed}",
                reason="ComposeFailed",
            )
        made = found_of(inventory)
        await remote.keep_record(session, instance, record_of(made))
        provisioned = await self._provisioned(session, instance, notes=stack.notes)
        # Of one that was never made nothing can be lost.
        lost = tuple(losses(before, made)) if instance.handle else ()
        return replace(provisioned, lost=lost)

    async def _inventory(self, session: Session, instance: Instance) -> Inventory:
        return await take_inventory(session, environment=instance.environment, uid=instance.uid)

    async def recall(self, session: Session, instance: Instance) -> Provisioned:
        """Say where it is and what the engine enforces; see `Extension.recall`."""
        return await self._provisioned(session, instance)

    async def _provisioned(
        self, session: Session, instance: Instance, notes: Sequence[str] = ()
    ) -> Provisioned:
        unenforced = await self._unenforced_limits(session, instance)
        facts = session.facts
        return Provisioned(
            handle={"project": instance.short_id},
            reachability=Reachability(
                ssh_target=session.target, remote_dir=repo_dir(instance, facts.work_root),
                ports={lease.name: lease.host_port for lease in instance.ports},
            ),
            isolation=IsolationSeen(level="container", detail=_isolation(facts.engine, unenforced)),
            message=_sentences([*notes, *unenforced]),
        )  # fmt: skip

    async def _bring_up(
        self, session: Session, instance: Instance, stack: Stack, anew: Sequence[str]
    ) -> str:
        inputs = instance.inputs
        assert isinstance(inputs, ComposeInputs)
        command = dialects.up_command(
            session.facts, project=instance.short_id, workspace=stack.workspace,
            stop_grace_s=inputs.stop_grace_s, build=stack.builds, secrets=stack.secrets,
        )  # fmt: skip
        tail = [
            session.facts.engine, instance.environment, instance.spec_hash,
            str(inputs.stop_grace_s), str(remote.UP_LIMIT_S), " ".join(anew),
            str(len(stack.host_paths)), *stack.host_paths, *command,
        ]  # fmt: skip
        if not stack.upload_from:
            return await remote.up(session, scripts.UP, instance, "", *tail, stdin=stack.archive())
        prepared = await remote.locked(
            session, instance.short_id, scripts.PREPARE, instance.uid, stack.upload_digest,
            stdin=stack.archive(),
        )  # fmt: skip
        # NOTE: copied once, not at every repair, or a repair would undo what was worked on there.
        if prepared.stdout.strip() == b"upload":
            await session.upload(stack.upload_from, stack.repo_dir)
        return await remote.up(
            session, scripts.UP_AFTER_UPLOAD, instance, stack.upload_digest, *tail, stdin=b""
        )

    async def _unenforced_limits(self, session: Session, instance: Instance) -> list[str]:
        """Return a sentence for each limit that the engine does not hold for every container."""
        wanted = instance.resources
        if wanted.cpu is None and wanted.memory is None and wanted.pids is None:
            return []
        inventory = await take_inventory(
            session, environment=instance.environment, uid=instance.uid
        )
        limits = await inspect_limits(session, inventory.containers)
        missing = []
        if wanted.memory and any((x.memory or 0) != wanted.memory.size_bytes for x in limits):
            missing.append("the memory limit is not enforced here")
        if wanted.cpu and any(not x.nano_cpus and (x.cpu_quota or 0) <= 0 for x in limits):
            missing.append("the limit on processors is not enforced here")
        if wanted.pids and any((x.pids or 0) != wanted.pids for x in limits):
            missing.append("the limit on pids is not enforced here")
        return missing

    async def wait_ready(self, session: Session, instance: Instance) -> None:
        """Look once, running health checks where the engine does not."""
        observation = await self._observe_one(session, instance.environment, instance.uid)
        if observation.state != "Running":
            message = observation.message or f"The sandbox is {observation.state}."
            raise Waiting(message, retry_after_s=_READY_RETRY_S, reason="NotReady")

    async def observe(
        self, session: Session, environment: str, uid: str = ""
    ) -> Sequence[Observation]:
        """List containers, networks, volumes and workspaces of ours, and judge them."""
        inventory = await take_inventory(session, environment=environment, uid=uid)
        if environment:
            # The checks of others are theirs to run.
            await run_health_checks(session, inventory)
        await note_memory_kills(session, inventory)
        return judge(inventory, extension=self.name)

    async def _observe_one(self, session: Session, environment: str, uid: str) -> Observation:
        return next(iter(await self.observe(session, environment, uid)), absent(uid))

    async def teardown(self, session: Session, instance: Instance) -> None:
        """Remove containers, networks, volumes, built images and the workspace."""
        await remote.remove(session, instance, instance.environment, instance.uid)

    def removal(self, facts: HostFacts, instance: Instance) -> Sequence[str]:
        """Do what `teardown` does, without grace; see `Extension.removal`."""
        return remote.removal(facts, instance) if facts.engine else ()

    async def reap(self, session: Session, environment: str, uid: str) -> None:
        """Remove everything with this uid, unless some of it belongs to another environment."""
        inventory = await take_inventory(session, uid=uid)
        found: list[Container | Thing | Workspace] = [
            *inventory.containers, *inventory.things, *inventory.workspaces,
        ]  # fmt: skip
        others = {x.labels.get(LABEL_ENVIRONMENT, "") for x in found} - {environment}
        if others:
            raise TerminalError(
                f"Sandbox {uid} on host {session.host} belongs to another installation "
                f"({', '.join(sorted(others))[:100]}).",
                reason="NotOurs",
                remedy="Remove it with the sandboxer that made it.",
            )
        if found:
            await remote.remove(session, None, environment, uid)

    async def prune(self, session: Session, pruning: Pruning) -> Pruned:
        """Remove images that no container uses and no compose file in a workspace names."""
        return await images.prune(session, pruning)

    async def suspend(self, session: Session, instance: Instance) -> None:
        """Stop the containers; workspace, networks and volumes stay."""
        await self._switch(session, instance, scripts.SUSPEND)

    async def resume(self, session: Session, instance: Instance) -> None:
        """Start the containers that `suspend` stopped."""
        await self._switch(session, instance, scripts.RESUME)

    async def _switch(self, session: Session, instance: Instance, script: str) -> None:
        grace_s = int(getattr(instance.inputs, "stop_grace_s", 0))
        await remote.locked(
            session, instance.short_id, script, instance.uid, session.facts.engine,
            instance.environment, str(grace_s), timeout_s=60.0 + grace_s,
        )  # fmt: skip

    async def exec(
        self, session: Session, instance: Instance, argv: Sequence[str], streams: Streams,
        *, container: str = "",
    ) -> int:  # fmt: skip
        """Run a command in a service's container through the engine."""
        target = (await self._containers(session, instance, container))[0]
        options = ["-i"] if streams.stdin is not None or streams.terminal else []
        options += ["-t"] if streams.terminal else []
        mark = new_mark()
        options += ["-e", f"{VARIABLE}={mark}"]
        command = [session.facts.engine, "exec", *options, target.id, *argv]
        async with ended_with_caller(session, mark, _end_inside(session, target)):
            return await session.stream(command, streams)

    async def forward(
        self, session: Session, instance: Instance, port: int, *, container: str = ""
    ) -> Connection:
        """Connect to a port of a service's container."""
        target = (await self._containers(session, instance, container))[0]
        return await addresses.connect(session, instance, target, port)

    async def logs(
        self, session: Session, instance: Instance, streams: Streams,
        *, container: str = "", follow: bool = False, tail: int | None = None,
    ) -> None:  # fmt: skip
        """Write a service's output, or that of all services, each line with its service's name."""
        found = await self._containers(session, instance, container, running=False)
        if container:
            found = found[:1]
        options = ["--follow"] if follow else []
        options += ["--tail", str(tail)] if tail is not None else []
        mark = new_mark()
        command = ["env", f"{VARIABLE}={mark}", session.facts.engine, "logs", *options]
        async with ended_with_caller(session, mark):
            await asyncio.gather(
                *(
                    session.stream(
                        [*command, target.id],
                        streams if len(found) == 1 else _prefixed(target, streams),
                    )
                    for target in found
                )
            )

    async def _containers(
        self, session: Session, instance: Instance, service: str, *, running: bool = True
    ) -> list[Container]:
        """Return the sandbox's containers, those of *service* only, in the file's order."""
        inventory = await take_inventory(
            session, environment=instance.environment, uid=instance.uid
        )
        order = expected_services(inventory.containers, next(iter(inventory.workspaces), None))
        rank = {name: index for index, name in enumerate(order)}
        found = [
            c
            for c in inventory.containers
            if (not service or c.labels.get(LABEL_SERVICE) == service)
            and (not running or c.state == "running")
        ]
        if not found:
            what = f"Service {service}" if service else "No service"
            raise NotFoundError(
                f"{what} of {instance.namespace}/{instance.name} "
                f"{'has no' if service else 'has a'} {'running ' if running else ''}container on "
                f"host {session.host}; its services are {', '.join(order) or 'unknown'}."
            )
        return sorted(found, key=lambda c: rank.get(c.labels.get(LABEL_SERVICE, ""), len(rank)))

    async def watch(self, session: Session, environment: str) -> AsyncIterator[str]:
        """Follow the engine's events of what is ours."""
        engine = session.engine()
        if engine is None:
            raise UnreachableError(f"The engine of host {session.host} has no socket to follow.")
        async for event in engine.events(query=events.query()):
            hint = events.hint_of(event, environment)
            if hint:
                yield hint


def _check_text(inputs: ComposeInputs, *, qualified_images: bool) -> None:
    """Check what of the inputs can be judged without touching a file."""
    text, origin, field = inputs.compose, "the compose text", "spec.inputs.compose"
    if inputs.image is not None:
        text = json.dumps({"services": {ONLY_SERVICE: {"image": inputs.image}}})
        origin, field = "the only service", "spec.inputs.image"
    if text is not None:
        check_text(text, origin=origin, field=field, qualified_images=qualified_images)


def _end_inside(session: Session, container: Container) -> EndMore | None:
    """Return how to end a command that this user of the host may not signal, where that is so."""
    facts = session.facts
    if facts.engine != "docker" or facts.uid == 0:
        return None

    async def end(mark: str) -> None:
        command = [facts.engine, "exec", "-i", "-u", "0", container.id, "sh", "-c", END]
        await session.run(command, stdin=mark.encode())

    return end


def _isolation(engine: str, unenforced: Sequence[str]) -> str:
    parts = [
        f"{engine} containers with the engine's default capabilities and seccomp profile",
        "network traffic to the outside is not restricted",
        "disk use is not limited",
        *unenforced,
    ]
    return _sentences(parts)


def _sentences(parts: Sequence[str]) -> str:
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _prefixed(container: Container, streams: Streams) -> Streams:
    """Return streams that put the service's name before each line."""
    prefix = f"{container.labels.get(LABEL_SERVICE, container.name)} | ".encode()

    def writer(sink: Callable[[bytes], Awaitable[None]]) -> Callable[[bytes], Awaitable[None]]:
        at_line_start = True

        async def write(chunk: bytes) -> None:
            nonlocal at_line_start
            lines = chunk.splitlines(keepends=True)
            marked = b"".join(
                (prefix if index or at_line_start else b"") + line
                for index, line in enumerate(lines)
            )
            at_line_start = chunk.endswith(b"\n")
            await sink(marked)

        return write

    return replace(streams, stdout=writer(streams.stdout), stderr=writer(streams.stderr))
