"""The conformance suite against `ext.directory`: all a test module of an extension must say."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from sandboxer_directory import DirectoryExtension

from sandboxer.extension import Inputs, Instance
from sandboxer.registry import load_registry
from sandboxer.session import Session
from sandboxer.testing.conformance import ExtensionConformance, Subject
from sandboxer.testing.this_machine import open_local_session


async def remove(session: Session, instance: Instance) -> None:
    """Remove the directory by hand."""
    directory = f"{session.facts.work_root}/directory-{instance.short_id[4:]}"
    await session.run(["rm", "-r", directory])


class TestDirectory(ExtensionConformance):
    """Everything is inherited but the subject."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """Return the extension and a place for it on this machine."""

        def make_instance() -> Instance:
            return Instance(
                uid=str(uuid.uuid4()),
                namespace="default",
                name="hello",
                environment="example",
                extension="ext.directory",
                spec_hash="0123456789abcdef",
                inputs=Inputs(),
            )

        return Subject(
            extension=DirectoryExtension(),
            open_session=lambda: open_local_session(tmp_path),
            make_instance=make_instance,
            environment="example",
            leftovers=lambda i: [str(p) for p in tmp_path.rglob(f"*{i.short_id[4:]}*")],
            damages={"removed": remove},
        )


def test_is_found_when_installed() -> None:
    """The entry point is enough to be found."""
    assert "ext.directory" in load_registry().extensions
