"""The manager: one controller, commands that do its work while there is none, clean ends."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from sandboxer.kinds.host import Host, HostSpec
from sandboxer.kinds.meta import Key, ObjectMeta
from sandboxer.kinds.profile import Profile
from sandboxer.manager import Manager
from sandboxer.manager.builtins import builtin_resources, marked, register_builtins
from sandboxer.manager.engine import running
from sandboxer.settings import Settings
from sandboxer.sources.apply import apply_resources
from sandboxer.sources.builtin import builtin_profiles
from sandboxer.store import KeyLocks
from tests.e2e.installation import Installation
from tests.integration.cli_lab import HELLO, installed, started


def settings(data_dir: Path) -> Settings:
    return Settings(data_dir=data_dir, database_url=f"sqlite:///{data_dir / 'store.db'}")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Installation]:
    with installed(tmp_path) as installation:
        yield installation


async def test_builtins_are_registered_once(tmp_path: Path) -> None:
    """Every installation has the local host, its extensions and the shipped profiles."""
    async with Manager.open(settings(tmp_path / "data")) as manager:
        await manager.register()
        revision = manager.store.revision
        await manager.register()

        assert manager.store.revision == revision
        names = {(r.kind, r.metadata.name) for r in builtin_resources(manager.registry)}
        assert {("Host", "local"), ("Extension", "ext.local")} <= names
        assert all(manager.store.entry(Key(kind, "", name)) for kind, name in names)


async def test_an_interrupt_before_the_engine_began_ends_it(tmp_path: Path) -> None:
    """Ctrl-C while modules are loaded arrives when the engine starts; nothing of it stays."""
    async with Manager.open(settings(tmp_path / "data")) as manager:

        async def interrupted() -> None:
            current = asyncio.current_task()
            assert current is not None
            current.cancel()
            async with running(manager.engine(lambda _key: True)):
                pytest.fail("it was cancelled before")

        before = asyncio.all_tasks()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(interrupted())

        assert asyncio.all_tasks() <= before


async def test_object_of_a_user_is_left_alone(tmp_path: Path) -> None:
    """A Host `local` or profile that a user wrote is never overwritten by ours."""
    async with Manager.open(settings(tmp_path / "data")) as manager:
        own = Host(
            metadata=ObjectMeta(name="local"), spec=HostSpec(transport="local", work_root="/own")
        )
        await manager.store.create(own)

        await manager.register()

        stored = manager.store.get(Host, "local")
        assert stored is not None
        assert stored.spec.work_root == "/own"


async def test_controller_that_has_only_begun_is_not_waited_for(tmp_path: Path) -> None:
    """A command beside it finds the profiles; once they are there they are the controller's."""
    locks = KeyLocks(settings(tmp_path).locks_path)
    assert locks.try_controller()
    async with Manager.open(settings(tmp_path)) as manager:
        await manager.register()
        there = manager.store.get(Profile, "profile.local")
        await manager.store.delete(Profile, "profile.local")
        await manager.register()
        afterwards = manager.store.get(Profile, "profile.local")
    locks.close()

    assert there is not None
    assert afterwards is None


async def test_outdated_builtin_is_updated(tmp_path: Path) -> None:
    """A shipped profile that an older version wrote is brought up to date."""
    async with Manager.open(settings(tmp_path / "data")) as manager:
        (shipped,) = [p for p in builtin_profiles() if p.metadata.name == "profile.local"]
        spec = shipped.spec.model_copy(update={"description": "older"})
        await register_builtins(manager.store, [marked(shipped.model_copy(update={"spec": spec}))])

        await manager.register()

        current = manager.store.get(Profile, "profile.local")
        assert current is not None
        assert current.spec == shipped.spec


async def test_builtin_that_a_user_changed_is_left_alone(tmp_path: Path) -> None:
    """Applying a manifest over one of our objects makes it the user's."""
    async with Manager.open(settings(tmp_path / "data")) as manager:
        await manager.register()
        own = HostSpec(transport="local", work_root="/own")
        await apply_resources(manager.store, [Host(metadata=ObjectMeta(name="local"), spec=own)])

        await manager.register()

        stored = manager.store.get(Host, "local")
        assert stored is not None
        assert stored.spec.work_root == "/own"


async def test_settle_asks_who_works_and_works_itself_when_nobody_does(tmp_path: Path) -> None:
    """Settle reconciles while nobody else does, says so once, and ends when its question is answered."""
    questions: list[bool] = []
    told: list[str] = []

    async def follow(goes_on: Callable[[], bool]) -> bool:
        questions.append(goes_on())
        # The first question is whether a controller works, the second whether this process still may.
        return len(questions) > 1

    async with Manager.open(settings(tmp_path / "data")) as manager:
        await manager.settle([], follow, announce=told.append)

    assert questions == [False, True]
    assert len(told) == 1


async def test_error_of_who_follows_comes_through_as_it_is(tmp_path: Path) -> None:
    """What the question raises is not wrapped, so a command can report it."""

    class GaveUpError(Exception):
        pass

    async def follow(goes_on: Callable[[], bool]) -> bool:
        if goes_on():
            raise GaveUpError
        return False

    async with Manager.open(settings(tmp_path / "data")) as manager:
        with pytest.raises(GaveUpError):
            await manager.settle([], follow)


def test_second_controller_is_refused_by_name_of_the_first(here: Installation) -> None:
    """One controller per data directory; the second says which process is in the way."""
    started(here)

    done = here.run("controller", "run")

    assert done.returncode == 5
    assert "is already the controller" in done.stderr
    assert "kill" in done.stderr


def test_waiting_command_leaves_the_work_to_the_controller(here: Installation) -> None:
    """With a controller running a command only waits, and says nothing about reconciling."""
    started(here)

    done = here.run("create", "--timeout", "60s", "--name", "box", "--profile", "profile.local")

    assert done.returncode == 0, done.stderr
    assert "no controller" not in done.stderr


def test_waiting_command_takes_over_from_a_controller_that_dies(here: Installation) -> None:
    """A wait that began under a controller ends well although the controller was killed."""
    started(here)
    here.ok("apply", "-f", "-", stdin=HELLO)
    here.ok("wait", "sbx/hello", "--for=condition=Ready")
    here.kill()
    here.ok("delete", "sbx/hello", "--no-wait")
    started(here)
    here.kill()

    done = here.run("wait", "sbx/hello", "--for=delete", "--timeout", "60s")

    assert done.returncode == 0, done.stderr
    assert here.sandboxes() == {}


def test_running_wait_takes_over_from_a_controller_that_is_killed(here: Installation) -> None:
    """A command that is already waiting notices the controller's death and does the work itself."""
    started(here)
    manifest = yaml.safe_load(HELLO)
    nowhere = {"placement": {"hostSelector": {"matchLabels": {"no": "such-host"}}}}
    stuck = {**manifest, "spec": {**manifest["spec"], **nowhere}}
    here.ok("apply", "-f", "-", stdin=yaml.safe_dump(stuck))
    waiting = subprocess.Popen(
        [sys.executable, "-m", "sandboxer", "wait", "sbx/hello", "--for=condition=Ready"],
        env=here._environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stderr is not None
    assert "Pending" in waiting.stderr.readline()

    here.kill()
    here.ok("apply", "-f", "-", stdin=HELLO)
    _, said = waiting.communicate(timeout=90)

    assert waiting.returncode == 0, said
    assert said.count("no controller is running") == 1


def test_interrupted_command_leaves_everything_as_it_is(here: Installation) -> None:
    """Ctrl-C while waiting is exit code 130, no traceback, and the object is still wanted."""
    here.ok("apply", "-f", "-", stdin=HELLO.replace("profile.local", "profile.none"))
    waiting = subprocess.Popen(
        [sys.executable, "-m", "sandboxer", "wait", "sbx/hello", "--for=condition=Suspended"],
        env=here._environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stderr is not None
    assert waiting.stderr.readline()

    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=60)

    assert waiting.returncode == 130
    assert "Traceback" not in said
    assert "hello" in here.sandboxes()


def test_sigterm_ends_the_controller_cleanly_and_sandboxes_live_on(here: Installation) -> None:
    """SIGTERM: exit code 0, no socket left, sandboxes untouched; the next controller goes on."""
    started(here)
    here.ok("create", "--timeout", "60s", "--name", "box", "--profile", "profile.local")

    assert here.stop() == 0

    assert not (here.directory / "data" / "sandboxer.sock").exists()
    assert here.ok("exec", "box", "--", "echo", "alive") == "alive\n"
    assert "Traceback" not in here.log.read_text()


def test_controller_repairs_what_was_stopped_behind_its_back(here: Installation) -> None:
    """A killed process is started again, and the status counts it."""
    started(here)
    here.ok("create", "--timeout", "60s", "--name", "box", "--profile", "profile.local")
    (marked,) = here.sandboxes()["box"]["status"]["resources"][1:]
    pid = marked["name"].removeprefix("pid ")

    subprocess.run(["kill", "-9", pid], check=True)

    here.wait_until(
        "the sandbox is repaired",
        lambda: here.sandboxes()["box"]["status"]["repairs"] == 1,
        timeout_s=30,
    )
    here.ok("wait", "sbx/box", "--for=condition=Ready", "--timeout", "30s")


def test_log_can_be_json_lines(tmp_path: Path) -> None:
    """--log-format json writes one object per line with constant messages and fields."""
    installation = Installation(tmp_path)
    program = subprocess.Popen(
        [sys.executable, "-m", "sandboxer", "controller", "run", "--log-format", "json"],
        env=installation._environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stderr is not None
        first = json.loads(program.stderr.readline())
    finally:
        program.terminate()
        _, rest = program.communicate(timeout=30)

    assert first["message"] == "The controller runs"
    assert first["pid"] == program.pid
    assert all(json.loads(line)["time"] for line in rest.splitlines())


def test_api_is_served_on_a_private_socket(here: Installation) -> None:
    """The controller serves its API on a Unix socket that only its user can open."""
    started(here)
    path = here.directory / "data" / "sandboxer.sock"
    here.wait_until("the socket is there", path.exists, timeout_s=10)

    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        answer = client.recv(65536)

    assert answer.startswith(b"HTTP/1.1 200")
    assert path.stat().st_mode & 0o777 == 0o600
