"""What the scripts of mode build make of a directory that somebody meddled with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxer_extensions.vm_packer.scripting import script_text

UID = "11111111-2222-4333-8444-555555555555"
SHORT = "sbx-111111112222"
SEPARATOR = "\x1f"

# Root may read everything, so as root the scripts run as this account (nobody).
ACCOUNT = 65534

TRANSIENT = 75


class Machine:
    """A directory of builds with one that ended well, and an account that is not root."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.builds = directory / "work/builds"
        self.images = directory / "images"
        self.build = self.builds / SHORT
        self.account: list[str] = []
        for made in (self.builds, self.images):
            made.mkdir(parents=True)
        if os.geteuid() == 0:
            self.account = ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups"]
            for made in (directory, directory / "work", self.builds, self.images):
                made.chmod(0o755)
                os.chown(made, ACCOUNT, ACCOUNT)
        done = self.run("provision", self.labels(), "hash", "1", stdin="{}\n")
        assert done.stdout.startswith("copy "), done.stderr
        self._end_well()

    def run(self, name: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a script of mode build."""
        return subprocess.run(
            [*self.account, "sh", "-c", script_text("shared", "build_shared", f"build_{name}"), "sh",
             str(self.builds / ".none"), str(self.builds), SHORT, UID, "env", *arguments],
            input=stdin, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def shell(self, line: str) -> None:
        """Run a shell line among the builds as the account."""
        subprocess.run([*self.account, "sh", "-ec", line], cwd=self.builds, check=True, timeout=60)

    def labels(self) -> str:
        """Return the labels of the build as they travel."""
        labels = {"sandboxer.dev/uid": UID, "sandboxer.dev/environment": "env"}
        return json.dumps(labels | {"sandboxer.dev/spec-hash": "hash"}, separators=(",", ":"))

    def _end_well(self) -> None:
        """Write what the keeper leaves behind."""
        run = f'{{"pid":1,"start":1,"boot":"x","labels":{self.labels()}}}'
        path = f"{self.images}/image"
        record = SEPARATOR.join(["file", "file", "image", "0" * 64, "1", path, path])
        self.shell(
            f"cd {SHORT}; echo 1 >{self.images}/image; echo 0 >exit; echo '{run}' >run; "
            f"printf '%s\\n' '{record}' >artifacts"
        )


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine; not below `tmp_path`, which other accounts may not enter."""
    directory = Path(tempfile.mkdtemp(prefix="sbx-test-", dir="/tmp")).resolve()
    try:
        yield Machine(directory)
    finally:
        subprocess.run(["chmod", "-R", "u+rwX", str(directory)], check=False)
        shutil.rmtree(directory)


def test_what_is_seen_of_a_build(machine: Machine) -> None:
    """Marker, record, exit status and artifacts; an image that was taken away is gone."""
    seen = machine.run("observe").stdout
    again = machine.run("provision", machine.labels(), "hash", "1", stdin="{}\n").stdout
    (machine.images / "image").unlink()
    later = machine.run("observe").stdout

    assert {line.split()[0] for line in seen.splitlines()} >= {
        "boot", "marker", "run", "exit", "artifact", "end",
    }  # fmt: skip
    assert "gone" not in seen
    assert again == "done\n", "what is over is not built again"
    assert f"gone {SHORT} {machine.images}/image" in later
    assert machine.run("provision", "{}", "hash", "1", stdin="{}\n").stdout.startswith("copy ")


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param("chmod 000 .", id="builds"),
        pytest.param("chmod 000 ..", id="work-root"),
        pytest.param("chmod 000 {name}", id="build"),
        pytest.param("chmod 000 {name}/.sandboxer.json", id="marker"),
        pytest.param("chmod 000 {name}/run", id="record"),
        pytest.param("chmod 000 {name}/exit", id="exit"),
        pytest.param("chmod 000 {name}/artifacts", id="artifacts"),
        pytest.param("chmod 000 ../../images", id="images"),
    ],
)  # fmt: skip
def test_unreadable_is_not_gone(machine: Machine, harm: str) -> None:
    """What cannot be looked into is an error that may pass: neither 'nothing there' nor built anew."""
    machine.shell(harm.format(name=SHORT))

    seen = machine.run("observe")

    assert (seen.returncode, "may not read" in seen.stderr) == (TRANSIENT, True), seen.stderr
    assert "end - -" not in seen.stdout


def test_builds_behind_a_wall_are_not_removed(machine: Machine) -> None:
    """A removal that cannot look does not say that there is nothing to remove."""
    machine.shell("chmod 000 .")

    done = machine.run("remove")

    assert (done.returncode, "may not read" in done.stderr) == (TRANSIENT, True)


def test_build_without_rights_goes(machine: Machine) -> None:
    """A provisioner that took the rights away does not stay; the image does."""
    machine.shell(f"mkdir -p {SHORT}/template/a/b; chmod 000 {SHORT}/template/a {SHORT}")

    done = machine.run("remove")

    assert (done.returncode, done.stderr) == (0, "")
    assert list(machine.builds.iterdir()) == []
    assert (machine.images / "image").exists()


def test_link_planted_beside_what_cannot_be_removed(machine: Machine) -> None:
    """Rights are given back within the build only."""
    machine.shell("mkdir ../victim; mkdir ../victim/sub; chmod 500 ../victim/sub ../victim")
    victim = machine.directory / "work/victim"
    machine.shell(
        f"ln -s {victim} {SHORT}/evil; ln -s {victim} {SHORT}/template; "
        f"mkdir -p {SHORT}/home/a/b; chmod 500 {SHORT}/home/a {SHORT}"
    )

    assert machine.run("remove").returncode == 0

    assert not machine.build.exists()
    assert [oct((victim / name).stat().st_mode)[-3:] for name in ("", "sub")] == ["500", "500"]


def test_absent_is_success(machine: Machine) -> None:
    """A second removal, and one where builds never were, has nothing to do."""
    assert machine.run("remove").returncode == 0
    assert machine.run("remove").returncode == 0
    machine.shell("cd ..; rmdir builds")

    assert (machine.run("remove").returncode, machine.run("observe").returncode) == (0, 0)
    assert machine.run("observe").stdout.endswith("end - -\n")


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param("rm {name}/artifacts", id="an end without artifacts"),
        pytest.param(
            'echo "{{\\"pid\\":x,\\"boot\\":\\"$(cat /proc/sys/kernel/random/boot_id)\\"}}" >{name}/run',
            id="a record without a pid",
        ),
        *(
            pytest.param(f"rm -f {{name}}/{file}; mkfifo {{name}}/{file}", id=f"{file} as a pipe")
            for file in ("run", "exit", "artifacts", "log", "manifest.json")
        ),
    ],
)
def test_one_build_does_not_hide_the_others(machine: Machine, harm: str) -> None:
    """Whatever a provisioner wrote into its own directory, it is looked at to the end, and removed."""
    machine.shell(f"echo 1 >{SHORT}/exit; {harm.format(name=SHORT)}")

    seen = machine.run("observe")
    removed = machine.run("remove")

    assert (seen.returncode, seen.stdout.endswith("end - -\n")) == (0, True), seen.stderr
    assert (removed.returncode, machine.build.exists()) == (0, False), removed.stderr


@pytest.mark.parametrize("said", ["", "x y", "-", "08", "9" * 30, "a[$(touch proof)]"])
def test_time_of_a_cancel_that_cannot_be_read(machine: Machine, said: str) -> None:
    """It counts as long ago: what runs is killed, and the removal comes to its end."""
    running = subprocess.Popen(
        [*machine.account, "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"],
        env={"SANDBOXER_BUILD": f"env/{UID}", "PATH": os.environ["PATH"]}, cwd="/",
    )  # fmt: skip
    machine.shell(f"rm {SHORT}/exit; printf '%s\\n' '{said}' >{SHORT}/cancelled")
    try:
        done = machine.run("remove")
        assert (done.returncode, done.stdout, machine.build.exists()) == (0, "", False), done.stderr
        assert running.wait(10) == -9
    finally:
        running.kill()
        running.wait()


def test_copies_of_dead_controllers_go(machine: Machine) -> None:
    """However many calls were cut, the machine holds one copy of the template."""
    machine.shell(f"rm {SHORT}/exit {SHORT}/run; mkdir {SHORT}/.copy.1 {SHORT}/.gone.2")

    answers = [
        machine.run("provision", machine.labels(), "hash", "1", stdin="{}\n").stdout
        for _ in range(3)
    ]

    assert [str(path) for path in machine.build.glob(".copy.*")] == [answers[-1].split()[1]]
    assert not list(machine.build.glob(".gone.*"))


def test_image_of_a_killed_keeper_stays(machine: Machine) -> None:
    """It gets its final name; what holds no image goes."""
    machine.shell(
        f"mkdir -p ../images/image-{SHORT}/1 ../images/image-{SHORT}/.1/output; "
        f"cd ../images/image-{SHORT}; echo bytes >.1/output/image.img; mkdir .3; echo >.3/.sandboxer.json"
    )

    assert machine.run("remove").returncode == 0

    images = machine.directory / f"work/images/image-{SHORT}"
    assert sorted(path.name for path in images.iterdir()) == ["1", "2"]
    assert (images / "2/output/image.img").read_text() == "bytes\n"


def test_link_of_another_account_in_tmp(machine: Machine) -> None:
    """Nobody else keeps a build from being removed."""
    link = Path("/tmp") / SHORT
    link.symlink_to(machine.images)
    try:
        done = machine.run("remove")
    finally:
        link.unlink(missing_ok=True)

    assert (done.returncode, machine.build.exists()) == (0, False), done.stderr
