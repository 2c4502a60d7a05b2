"""`ext.vm-packer` in mode attach against the public conformance suite, on a real VM."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sandboxer.extension import Instance
from sandboxer.session import Session
from sandboxer.testing.conformance import ExtensionConformance, Subject
from sandboxer.testing.faults import OpenSession
from sandboxer_extensions.vm_packer import VMInputs, VMPackerExtension, attach
from tests.rig.vm import VM

ENVIRONMENT = "conformance"

# Tests whose sandboxes hold a copy of a repository.
COPYING = re.compile("update|damage|part|changed|at_once")


def damage(command: str) -> Callable[[Session, Instance], Awaitable[object]]:
    """Return a way to do harm with a shell line; `$1` is the workspace."""

    async def do(session: Session, instance: Instance) -> object:
        return await session.script(command, f"/build/{instance.short_id}")

    return do


# The VM has one emulated processor, at a tenth of the speed of a real one.
@pytest.mark.timeout(300)
class TestVMPacker(ExtensionConformance):
    @pytest.fixture(autouse=True)
    def silence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Copy without telling how far it is.

        A slow copy tells it by further session calls, so their number would depend on the load, and
        a link lost in one of them need not end the copy.
        """
        monkeypatch.setattr(attach, "TELL_INTERVAL_S", 3600.0)

    @pytest.fixture
    def subject(
        self,
        vm: VM,
        vm_session: OpenSession,
        tmp_path: Path,
        request: pytest.FixtureRequest,
    ) -> Subject:
        repo = tmp_path / "repo"
        repo.mkdir()
        (repo / "Main.hs").write_text("main = pure ()\n")
        # A copy takes longer than the rest; it is part of where its faults differ.
        copied = {"repo": str(repo)} if COPYING.search(request.node.name) else {}

        def make_instance() -> Instance:
            return Instance(
                uid=str(uuid.uuid4()), namespace="default", name="hello", environment=ENVIRONMENT,
                extension="ext.vm-packer", spec_hash="0123456789abcdef",
                inputs=VMInputs.model_validate({"vm": "vm", **copied}),
            )  # fmt: skip

        def leftovers(instance: Instance) -> list[str]:
            listing = vm.ssh("ls -A /build; grep -ls SANDBOXER_ID= /proc/[0-9]*/environ")
            return [
                line
                for line in listing.stdout.split()
                if instance.short_id in line or line.startswith("/proc/")
            ]

        return Subject(
            extension=VMPackerExtension(),
            open_session=vm_session,
            make_instance=make_instance,
            environment=ENVIRONMENT,
            leftovers=leftovers,
            damages={
                "workspace removed": damage('rm -rf "$1"'),
                "work directory removed": damage('rm -rf "$1/work"'),
                "copy forgotten": damage('rm -rf "$1/.sandboxer"'),
                "half made": damage('mv "$1" "/build/.sbx-new-${1##*/}.1"'),
            },
        )
