"""What the scripts of mode attach make of a file system that somebody meddled with."""

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

UID, OTHER = "11111111-2222-4333-8444-555555555555", "99999999-2222-4333-8444-555555555555"

# Root may read everything, so as root the scripts run as this account (nobody).
ACCOUNT = 65534

TERMINAL, TRANSIENT = 65, 75


class Machine:
    """A root for workspaces, and an account that is not root."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "root"
        self.index = directory / "vm-roots"
        self.account: list[str] = []
        for made in (self.root, self.index):
            made.mkdir(mode=0o755)
        if os.geteuid() == 0:
            self.account = ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups"]
            directory.chmod(0o755)
            for made in (self.root, self.index):
                os.chown(made, ACCOUNT, ACCOUNT)

    def run(self, name: str, uid: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a script as on a VM whose default root was never used."""
        short = short_id(uid) if uid else ""
        return subprocess.run(
            [*self.account, "sh", "-c", script_text("shared", name), "sh",
             str(self.index), str(self.directory / "default"), short, uid, "env", *arguments],
            input="{}\n", capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def make(self, uid: str, name: str = "") -> Path:
        """Make a workspace and return its directory."""
        labels = {"sandboxer.dev/uid": uid, "sandboxer.dev/environment": "env"}
        text = json.dumps(labels, separators=(",", ":"))
        name = name or short_id(uid)
        done = self.run("provision", uid, str(self.root), name, text, "hash", "no", "1")
        assert done.stdout == "ready\n", done.stderr
        return self.root / name

    def shell(self, line: str) -> None:
        """Run a shell line in the root as the account."""
        subprocess.run([*self.account, "sh", "-ec", line], cwd=self.root, check=True, timeout=60)


def short_id(uid: str) -> str:
    """Return the name of a uid's resources."""
    return f"sbx-{uid.replace('-', '')[:12]}"


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine; not below `tmp_path`, which other accounts may not enter."""
    directory = Path(tempfile.mkdtemp(prefix="sbx-test-", dir="/tmp")).resolve()
    try:
        yield Machine(directory)
    finally:
        subprocess.run(["chmod", "-R", "u+rwX", str(directory)], check=False)
        shutil.rmtree(directory)


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        pytest.param("chmod 000 .", "may not read", id="root"),
        pytest.param("chmod 000 ../vm-roots", "may not read", id="index"),
        pytest.param("chmod 000 {name}", "may not read", id="workspace"),
        pytest.param("chmod 000 {name}/.sandboxer.json", "may not read", id="marker"),
    ],
)  # fmt: skip
def test_unreadable_is_not_empty(machine: Machine, harm: str, word: str) -> None:
    """What cannot be looked into is an error that may pass, and never the answer 'nothing there'."""
    machine.shell(harm.format(name=machine.make(UID).name))

    for uid in ("", UID):
        seen = machine.run("observe", uid)
        assert (seen.returncode, seen.stdout) == (TRANSIENT, "")
        assert word in seen.stderr


def test_root_that_became_a_link(machine: Machine) -> None:
    """Workspaces behind a link are neither lost silently nor removed through it."""
    kept = machine.make(UID)
    machine.root.rename(machine.directory / "moved")
    machine.root.symlink_to("moved")

    for script in ("observe", "remove"):
        done = machine.run(script, UID)
        assert done.returncode == TRANSIENT
        assert "symbolic link" in done.stderr
    assert (kept / "work").is_dir()


def test_workspace_without_rights_goes(machine: Machine) -> None:
    """Who takes the rights to its own workspace away neither stays nor keeps a neighbour there."""
    hostile, neighbour = machine.make(UID), machine.make(OTHER)
    machine.shell(f"mkdir -p {hostile}/work/a/b; chmod 000 {hostile}/work/a {hostile}")

    assert machine.run("observe", OTHER).stdout.endswith("end\n")
    for uid in (OTHER, UID):
        done = machine.run("remove", uid)
        assert (done.returncode, done.stderr) == (0, "")
    assert not list(machine.root.iterdir())
    assert not neighbour.exists()


def test_link_planted_beside_what_cannot_be_removed(machine: Machine) -> None:
    """Rights are given back within the workspace only."""
    workspace, victim = machine.make(UID, "named"), machine.directory / "victim"
    machine.shell(f"mkdir {machine.root}/v; mkdir {machine.root}/v/sub; chmod 500 v/sub v")
    (machine.root / "v").rename(victim)
    machine.shell(
        f"ln -s {victim} {workspace}/evil; mkdir -p {workspace}/work/a/b; chmod 500 {workspace}/work/a {workspace}"
    )

    assert machine.run("remove", UID).returncode == 0

    assert not workspace.exists()
    assert [oct((victim / name).stat().st_mode)[-3:] for name in ("", "sub")] == ["500", "500"]


def test_copy_that_a_person_made(machine: Machine) -> None:
    """A copy of a workspace, marker and all, is the person's: it stays, and is in nobody's way."""
    workspace = machine.make(UID)
    machine.shell(f"cp -a {workspace.name} results")

    assert machine.make(UID) == workspace
    assert machine.run("remove", UID).returncode == 0

    assert [path.name for path in machine.root.iterdir()] == ["results"]


def test_lost_marker_is_told(machine: Machine) -> None:
    """A workspace whose marker was emptied is not removed, and not forgotten."""
    workspace = machine.make(UID)
    machine.shell(f": >{workspace}/.sandboxer.json")

    done = machine.run("remove", UID)

    assert done.returncode == TERMINAL
    assert f"{workspace} is still there" in done.stderr
    assert (workspace / "work").is_dir()


def test_name_that_was_given_away_while_waiting(machine: Machine) -> None:
    """A removal that waited for the lock looks again: the name may be another sandbox's by now."""
    workspace = machine.make(UID, "shared")
    with subprocess.Popen(
        [*machine.account, "flock", str(machine.root), "sh", "-c", "echo locked; read -r _"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()
        with subprocess.Popen(
            [*machine.account, "sh", "-c", script_text("shared", "remove"), "sh", str(machine.index),
             str(machine.directory / "default"), short_id(UID), UID, "env"],
        ) as removal:  # fmt: skip
            _until_waiting(removal.pid)
            marker = (workspace / ".sandboxer.json").read_text()
            machine.shell(
                f"cat >shared/new <<'E'\n{marker.replace(UID, OTHER)}E\nmv shared/new shared/.sandboxer.json"
            )
            holder.stdin.close()
            assert removal.wait(60) == 0

    assert (workspace / "work").is_dir()


def _until_waiting(pid: int) -> None:
    """Return once the script stands in the root, as it does while it waits for the lock."""
    while Path(f"/proc/{pid}/cwd").readlink().name != "root":
        pass


def test_index_that_was_meddled_with(machine: Machine) -> None:
    """A name that would be split, or be a pattern, leads nowhere."""
    precious = machine.directory / "root" / "precious"
    machine.shell("mkdir precious 'precious x' 'precious x/sbx'")
    trap = f"{precious} x/sbx"
    labels = f'{{"sandboxer.dev/uid":"{UID}","sandboxer.dev/environment":"env"}}'
    Path(trap, ".sandboxer.json").write_text(f'{{"path":"{trap}","labels":{labels}}}\n')
    (machine.index / f"{precious} x".replace("/", ":")).touch()

    assert machine.run("remove", UID).returncode == 0

    assert precious.is_dir()
