"""What `ext.local` does on this machine beyond the conformance suite."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from sandboxer.errors import InvalidSpecError, TerminalError, TransientError
from sandboxer.extension import Instance, PortLease
from sandboxer.kinds.host import Host, HostSpec
from sandboxer.kinds.sandbox import Resources
from sandboxer.session import Session, TerminalSize
from sandboxer.testing.conformance import Output
from sandboxer.testing.faults import Fault, FaultySession, lose_link
from sandboxer.testing.this_machine import local_host, open_local_session
from sandboxer_extensions.local import LocalExtension, LocalInputs

ENVIRONMENT = "unit-local"
LOCAL = LocalExtension()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "work-root"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
async def session(root: Path) -> AsyncIterator[Session]:
    """A session whose sandboxes go with it."""
    async with open_local_session(root) as session:
        yield session
        for seen in await LOCAL.observe(session, ENVIRONMENT):
            await LOCAL.reap(session, ENVIRONMENT, seen.uid)


def make_instance(**inputs: str) -> Instance:
    return Instance(
        uid=str(uuid.uuid4()),
        namespace="default",
        name="hello",
        environment=ENVIRONMENT,
        extension="ext.local",
        spec_hash="0123456789abcdef",
        inputs=LocalInputs.model_validate(inputs),
    )


async def until(session: Session, instance: Instance, state: str) -> str:
    """Observe until it is in *state*; return the message it has then."""
    deadline = time.monotonic() + 60
    while True:
        [seen] = await LOCAL.observe(session, ENVIRONMENT, instance.uid)
        if seen.state == state:
            return seen.message
        assert time.monotonic() < deadline, seen


def command(*argv: str) -> None:
    subprocess.run(argv, check=True)


def pid_namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def arguments_of(pid: int | str) -> bytes:
    """Return the arguments of a process, empty when it is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def all_arguments() -> bytes:
    return b"".join(arguments_of(path.name) for path in Path("/proc").glob("[0-9]*"))


def files_below(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


async def run(session: Session, instance: Instance, script: str) -> str:
    output = Output()
    await LOCAL.exec(session, instance, ["sh", "-c", script], output.streams())
    return (output.stdout + output.stderr).decode()


def test_offer_needs_this_machine(root: Path) -> None:
    """A host behind SSH is refused with the reason."""
    ssh = local_host(root).model_copy(update={"spec": HostSpec(address="192.0.2.1")})

    offer = LOCAL.offer(ssh, LocalInputs())

    assert not offer.fits
    assert "own machine" in offer.reason


@pytest.mark.parametrize(
    ("tools", "isolation", "fits", "level"),
    [
        pytest.param("bwrap unshare flock setsid", "auto", True, "namespace", id="bubblewrap"),
        pytest.param("unshare flock setsid", "auto", True, "namespace", id="unshare"),
        pytest.param("flock setsid", "auto", True, "none", id="nothing"),
        pytest.param("bwrap flock setsid", "none", True, "none", id="none-wished"),
        pytest.param("unshare flock setsid", "bubblewrap", False, "none", id="not-installed"),
        pytest.param("bwrap setsid", "auto", False, "none", id="no-flock"),
    ],
)
def test_offer(root: Path, tools: str, isolation: str, fits: bool, level: str) -> None:  # noqa: FBT001 - a case
    """What is installed decides whether it fits and how far it encloses."""
    probed = local_host(root)
    facts = probed.status.facts.model_copy(update={"tools": {t: t for t in tools.split()}})
    host: Host = probed.model_copy(
        update={"status": probed.status.model_copy(update={"facts": facts})}
    )

    offer = LOCAL.offer(host, LocalInputs.model_validate({"isolation": isolation}))

    assert (offer.fits, offer.isolation) == (fits, level)


@pytest.mark.parametrize("isolation", ["bubblewrap", "unshare", "none"])
async def test_isolation(session: Session, isolation: str) -> None:
    """The means that is reported is the one that holds, and exec gets the same walls."""
    if isolation == "bubblewrap" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    instance = make_instance(isolation=isolation)

    provisioned = await LOCAL.provision(session, instance)
    printed = await run(
        session, instance, "readlink /proc/self/ns/pid; ls /; grep CapEff /proc/self/status"
    )

    separate = isolation != "none"
    assert provisioned.handle["means"] == isolation
    assert provisioned.isolation.level == ("namespace" if separate else "none")
    assert (pid_namespace() not in printed) == separate
    assert ("home" not in printed.split()) == (isolation == "bubblewrap")
    assert not separate or "CapEff:\t0000000000000000" in printed


async def test_nothing_of_the_controller_reaches_the_sandbox(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller's own environment stays outside, for the command and for exec."""
    monkeypatch.setenv("SANDBOXER_SECRET_TOKEN", "s3cret")
    instance = make_instance(command="env >first; exec sleep 1000")

    await LOCAL.provision(session, instance)

    assert "s3cret" not in await run(
        session, instance, "until [ -s first ]; do :; done; cat first; env"
    )


async def test_secret_is_in_no_argument(session: Session, root: Path) -> None:
    """While the sandbox runs, no process shows its secret and no file keeps it."""
    secret = str(uuid.uuid4())
    instance = replace(make_instance(), secrets={"TOKEN": SecretStr(secret)})
    await LOCAL.provision(session, instance)
    assert await run(session, instance, 'printf %s "$TOKEN"') == secret

    arguments = all_arguments()
    files = files_below(root)

    assert secret.encode() not in arguments
    assert files
    assert not [path for path in files if secret in path.read_text()]
    assert {oct(path.stat().st_mode & 0o77) for path in files} == {"0o0"}


async def test_exit_status_is_evidence(session: Session) -> None:
    """A command that ends by itself is Stopped with its exit status, and is not ready."""
    instance = make_instance(command="echo bye; exit 7")
    await LOCAL.provision(session, instance)

    message = await until(session, instance, "Stopped")

    assert "exit status 7" in message
    with pytest.raises(TransientError, match="exit status 7"):
        await LOCAL.wait_ready(session, instance)
    output = Output()
    await LOCAL.logs(session, instance, output.streams())
    assert output.stdout == b"bye\n"


async def test_log_is_bounded(session: Session, root: Path) -> None:
    """A sandbox that prints without end fills at most two files, and its last words are kept."""
    command = "head -c 30000000 /dev/zero | tr '\\0' x; echo; echo last; exit 0"
    instance = make_instance(command=command)
    await LOCAL.provision(session, instance)
    await until(session, instance, "Stopped")

    output = Output()
    await LOCAL.logs(session, instance, output.streams(), tail=1)

    assert output.stdout == b"last\n"
    assert sum(path.stat().st_size for path in (root / instance.short_id).glob("log*")) < 17 * 2**20


async def test_logs_follow(session: Session) -> None:
    """Following shows what is printed later."""
    instance = make_instance(command="read line <fifo; echo $line; exec sleep 1000")
    instance = replace(instance, inputs=LocalInputs(command="mkfifo p; cat p; exec sleep 1000"))
    await LOCAL.provision(session, instance)
    seen = asyncio.Event()
    output = Output()

    async def take(data: bytes) -> None:
        output.stdout.extend(data)
        if b"later" in output.stdout:
            seen.set()

    streams = replace(output.streams(), stdout=take)
    following = asyncio.create_task(LOCAL.logs(session, instance, streams, follow=True))
    await run(session, instance, "until [ -p p ]; do :; done; echo later >p")

    await asyncio.wait_for(seen.wait(), 10)
    following.cancel()


async def test_repository_is_copied_once(session: Session, tmp_path: Path) -> None:
    """The files are there before the command starts; what the sandbox made of them stays."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("first")
    instance = make_instance(repo=str(source), command="cat file; exec sleep 1000")
    await LOCAL.provision(session, instance)
    assert await run(session, instance, "cat file; echo mine >file") == "first"

    await LOCAL.suspend(session, instance)
    await LOCAL.resume(session, instance)

    assert await run(session, instance, "cat file") == "mine\n"


async def test_planted_symlinks_are_not_followed(session: Session, tmp_path: Path) -> None:
    """Removing a workspace full of links and locked directories harms nothing outside it."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("precious")
    instance = make_instance(isolation="none")
    await make_ready_local(session, instance)
    plant = f"ln -s {victim} link; mkdir -p a/b; ln -s {victim} a/b/c; touch a/b/d; chmod 0 a/b; chmod 500 a"
    await run(session, instance, plant)

    await LOCAL.teardown(session, instance)

    assert (victim / "file").read_text() == "precious"
    assert await LOCAL.observe(session, ENVIRONMENT) == []


async def make_ready_local(session: Session, instance: Instance) -> None:
    await LOCAL.provision(session, instance)
    await LOCAL.wait_ready(session, instance)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount")
async def test_mount_below_is_refused(session: Session, root: Path) -> None:
    """Something mounted into the workspace is never removed through; the path is named."""
    instance = make_instance(isolation="none")
    await make_ready_local(session, instance)
    point = root / instance.short_id / "work" / "mounted"
    point.mkdir()
    command("mount", "-t", "tmpfs", "none", str(point))
    (point / "file").write_text("precious")
    try:
        with pytest.raises(TerminalError, match="mounted"):
            await LOCAL.teardown(session, instance)
        assert (point / "file").exists()
    finally:
        command("umount", str(point))


async def test_foreign_directory_is_refused(session: Session, root: Path) -> None:
    """A directory with our name and without our marker is neither used nor removed."""
    instance = make_instance()
    foreign = root / instance.short_id
    foreign.mkdir()
    (foreign / "file").write_text("precious")

    for call in (LOCAL.provision, LOCAL.teardown):
        with pytest.raises(TerminalError):
            await call(session, instance)

    assert (foreign / "file").read_text() == "precious"


async def test_stragglers_go_too(session: Session) -> None:
    """A process that left the session and its parent still goes at teardown."""
    instance = make_instance(isolation="none")
    await make_ready_local(session, instance)
    await run(
        session,
        instance,
        "setsid sh -c 'echo $$ >pid; exec sleep 1000' >/dev/null 2>&1 </dev/null &",
    )
    pid = int(await run(session, instance, "until [ -s pid ]; do :; done; cat pid"))

    await LOCAL.teardown(session, instance)

    assert not arguments_of(pid)


async def test_ports_are_refused(session: Session) -> None:
    """Ports cannot be mapped on a shared network, and the manifest is told so."""
    lease = PortLease(name="web", container_port=80, host_port=42000)

    with pytest.raises(InvalidSpecError) as error:
        await LOCAL.provision(session, replace(make_instance(), ports=(lease,)))
    assert error.value.field == "spec.ports"


async def test_limits_are_said_not_to_hold(session: Session) -> None:
    """A limit that is not enforced is named."""
    wish = replace(make_instance(), resources=Resources(pids=10))

    assert "pids" in (await LOCAL.provision(session, wish)).message


@pytest.mark.parametrize("uid", ["", "x", "../../etc", "12345678-9abc-4def-8000-00000000000G"])
async def test_hostile_uid(session: Session, uid: str) -> None:
    """What is no uid never becomes a path."""
    with pytest.raises(InvalidSpecError):
        await LOCAL.reap(session, ENVIRONMENT, uid)


@pytest.mark.parametrize("isolation", ["auto", "none"])
async def test_shell_on_a_terminal(session: Session, isolation: str) -> None:
    """A shell on a terminal has its jobs, and its exit status arrives."""
    instance = make_instance(isolation=isolation)
    await make_ready_local(session, instance)
    output = Output()

    async def typed() -> AsyncIterator[bytes]:
        yield b"exit 3\n"

    streams = replace(output.streams(), stdin=typed(), terminal=TerminalSize(columns=80, rows=24))

    assert await LOCAL.exec(session, instance, ["sh"], streams) == 3
    assert b"process group" not in output.stdout


def copies(root: Path, original: Instance, count: int) -> list[Path]:
    """Write that many workspaces and records like those of *original*, whose process they share."""
    marker = (root / original.short_id / ".sandboxer.json").read_text()
    record = (root / ".processes" / original.short_id).read_text()
    made = []
    for _ in range(count):
        uid = str(uuid.uuid4())
        short_id = replace(original, uid=uid).short_id
        (root / short_id / "work").mkdir(parents=True)
        (root / short_id / ".sandboxer.json").write_text(marker.replace(original.uid, uid))
        (root / ".processes" / short_id).write_text(record.replace(original.uid, uid))
        made += [root / short_id, root / ".processes" / short_id]
    return made


async def test_two_thousand_are_observed_at_once(session: Session, root: Path) -> None:
    """One script reads 2,000 workspaces and processes, however many there are."""
    living = make_instance()
    await make_ready_local(session, living)
    made = copies(root, living, 1999)
    second_call_fails = Fault(at=2, moment="before", strike=lose_link)

    seen = await LOCAL.observe(FaultySession(session, second_call_fails), ENVIRONMENT)

    command("rm", "-rf", *map(str, made))
    assert {one.state for one in seen} == {"Running"}
    assert len(seen) == 2000


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="root becomes a user")
def test_works_as_an_ordinary_user(tmp_path: Path) -> None:
    """Without root's rights the main paths of the conformance suite hold as well."""
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run([*nobody, sys.executable, "-c", ""], check=False).returncode:
        pytest.skip("this Python cannot be read by an ordinary user")
    tests = Path(__file__).parents[3] / "conformance" / "test_local.py"
    base = Path("/tmp") / f"sandboxer-{uuid.uuid4()}"
    base.mkdir(mode=0o777)
    base.chmod(0o777)
    names = "auto and (damage or exec_keeps or suspend_and or teardown_twice) or hostile"
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    try:
        ran = subprocess.run(
            [*nobody, *argv, "-k", names, "--basetemp", str(base / "t")],
            capture_output=True, text=True, check=False, cwd=Path(__file__).parents[4],
            env={"PATH": os.environ["PATH"], "HOME": str(base)},
        )  # fmt: skip
    finally:
        shutil.rmtree(base, ignore_errors=True)
    assert ran.returncode == 0, ran.stdout[-3000:]


async def test_a_held_process_is_told_and_goes_on(session: Session, root: Path) -> None:
    """SIGSTOP to its keeper is drift, and the same process goes on after a provision."""
    instance = make_instance()
    await LOCAL.provision(session, instance)
    record = root / ".processes" / instance.short_id
    keeper = json.loads(record.read_text())["pid"]

    os.kill(keeper, signal.SIGSTOP)
    message = await until(session, instance, "Stopped")
    [held] = await LOCAL.observe(session, ENVIRONMENT, instance.uid)
    await LOCAL.provision(session, instance)
    await until(session, instance, "Running")

    assert "held by a signal" in message
    assert [one.path for one in held.drift] == ["process/state"]
    assert json.loads(record.read_text())["pid"] == keeper


async def test_files_deleted_with_the_work_directory_are_copied_again(
    session: Session, root: Path, tmp_path: Path
) -> None:
    """A repository whose copy was deleted is copied again; that data was lost is told."""
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "hello.txt").write_text("hi")
    instance = make_instance(repo=str(tmp_path / "repo"))
    await LOCAL.provision(session, instance)

    shutil.rmtree(root / instance.short_id / "work")
    [lost] = await LOCAL.observe(session, ENVIRONMENT, instance.uid)
    await LOCAL.provision(session, instance)
    await until(session, instance, "Running")

    # Its process, too, when it had not come so far as to stand there.
    assert ("workspace/work", True) in [(one.path, one.data_lost) for one in lost.drift]
    assert await run(session, instance, "cat hello.txt") == "hi"


async def test_a_record_that_appears_while_it_is_looked_for_is_ours(
    session: Session, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was killed while it started the process may have left it on its way."""
    instance = make_instance()
    await LOCAL.provision(session, instance)
    record, late = root / ".processes" / instance.short_id, tmp_path / "late"
    shutil.copy(record, late)
    await LOCAL.suspend(session, instance)
    shim = tmp_path / "bin" / "grep"
    shim.parent.mkdir()
    shim.write_text(
        f'#!/bin/sh\n{shutil.which("grep")} "$@"\nstatus=$?\n'
        f"for last; do :; done\n"
        f'[ "$last" != {record} ] || [ ! -e {late} ] || mv {late} {record}\nexit $status\n'
    )
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")

    await LOCAL.resume(session, instance)

    assert not late.exists()
    await until(session, instance, "Running")


async def test_a_removal_clears_a_birth_that_was_cut_short(session: Session, root: Path) -> None:
    """A marker that was opened and not written says nothing against it."""
    instance = make_instance()
    await LOCAL.provision(session, instance)
    half = root / f".new-{instance.short_id}.1"
    half.mkdir()
    (half / ".sandboxer.json").touch()

    await LOCAL.teardown(session, instance)

    assert not half.exists()


async def test_a_damaged_marker_is_left_to_a_person(session: Session, root: Path) -> None:
    """It is told, and nothing is changed in a directory that does not say whose it is."""
    instance = make_instance()
    await LOCAL.provision(session, instance)
    marker = root / instance.short_id / ".sandboxer.json"
    text = marker.read_text()

    marker.write_text("x")
    [seen] = await LOCAL.observe(session, ENVIRONMENT, instance.uid)
    with pytest.raises(TerminalError, match="damaged"):
        await LOCAL.provision(session, instance)
    marker.write_text(text)

    assert [one.path for one in seen.drift] == ["workspace/marker"]
