"""What Packer made stays, whatever happens to the build: real builds, by the calls of the contract."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from sandboxer.errors import TerminalError, Waiting
from sandboxer.extension import Instance
from sandboxer.kinds.sandbox import ResourceSeen
from sandboxer.session import Session
from sandboxer.testing.this_machine import open_local_session
from sandboxer_extensions.vm_packer import VMInputs, VMPackerExtension
from tests.rig import packer

EXTENSION = VMPackerExtension()

TWO_BUILDERS = """
source "file" "good" {
  content = "good bytes"
  target  = "output/good.img"
}
source "file" "bad" {
  content = "bad bytes"
  target  = "output/bad.img"
}
build {
  sources = ["source.file.good", "source.file.bad"]
  provisioner "shell-local" {
    only   = ["file.bad"]
    inline = ["exit 3"]
  }
}
"""


@pytest.fixture
def root() -> Iterator[Path]:
    """A work root; no build in it runs on afterwards."""
    packer.install()
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory) / "root"
        made.mkdir(mode=0o700)
        yield made
        packer.kill_builds_below(made)


def instance(template: Path, **secrets: str) -> Instance:
    """Return a build of that template."""
    return Instance(
        uid=str(uuid.uuid4()), namespace="default", name="image", environment="here",
        extension="ext.vm-packer", spec_hash="0123456789abcdef",
        inputs=VMInputs.model_validate({"mode": "build", "packer_template": str(template)}),
        secrets={name: SecretStr(value) for name, value in secrets.items()},
    )  # fmt: skip


async def build(session: Session, wished: Instance) -> None:
    """Build until Packer has ended."""
    await EXTENSION.provision(session, wished)
    async with asyncio.timeout(60):
        while True:
            try:
                return await EXTENSION.wait_ready(session, wished)
            except Waiting:
                await asyncio.sleep(0.1)


async def artifacts(session: Session, wished: Instance) -> list[ResourceSeen]:
    """Return what the build is seen to have made."""
    (seen,) = await EXTENSION.observe(session, "here", wished.uid)
    return [resource for resource in seen.resources if resource.kind == "artifact"]


@pytest.mark.timeout(120)
async def test_an_image_whose_path_holds_a_secret(root: Path) -> None:
    """It is kept under its own name, and shown without the secret's text."""
    wished = instance(packer.file_template(root.parent / "template"), word="output")
    async with open_local_session(root) as session:
        await build(session, wished)
        shown = await artifacts(session, wished)
        log = (root / "builds" / wished.short_id / "log").read_text()
        kept = {path.name for path in (root / "builds" / wished.short_id).iterdir()}
        await EXTENSION.teardown(session, wished)

    image = root / "images" / f"image-{wished.short_id}" / "1/output/image.img"
    assert [one.name for one in shown] == [str(image).replace("output", "***")]
    assert image.read_text() == "image bytes\n"
    assert "output" not in log
    assert not kept & {"mask", "launch", "listed", "made"}, "nothing stays that was not masked"


@pytest.mark.timeout(120)
async def test_the_image_of_one_builder_when_another_fails(root: Path) -> None:
    """The build has failed, and what it made is listed, has a checksum and stays."""
    template = root.parent / "template"
    template.mkdir()
    (template / "two.pkr.hcl").write_text(TWO_BUILDERS)
    wished = instance(template)
    async with open_local_session(root) as session:
        with pytest.raises(TerminalError) as failed:
            await build(session, wished)
        shown = await artifacts(session, wished)
        await EXTENSION.teardown(session, wished)

    made = root / "images" / f"image-{wished.short_id}" / "1"
    assert failed.value.reason == "PackerFailed"
    assert [one.name for one in shown] == [str(made / "output/good.img")]
    assert (made / "output/good.img").read_text() == "good bytes"
    assert (made / "SHA256SUMS").read_text().endswith("  output/good.img\n")


@pytest.mark.timeout(120)
async def test_artifacts_called_like_our_own_files(root: Path) -> None:
    """They are kept beside ours, under a name that says whose they are."""
    template = root.parent / "template"
    template.mkdir()
    named = TWO_BUILDERS.replace("output/good.img", "SHA256SUMS").replace("exit 3", "exit 0")
    (template / "two.pkr.hcl").write_text(named.replace("output/bad.img", ".sandboxer.json"))
    wished = instance(template)
    async with open_local_session(root) as session:
        await build(session, wished)
        shown = await artifacts(session, wished)
        await EXTENSION.teardown(session, wished)

    made = root / "images" / f"image-{wished.short_id}" / "1"
    theirs = [made / ".sandboxer.json.packer", made / "SHA256SUMS.packer"]
    assert [path.read_text() for path in theirs] == ["bad bytes", "good bytes"]
    assert sorted(one.name for one in shown) == [str(path) for path in theirs]
    assert (made / "SHA256SUMS").read_text().count(".packer\n") == 2
    assert wished.uid in (made / ".sandboxer.json").read_text()


@pytest.mark.timeout(120)
async def test_an_artifact_that_went_away(root: Path) -> None:
    """The image could not be recorded is said as such, and the build is not built again."""
    template = root.parent / "template"
    packer.file_template(template)
    text = (template / "image.pkr.hcl").read_text().rstrip().removesuffix("}")
    remove = 'post-processor "shell-local" {\n inline = ["rm output/image.img"]\n }\n}\n'
    (template / "image.pkr.hcl").write_text(text + remove)
    wished = instance(template)
    async with open_local_session(root) as session:
        with pytest.raises(TerminalError) as failed:
            await build(session, wished)
        starts = (root / "builds" / wished.short_id / "run").read_text()
        await EXTENSION.provision(session, wished)

        assert failed.value.reason == "ImageNotRecorded"
        assert "output/image.img is not a file" in str(failed.value)
        assert (root / "builds" / wished.short_id / "run").read_text() == starts
        await EXTENSION.teardown(session, wished)


@pytest.mark.timeout(120)
async def test_packer_cleans_up_without_its_keeper(root: Path) -> None:
    """A killed keeper takes nobody the time to clean up."""
    cleaned, waits = root.parent / "cleaned", root.parent / "waits"
    lines = [
        packer.NOBODY_READS,
        f"trap 'sleep 0.5; touch {cleaned}; exit 1' TERM",
        # NOTE: `|| :`, for Packer runs it with -e, and the sleep is told to end too.
        f"touch {waits}; while :; do sleep 0.1 || :; done",
    ]
    wished = instance(packer.file_template(root.parent / "template", lines))
    async with open_local_session(root) as session:
        await EXTENSION.provision(session, wished)
        async with asyncio.timeout(30):
            while not waits.exists():  # noqa: ASYNC110 - made by another process
                await asyncio.sleep(0.02)
        record = (root / "builds" / wished.short_id / "run").read_text()
        os.kill(int(record.removeprefix('{"pid":').partition(",")[0]), signal.SIGKILL)

        await EXTENSION.teardown(session, wished)

    assert cleaned.exists()
    assert packer.processes_of(wished.uid) == []


@pytest.mark.timeout(120)
async def test_another_mode_is_refused(root: Path) -> None:
    """Where the build is, no workspace of the same uid is made beside it."""
    wished = instance(packer.file_template(root.parent / "template"))
    inputs = {"mode": "attach", "vm": "vm", "root": str(root.parent / "workspaces")}
    changed = replace(wished, inputs=VMInputs.model_validate(inputs))
    async with open_local_session(root) as session:
        await build(session, wished)
        with pytest.raises(TerminalError) as refused:
            await EXTENSION.provision(session, changed)
        assert len(await EXTENSION.observe(session, "here", wished.uid)) == 1
        await EXTENSION.teardown(session, wished)
        await EXTENSION.provision(session, changed)
        with pytest.raises(TerminalError):
            await EXTENSION.provision(session, wished)
        await EXTENSION.teardown(session, changed)

    assert refused.value.reason == "ModeChanged"


@pytest.mark.timeout(120)
async def test_an_end_that_cannot_be_written_yet(root: Path) -> None:
    """The build is under way until it can say how it ended, so it is not built a second time."""
    wished = instance(packer.file_template(root.parent / "template", ["mkdir ../exit.new"]))
    directory = root / "builds" / wished.short_id
    async with open_local_session(root) as session:
        await EXTENSION.provision(session, wished)
        async with asyncio.timeout(60):
            while not (directory / "artifacts").exists():  # noqa: ASYNC110 - made by another process
                await asyncio.sleep(0.02)
        (seen,) = await EXTENSION.observe(session, "here", wished.uid)
        (directory / "exit.new").rmdir()
        await build(session, wished)
        (later,) = await EXTENSION.observe(session, "here", wished.uid)
        await EXTENSION.teardown(session, wished)

    assert (seen.state, later.state) == ("Starting", "Running")
