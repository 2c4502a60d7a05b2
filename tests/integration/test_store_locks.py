"""The locks of keys and of the controller, against real other processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandboxer.errors import TerminalError
from sandboxer.kinds.meta import Key
from sandboxer.store import KeyLocks

A = Key("Sandbox", "default", "a")
B = Key("Sandbox", "default", "b")

HOLDER = """
import sys
from pathlib import Path
from sandboxer.kinds.meta import Key
from sandboxer.store import KeyLocks

locks = KeyLocks(Path(sys.argv[1]))
with locks.try_key(Key("Sandbox", "default", "a")) as held:
    print(held, locks.try_controller(), flush=True)
    sys.stdin.read()
"""

Hold = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "locks"


@pytest.fixture
def locks(path: Path) -> Iterator[KeyLocks]:
    made = KeyLocks(path)
    yield made
    made.close()


@pytest.fixture
def hold(path: Path) -> Iterator[Hold]:
    """Start a process that holds the controller's lock and that of A; it has them when this returns."""
    children: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "True True\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def test_one_holder(locks: KeyLocks, hold: Hold) -> None:
    """A key held by another process is not granted, another key is."""
    hold()

    with locks.try_key(A) as first, locks.try_key(B) as second:
        assert (first, second) == (False, True)


def test_controller(locks: KeyLocks, hold: Hold) -> None:
    """While another process is the controller, that can be seen and the role is not granted."""
    assert not locks.controller_running()

    hold()

    assert locks.controller_running()
    assert not locks.try_controller()


def test_killed_holder(locks: KeyLocks, hold: Hold) -> None:
    """The kernel takes the locks back from a process that was killed."""
    child = hold()

    os.kill(child.pid, signal.SIGKILL)
    child.wait()

    assert not locks.controller_running()
    assert locks.try_controller()
    with locks.try_key(A) as held:
        assert held


def test_stopped_holder(locks: KeyLocks, hold: Hold) -> None:
    """A process that merely stands still keeps its locks, however long."""
    child = hold()

    os.kill(child.pid, signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)

    with locks.try_key(A) as held:
        assert not held
    os.kill(child.pid, signal.SIGCONT)


def test_same_process(locks: KeyLocks, path: Path) -> None:
    """Two tasks of one process exclude each other, through one object or two."""
    other = KeyLocks(path)

    with locks.try_key(A) as first:
        with locks.try_key(A) as again, other.try_key(A) as elsewhere:
            assert (first, again, elsewhere) == (True, False, False)
        with other.try_key(A) as still:
            assert not still
    with other.try_key(A) as free:
        assert free
    other.close()


def test_released_after_failure(locks: KeyLocks) -> None:
    """A pass that fails gives its key back."""

    def fail() -> None:
        with locks.try_key(A):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    with locks.try_key(A) as held:
        assert held


def test_own_controller(locks: KeyLocks, path: Path) -> None:
    """A process that is the controller says so, is so once, and hands over by closing."""
    assert locks.try_controller()
    assert not locks.try_controller()
    assert locks.controller_running()
    other = KeyLocks(path)
    assert other.controller_running()

    other_before = other.try_controller()
    locks.close()

    assert (other_before, other.try_controller()) == (False, True)
    other.close()


def test_private_file(locks: KeyLocks, path: Path) -> None:
    """Nobody else can lock the file."""
    assert path.stat().st_mode & 0o777 == 0o600


def test_unusable_path(tmp_path: Path) -> None:
    """A lock file that cannot be made is an error with a remedy."""
    (tmp_path / "file").touch()

    with pytest.raises(TerminalError) as caught:
        KeyLocks(tmp_path / "file" / "locks")

    assert caught.value.remedy


def test_removed_data_directory_locks_nothing(locks: KeyLocks, path: Path) -> None:
    """Once its file is gone nothing is locked any more, for a new one excludes nobody here."""
    path.unlink()
    other = KeyLocks(path)

    with pytest.raises(TerminalError) as caught, locks.try_key(A):
        pass
    with other.try_key(A) as theirs:
        assert theirs
    other.close()

    assert caught.value.reason == "LocksRemoved"
    assert caught.value.remedy
