"""
The rig for every test that asks for it, and a plain word where it cannot be built.

As root, and always in CI, a rig that cannot be built is a failure. As a user without the right to
build it, the tests that need it are left out, and the summary says which and how to get them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from sandboxer.testing.faults import OpenSession
from tests.rig import Rig, RigError
from tests.rig.commands import is_root
from tests.rig.install import install_missing, why_not
from tests.rig.vm import PROGRAMS as VM_PROGRAMS
from tests.rig.vm import VM
from tests.rig.vm_session import vm_sessions

_HOST_COUNT = 3

_LEFT_OUT = pytest.StashKey[dict[str, int]]()
"""How many tests were left out, by why."""


@pytest.fixture(scope="session")
def rig() -> Iterator[Rig]:
    """Three hosts, h1 to h3, up for the whole run; call `rig.clean(name)` for an empty one."""
    if not install_missing():
        raise RigError(f"The rig cannot be built: {why_not() or 'packages are missing.'}")
    with Rig.start(_HOST_COUNT) as hosts:
        yield hosts


@pytest.fixture(scope="session")
def vm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VM]:
    """A real VM, up for the whole run; workspaces are below its /build."""
    if not install_missing(VM_PROGRAMS):
        raise RigError(f"The VM cannot be booted: {why_not() or 'packages are missing.'}")
    with VM.start(tmp_path_factory.mktemp("vm")) as machine:
        yield machine


@pytest.fixture(scope="session")
def vm_session(vm: VM) -> OpenSession:
    """Opens a session to the VM, over a connection of its own each time."""
    return vm_sessions(vm)


def pytest_configure() -> None:
    """Let Ctrl-C reach what tests start, also when this run was started in the background."""
    # A shell starts background jobs with SIGINT ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that leaves nothing out."""
    parser.addoption(
        "--exhaustive", action="store_true", help="run every case of the slow fault matrices too"
    )


@pytest.hookimpl(trylast=True)  # after those that mark
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what uses the rig; leave out what this run or this user cannot do."""
    for item in items:
        if _uses(item, "rig"):
            item.add_marker(pytest.mark.rig)
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    if not config.getoption("--exhaustive"):
        long = [item for item in items if item.get_closest_marker("exhaustive")]
        _leave_out(config, items, long, "`make test-exhaustive` runs them too")
    needing = [item for item in items if item.get_closest_marker("rig")]
    reason = "" if is_root() or os.environ.get("CI") or not needing else why_not()
    if reason:
        why = f"they need several real hosts, which were not brought up: {reason}"
        _leave_out(config, items, needing, why)


def _uses(item: pytest.Item, fixture: str) -> bool:
    return fixture in getattr(item, "fixturenames", ())


def _group(item: pytest.Item) -> str:
    """
    Return which tests one worker runs.

    Several workers share one machine: one of them has the rig and one the VM, and a file is never
    split otherwise, so that its fixtures are made once.
    """
    shared = next((name for name in ("rig", "vm") if _uses(item, name)), "")
    return shared or item.nodeid.partition("::")[0]


def _leave_out(
    config: pytest.Config, items: list[pytest.Item], some: list[pytest.Item], why: str
) -> None:
    if some:
        config.stash.setdefault(_LEFT_OUT, {})[why] = len(some)
        config.hook.pytest_deselected(items=some)
        without = set(some)
        items[:] = [item for item in items if item not in without]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what was left out to the process that reports, when this is a worker of several."""
    output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = session.config.stash.get(_LEFT_OUT, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker left out; all of them leave out the same."""
    node.config.stash[_LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", {})


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what was left out and how to get it."""
    for why, count in config.stash.get(_LEFT_OUT, {}).items():
        terminalreporter.write_line(f"not run: {count} tests; {why}")
