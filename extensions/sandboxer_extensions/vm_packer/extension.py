"""
`ext.vm-packer`: which mode of it a sandbox asks for.

A mode is an `attach.Attach` or a `build.Build`. Calls that know inputs go to the mode they
name; `observe` and `reap`, which know none, go to `attach` first, and to `build` where that found
the directory of the builds: most machines have none, and a call costs a round trip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from sandboxer.errors import InvalidSpecError, NotFoundError, TerminalError
from sandboxer.extension import (
    Capability,
    Extension,
    Inputs,
    Instance,
    Observation,
    Offer,
    Provisioned,
)
from sandboxer.kinds.host import Host, HostFacts, HostSpec
from sandboxer.session import Connection, Session, Streams
from sandboxer_extensions.vm_packer.attach import Attach
from sandboxer_extensions.vm_packer.build import Build
from sandboxer_extensions.vm_packer.inputs import VMInputs

Mode = Attach | Build
ATTACH, BUILD = Attach(), Build()
MODES: Mapping[str, Mode] = {"attach": ATTACH, "build": BUILD}


class VMPackerExtension(Extension):
    """A workspace on a VM that is there already, or an image that Packer builds."""

    name: ClassVar[str] = "ext.vm-packer"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {"exec", "logs", "forward", "removal"}
    )
    inputs_model: ClassVar[type[Inputs]] = VMInputs

    def host_name(self, inputs: Inputs) -> str:
        """Return the Host that input `vm` means; see `Extension.host_name`."""
        return _mode(inputs).host_name(_checked(inputs))

    def find_host(self, inputs: Inputs) -> HostSpec:
        """Describe the VM behind an alias; see `Extension.find_host`."""
        return _mode(inputs).find_host(_checked(inputs))

    def offer(self, host: Host, inputs: Inputs) -> Offer:
        """Say whether the VM can be worked on; see `Extension.offer`."""
        return _mode(inputs).offer(host, _checked(inputs))

    async def provision(self, session: Session, instance: Instance) -> Provisioned:
        """Make the workspace as wanted; see `Extension.provision`."""
        mode = _mode(instance.inputs)
        await _refuse_other(session, instance, mode)
        return await mode.provision(session, instance)

    async def recall(self, session: Session, instance: Instance) -> Provisioned:
        """Say where it is; see `Extension.recall`."""
        return await _mode(instance.inputs).recall(session, instance)

    async def wait_ready(self, session: Session, instance: Instance) -> None:
        """Return when the workspace is whole; see `Extension.wait_ready`."""
        await _mode(instance.inputs).wait_ready(session, instance)

    async def observe(
        self, session: Session, environment: str, uid: str = ""
    ) -> Sequence[Observation]:
        """Read what there is by every mode; see `Extension.observe`."""
        workspaces, has_builds = await ATTACH.observe(session, environment, uid)
        if not has_builds:
            return workspaces
        return [*workspaces, *await BUILD.observe(session, environment, uid)]

    async def teardown(self, session: Session, instance: Instance) -> None:
        """Remove what carries the uid, whatever the inputs are now; see `Extension.teardown`."""
        await self.reap(session, instance.environment, instance.uid)

    async def reap(self, session: Session, environment: str, uid: str) -> None:
        """Remove what carries the uid by every mode; see `Extension.reap`."""
        if await ATTACH.reap(session, environment, uid):
            await BUILD.reap(session, environment, uid)

    def removal(self, facts: HostFacts, instance: Instance) -> Sequence[str]:
        """Do what `reap` does to a workspace; a build is cancelled by a controller only."""
        return ATTACH.removal(facts, instance) if _mode(instance.inputs) is ATTACH else ()

    async def exec(
        self, session: Session, instance: Instance, argv: Sequence[str], streams: Streams,
        *, container: str = "",
    ) -> int:  # fmt: skip
        """Run a command in the work directory."""
        _only_container(instance, container)
        return await _mode(instance.inputs).exec(session, instance, argv, streams)

    async def logs(
        self, session: Session, instance: Instance, streams: Streams,
        *, container: str = "", follow: bool = False, tail: int | None = None,
    ) -> None:  # fmt: skip
        """Print what was done, and what `exec` printed without a terminal."""
        _only_container(instance, container)
        await _mode(instance.inputs).logs(session, instance, streams, follow=follow, tail=tail)

    async def forward(
        self, session: Session, instance: Instance, port: int, *, container: str = ""
    ) -> Connection:
        """Connect to a port of the VM, whose network every workspace shares."""
        _only_container(instance, container)
        return await session.connect("127.0.0.1", port)


def _checked(inputs: Inputs) -> VMInputs:
    if not isinstance(inputs, VMInputs):
        raise InvalidSpecError("These are not inputs of ext.vm-packer.", field="spec.inputs")
    return inputs


def _mode(inputs: Inputs) -> Mode:
    return MODES[_checked(inputs).mode]


async def _refuse_other(session: Session, instance: Instance, mode: Mode) -> None:
    """Refuse to make a second thing of one uid, where its mode was changed."""
    environment, uid = instance.environment, instance.uid
    found, has_builds = await ATTACH.observe(session, environment, uid)
    if mode is ATTACH:
        found = await BUILD.observe(session, environment, uid) if has_builds else ()
    if found:
        made = "a build" if mode is ATTACH else "a workspace"
        raise TerminalError(
            f"{instance.namespace}/{instance.name} is {made} on {session.host}, and its spec now "
            "asks for another mode.",
            reason="ModeChanged",
            remedy="Use `sandboxer recreate`, or take the mode back.",
        )


def _only_container(instance: Instance, container: str) -> None:
    if container:
        raise NotFoundError(
            f"{instance.namespace}/{instance.name} has no container {container[:63]!r}; it is a "
            "workspace on a VM."
        )
