"""`sandboxer cp` and `sandboxer ssh`: a sandbox of this machine, and a container on another one."""

from __future__ import annotations

import io
import os
import pty
import random
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.installation import Installation
from tests.integration.cli_lab import installed
from tests.rig import Rig

HOST = "h1"
COMPOSE = f"""
services:
  app:
    image: {Rig.image}
    command: [sleep, "2147483647"]
  other:
    image: {Rig.image}
    command: [sleep, "2147483647"]
"""
FAR = {
    "apiVersion": "sandboxer.dev/v1alpha1",
    "kind": "Sandbox",
    "metadata": {"name": "far"},
    "spec": {
        "profile": "profile.compose-e2e",
        "inputs": {"compose": COMPOSE},
        "placement": {"host": HOST},
    },
}


@pytest.fixture(scope="module")
def here(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    rig.clean(HOST)
    with installed(tmp_path_factory.mktemp("copying"), "socket") as installation:
        installation.ok("apply", "-f", "-", stdin=yaml.safe_dump(rig.hosts[HOST].manifest()))
        installation.ok("apply", "-f", "-", stdin=yaml.safe_dump(FAR))
        installation.ok("create", "--name", "near", "--profile", "profile.local")
        installation.ok("wait", "sbx/far", "--for=condition=Ready", "--timeout", "60s")
        installation.ok("exec", "near", "--", "touch", "here")
        yield installation
    rig.clean(HOST)


def tree(directory: Path) -> dict[str, tuple[int, bytes | str]]:
    """Return permissions and content of everything below a directory."""
    return {
        str(path.relative_to(directory)): (
            path.lstat().st_mode & 0o777,
            str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b"",
        )
        for path in directory.rglob("*")
    }  # fmt: skip


def use_tar(here: Installation, script: str) -> None:
    """Replace `tar` in the service `app`; the old one is /bin/old-tar."""
    here.ok(
        "exec", "-i", "far", "--", "sh", "-c",
        "[ -e /bin/old-tar ] || mv /bin/tar /bin/old-tar; cat >/bin/tar; chmod +x /bin/tar", stdin=script,
    )  # fmt: skip


@pytest.fixture
def tar_restored(here: Installation) -> Iterator[None]:
    yield
    here.ok("exec", "far", "--", "sh", "-c", "[ ! -e /bin/old-tar ] || mv -f /bin/old-tar /bin/tar")


@pytest.mark.parametrize("place", ["near", "far"])
def test_a_tree_there_and_back(here: Installation, place: str, tmp_path: Path) -> None:
    """Directories, permissions and links arrive and come back; a second copy goes into the first."""
    source = tmp_path / "tree"
    (source / "deep/empty").mkdir(parents=True)
    (source / "deep/file name").write_bytes(random.Random(1).randbytes(300_000))
    (source / "run").write_text("#!/bin/sh\n")
    (source / "run").chmod(0o750)
    (source / "deep/up").symlink_to("../run")

    here.ok("cp", str(source), f"{place}:copied")
    here.ok("cp", str(source), f"{place}:copied")
    here.ok("cp", f"{place}:copied", str(tmp_path / "back"))

    assert tree(tmp_path / "back/tree") == tree(source)
    assert tree(tmp_path / "back") == tree(source) | {
        f"tree/{name}": found for name, found in tree(source).items()
    } | {"tree": (source.stat().st_mode & 0o777, b"")}  # fmt: skip


def test_one_file(here: Installation, tmp_path: Path) -> None:
    """A file gets the name that is given, or its own in a directory, and replaces what was there."""
    (tmp_path / "mine").write_text("one")
    (tmp_path / "mine").chmod(0o640)

    here.ok("exec", "far", "--", "mkdir", "box")

    here.ok("cp", str(tmp_path / "mine"), "far:-odd")
    here.ok("cp", str(tmp_path / "mine"), "far:box")
    (tmp_path / "mine").write_text("two")
    here.ok("cp", "far:-odd", str(tmp_path / "mine"))
    here.ok("cp", "far:box/mine", str(tmp_path / "other"))

    assert (tmp_path / "mine").read_text() == (tmp_path / "other").read_text() == "one"
    assert (tmp_path / "other").stat().st_mode & 0o777 == 0o640
    assert here.ok("exec", "far", "--", "ls", "-A", "box") == "mine\n"


def test_archives_on_standard_streams(here: Installation, tmp_path: Path) -> None:
    """`-` is a tar archive, on either side."""
    source = tmp_path / "tree"
    source.mkdir()
    (source / "file").write_bytes(random.Random(2).randbytes(1_000_000))
    command = [sys.executable, "-m", "sandboxer", "cp"]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as writing:
        writing.add(source, ".")

    sent = subprocess.run(
        [*command, "-", "near:streamed"], env=here.environment, check=False,
        input=archive.getvalue(), capture_output=True, timeout=60,
    )  # fmt: skip
    got = subprocess.run(
        [*command, "near:streamed", "-"], env=here.environment, check=False,
        capture_output=True, timeout=60,
    )  # fmt: skip

    assert (sent.returncode, got.returncode) == (0, 0), sent.stderr + got.stderr
    with tarfile.open(fileobj=io.BytesIO(got.stdout)) as reading:
        back = reading.extractfile("./file")
        assert back is not None
        assert back.read() == (source / "file").read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(["near:absent", "."], 4, "There is no absent in sandbox near", id="absent-there"),
        pytest.param(["/no/such", "near:"], 4, "There is no /no/such on this machine", id="absent-here"),
        pytest.param(["nobody:x", "."], 4, "There is no sandbox", id="no-sandbox"),
        pytest.param(["/etc/hostname", "near:no/such/place"], 1, "no/such", id="no-directory-there"),
        pytest.param(["near:here", "no/such/place"], 1, "no/such/place", id="no-directory-here"),
        pytest.param(["near:here", "/dev/full"], 1, "neither a file", id="device-here"),
        pytest.param(["/dev/full", "near:"], 1, "neither a file", id="device-source"),
        pytest.param(["near:a", "far:b"], 2, "cp - B:PATH", id="both-there"),
        pytest.param(["./a", "b"], 2, "one side must be ID:PATH", id="both-here"),
    ],
)  # fmt: skip
def test_what_cannot_be_copied(here: Installation, words: list[str], code: int, said: str) -> None:
    """Each refusal has its exit code and names what is wrong."""
    done = here.run("cp", *words)

    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_inputs_that_cannot_be_awaited(here: Installation) -> None:
    """/dev/null ends at once; an input that cannot be read is an error, and nobody waits for it."""

    def run(*words: str, mode: str = "rb") -> subprocess.CompletedProcess[str]:
        with Path("/dev/null").open(mode) as stdin:
            return subprocess.run(
                [sys.executable, "-m", "sandboxer", *words], env=here.environment, check=False,
                stdin=stdin, capture_output=True, text=True, timeout=60,
            )  # fmt: skip

    read = run("exec", "-i", "near", "--", "cat")
    copied = run("cp", "-", "near:emptied")
    refused = run("exec", "-i", "near", "--", "cat", mode="wb")

    assert (read.returncode, read.stdout, read.stderr) == (0, "", "")
    assert (copied.returncode, "tar: " in copied.stderr) == (1, True), copied.stderr
    assert (refused.returncode, "Standard input cannot be read" in refused.stderr) == (1, True)


def test_a_tar_that_reads_nothing(here: Installation, tmp_path: Path) -> None:
    """A program that ends well before it has everything ends the copy, which is not called whole."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(b"x" * 2**24)
    path = "PATH=./bin:/usr/bin:/bin"
    here.ok("create", "--name", "lazy", "--profile", "profile.local", "--env", path)
    here.ok(
        "exec", "lazy", "--", "sh", "-c", "mkdir bin; echo '#!/bin/sh' >bin/tar; chmod +x bin/tar"
    )

    done = here.run("cp", str(tmp_path / "tree"), "lazy:half")

    assert (done.returncode, "before it had read all" in done.stderr) == (1, True), done.stderr


@pytest.mark.usefixtures("tar_restored")
def test_a_sandbox_without_tar(here: Installation, tmp_path: Path) -> None:
    """The error says what lacks and that another service may have it; there it works."""
    here.ok("exec", "far", "--", "mv", "/bin/tar", "/bin/old-tar")

    refused = here.run("cp", "far:/etc/passwd", str(tmp_path / "passwd"))
    assert not (tmp_path / "passwd").exists()
    here.ok("cp", "-c", "other", "far:/etc/passwd", str(tmp_path / "passwd"))

    assert (refused.returncode, "no `tar`" in refused.stderr) == (8, True), refused.stderr
    assert "-c" in refused.stderr
    assert (tmp_path / "passwd").exists()


@pytest.mark.usefixtures("tar_restored")
def test_a_hostile_tar(here: Installation, tmp_path: Path) -> None:
    """Whatever the sandbox calls an archive, nothing outside the destination is written."""
    archive, home = tmp_path / "evil.tar", tmp_path / "home"
    home.mkdir()
    with tarfile.open(archive, "w") as writing:
        link, file = tarfile.TarInfo("./out"), tarfile.TarInfo("./out/file")
        link.type, link.linkname, file.size = tarfile.SYMTYPE, str(home), 3
        writing.addfile(tarfile.TarInfo("./first"))
        writing.addfile(link)
        file.name = "../home/.profile"
        writing.addfile(file, io.BytesIO(b"bad"))
    here.ok("cp", str(archive), "far:/tmp/evil.tar")
    use_tar(here, "#!/bin/sh\ncat /tmp/evil.tar\n")

    tree = here.run("cp", "far:/etc", str(tmp_path / "got"))
    one = here.run("cp", "far:/etc/passwd", str(tmp_path / "one"))

    assert (tree.returncode, one.returncode) == (1, 1)
    assert "leads outside" in tree.stderr
    assert list(home.iterdir()) == []
    assert [path.name for path in (tmp_path / "got").iterdir()] == ["first"]


@pytest.mark.usefixtures("tar_restored")
def test_a_copy_that_breaks_off(here: Installation, tmp_path: Path) -> None:
    """Half a file never takes the place of a whole one, and the command says that it failed."""
    (tmp_path / "mine").write_text("former")
    here.ok("exec", "far", "--", "sh", "-c", "head -c 3000000 /dev/urandom >/tmp/big")
    use_tar(
        here, '#!/bin/sh\n/bin/old-tar "$@" | head -c 1000000\necho the disk died >&2\nexit 3\n'
    )

    done = here.run("cp", "far:/tmp/big", str(tmp_path / "mine"))

    assert done.returncode == 1
    assert "the disk died" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine").read_text() == "former"


def test_a_file_that_cannot_be_read_ends_the_copy(here: Installation, tmp_path: Path) -> None:
    """What shrinks while it is sent is an error, and no half of it appears in the sandbox."""
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(2**40)
    copying = subprocess.Popen(
        [sys.executable, "-m", "sandboxer", "cp", str(big), "near:shrunk"],
        env=here.environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    work = here.directory / "work"
    here.wait_until(
        "the copy is under way",
        lambda: any(p.stat().st_size > 2**20 for p in work.glob("sbx-*/work/.sandboxer-*")),
        timeout_s=30,
    )

    os.truncate(big, 0)
    _, said = copying.communicate(timeout=60)

    assert copying.returncode == 1, said
    assert "became shorter" in said
    assert here.run("exec", "near", "--", "test", "-e", "shrunk").returncode == 1


def test_ssh_leads_to_the_directory_on_the_host(here: Installation) -> None:
    """`ssh` runs a command, as it is, where the sandbox's files are, and passes its exit code."""
    directory = here.sandboxes()["far"]["status"]["reachability"]["remoteDir"]

    done = here.run("ssh", "far", "--", "sh", "-c", 'pwd; echo "$1"; exit 7', "sh", "a  'b $HOME")
    shell = here.run("ssh", "far", stdin="pwd\n")

    assert (done.returncode, done.stdout) == (7, f"{directory}\na  'b $HOME\n"), done.stderr
    assert shell.stdout.strip().splitlines()[-1] == directory


def test_ssh_gives_a_terminal_to_a_person_only(here: Installation) -> None:
    """What goes into a file arrives byte by byte, though somebody sits at the keyboard."""
    argv = [sys.executable, "-m", "sandboxer", "ssh", "far", "--", "sh", "-c"]
    keyboard, window = pty.openpty()
    try:
        filed = subprocess.run(
            [*argv, r"printf 'a\n'"], env=here.environment, check=False, timeout=60,
            stdin=window, capture_output=True,
        )  # fmt: skip
        seen = subprocess.run(
            [*argv, "test -t 1 && echo there"], env=here.environment, check=False, timeout=60,
            stdin=window, stdout=window, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        shown = os.read(keyboard, 4096)
    finally:
        os.close(keyboard)
        os.close(window)

    assert (filed.returncode, filed.stdout) == (0, b"a\n"), filed.stderr
    assert (seen.returncode, shown) == (0, b"there\r\n")


def test_ssh_accepts_no_other_machine(here: Installation, rig: Rig) -> None:
    """A machine that shows another key is not entered; one that SSH does not lead to is said."""
    local = here.run("ssh", "near", "--", "true")
    manifest = rig.hosts[HOST].manifest()
    known = dict(manifest["spec"])
    other = rig.hosts["h2"].manifest()["spec"]["hostKey"]
    here.ok(
        "apply", "-f", "-", stdin=yaml.safe_dump(manifest | {"spec": known | {"hostKey": other}})
    )

    refused = here.run("ssh", "far", "--", "true")
    here.ok("apply", "-f", "-", stdin=yaml.safe_dump(manifest))

    assert (refused.returncode, "REMOTE HOST IDENTIFICATION" in refused.stderr) == (255, True)
    assert (local.returncode, "sandboxer exec" in local.stderr) == (1, True)
