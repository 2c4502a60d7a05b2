"""Builds by a real Packer, by the command line: their life, their end, and what is in their way."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.build_lab import PROFILE, Builder
from tests.rig import packer

CHECKOUT = Path(__file__).parents[2]
SECRET = "s3cr3t,to'ken/$(id)&"


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """Somebody who builds, with a controller; nothing of their builds runs on afterwards."""
    made = Builder(tmp_path_factory.mktemp("builder"))
    try:
        made.start()
        yield made
    finally:
        made.sandboxer.kill()
    assert packer.kill_builds_below(made.work_root) == 0, "a build was left running"


@pytest.mark.timeout(180)
def test_life_of_a_build(builder: Builder) -> None:
    """Build, see it, read its log without the secret, delete it: the image and its checksum stay."""
    secret = builder.directory / "token"
    secret.write_text(f"{SECRET}\n")
    packer.file_template(
        builder.template,
        ['echo "the token is $PKR_VAR_token, the plain variable is ${#token} long"'],
    )
    builder.apply(
        "image",
        vm_name="haskell-build",
        packer_var_content=f"; touch {builder.proof} $(touch {builder.proof})",
        secrets=({"name": "token", "fromFile": str(secret)},),
    )
    builder.wait("image", "Ready")

    (artifact,) = builder.artifacts("image")
    image = Path(artifact["name"])
    content = image.read_bytes()
    logs = builder.sandboxer.ok("logs", "image", "--follow")
    builder.sandboxer.ok("delete", "sandbox", "image")

    assert image.name == "haskell-build.img"
    assert content.startswith(b"; touch "), "a variable arrives as it is written"
    assert not builder.proof.exists()
    assert artifact["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert "builder packer.file, id File" in artifact["detail"]
    assert f"the token is ***, the plain variable is {len(SECRET)} long" in logs
    assert "s3cr3t" not in logs
    assert builder.builds() == []
    assert image.read_bytes() == content, "the image stays"
    sums = (image.parents[1] / "SHA256SUMS").read_text()
    assert sums == f"{artifact['digest'].removeprefix('sha256:')}  output/haskell-build.img\n"


@pytest.mark.timeout(180)
def test_controller_killed_during_a_build(builder: Builder) -> None:
    """The build goes on without a controller, the next one finds it, and there is no second one."""
    gate, starts = builder.directory / "gate", builder.directory / "starts"
    packer.file_template(
        builder.template,
        [f"echo started >>{starts}", f"echo waiting; while [ ! -e {gate} ]; do sleep 0.1; done"],
    )
    (builder.directory / "key").write_text(SECRET)
    key = {"name": "token", "fromFile": str(builder.directory / "key")}
    builder.apply("long", secrets=(key,))
    builder.wait("long", "Ready", "RunningProvisioners")
    builder.sandboxer.wait_until("the provisioner waits", starts.exists, timeout_s=30)
    uid = builder.uid("long")
    before = set(packer.processes_of(uid))
    commands = packer.command_lines(before)

    builder.sandboxer.kill()
    after = set(packer.processes_of(uid))
    builder.start()
    builder.sandboxer.wait_until(
        "progress is told",
        lambda: builder.condition("long", "Ready")["message"] == "Packer: file.image: waiting",
        timeout_s=60,
    )
    with ThreadPoolExecutor(1) as background:
        followed = background.submit(builder.sandboxer.ok, "logs", "long", "--follow")
        gate.touch()
        builder.wait("long", "Ready")
        logs = followed.result(timeout=60)

    assert len(before & after) >= 3, "the keeper, Packer and the provisioner live on"
    assert SECRET.encode() not in commands, "a secret is on no command line"
    assert b"packer" in commands
    assert starts.read_text() == "started\n"
    assert [Path(a["name"]).name for a in builder.artifacts("long")] == ["image.img"]
    assert "file.image: waiting" in logs
    assert "sandboxer: Packer ended with exit status 0" in logs, "following ends with the build"
    told = builder.sandboxer.ok("describe", "sandbox", "long")
    assert "RunningProvisioners" in told, "progress is told by events"
    builder.sandboxer.ok("delete", "sandbox", "long")


@pytest.mark.timeout(180)
def test_a_build_is_cancelled(builder: Builder) -> None:
    """Packer and everything it started are asked to clean up, and then nothing of them is left."""
    cleaned, waits = builder.directory / "cleaned", builder.directory / "waits"
    packer.file_template(
        builder.template,
        [
            packer.NOBODY_READS,
            f"trap 'echo cleaned >>{cleaned}; exit 1' TERM",
            # Leaves its session and ignores what it is asked: for this there is force.
            "setsid sh -c 'trap : TERM; while :; do sleep 0.1; done' >/dev/null 2>&1 &",
            # NOTE: `|| :`, for Packer runs it with -e, and the sleep is told to end too.
            f"touch {waits}; while :; do sleep 0.1 || :; done",
        ],
    )
    builder.apply("doomed")
    builder.sandboxer.wait_until("the provisioner waits", waits.exists, timeout_s=60)
    uid = builder.uid("doomed")
    first = packer.processes_of(uid)
    # Another wish takes the place of the first build, and then it is wished no more.
    waits.unlink()
    builder.apply("doomed", sync="again")
    builder.sandboxer.wait_until("the second one waits", waits.exists, timeout_s=60)
    second = packer.processes_of(uid)

    builder.sandboxer.ok("delete", "sandbox", "doomed")

    assert first
    assert second
    assert not set(first) & set(second), "there are never two builds"
    assert packer.processes_of(uid) == []
    assert cleaned.read_text() == "cleaned\n" * 2, "a provisioner has the time to clean up"
    assert builder.builds() == []
    assert not Path(f"/tmp/sbx-{uid.replace('-', '')[:12]}").exists()
    assert not list(builder.work_root.glob("images/doomed-*/*"))


@pytest.mark.timeout(180)
def test_templates_that_are_wrong(builder: Builder) -> None:
    """An error comes in Packer's words with file and line, a failed build with its last lines."""
    packer.file_template(builder.template)
    right = (builder.template / "image.pkr.hcl").read_text()
    (builder.template / "image.pkr.hcl").write_text(right.replace("content = ", "contents = "))
    builder.apply("image")
    refused = builder.wait("image", "Stalled", "TemplateInvalid")

    # Valid, and it fails; then it is mended. `sync` says that the template is to be read again.
    packer.file_template(builder.template, ["echo no such compiler >&2; exit 3"])
    builder.apply("image", sync="2")
    failed = builder.wait("image", "Stalled", "PackerFailed")
    logs = builder.sandboxer.ok("logs", "image", "--tail", "20")
    (builder.template / "image.pkr.hcl").write_text(right)
    builder.apply("image", sync="3")
    builder.wait("image", "Ready")

    assert "Unsupported argument" in refused
    assert "image.pkr.hcl line 16" in refused
    assert "Packer ended with exit status 1" in failed
    assert "no such compiler" in failed
    assert "non-zero exit status: 3" in failed
    assert "file.image: no such compiler" in logs
    assert builder.condition("image", "Stalled")["status"] == "False"
    builder.sandboxer.ok("delete", "sandbox", "image")


@pytest.mark.timeout(120)
def test_hostile_inputs_are_refused_or_inert(builder: Builder) -> None:
    """No input becomes an option, a path elsewhere, a second argument or a shell's word."""
    packer.file_template(builder.template)
    template = f"packer_template={builder.template}"
    hostile = {
        "vm_name=-x": "vm_name",
        "packer_var_-machine-readable=x": "packer_var",
        "packer_template=-force": "packer_template",
        "packer_template=/etc": "*.pkr.hcl",
        "packer_var_nope=1": "nope",
    }

    for text, word in hostile.items():
        given = (template, text) if not text.startswith("packer_template") else (text,)
        options = [option for one in given for option in ("--input", one)]
        done = builder.sandboxer.run(
            "create", "--name", "hostile", "--profile", PROFILE, *options, "--timeout", "30s"
        )
        assert done.returncode != 0, (text, done.stdout)
        assert word in done.stderr, (text, done.stderr)
        assert "Traceback" not in done.stderr
        builder.sandboxer.run("delete", "sandbox", "hostile", "--ignore-not-found")

    assert not builder.proof.exists()
    assert builder.builds() == []


@pytest.mark.timeout(120)
def test_the_example_works(builder: Builder) -> None:
    """Every command that examples/07-packer-build shows ends with success."""
    readme = (CHECKOUT / "examples/07-packer-build/README.md").read_text()
    block = re.search(r"^```sh\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert block
    environment = os.environ | {
        "SANDBOXER_DATA_DIR": str(builder.directory / "installation/data"),
        "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}",
    }

    done = subprocess.run(
        ["bash", "-euc", block[1]], cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "sha256:" in done.stdout
    assert builder.builds() == []
