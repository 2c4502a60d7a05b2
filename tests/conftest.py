"""
The rig for every test that asks for it, and a plain word where it cannot be built.

As root, and always in CI, a rig that cannot be built is a failure. As a user without the right to
build it, the tests that need it are left out, and the summary says which and how to get them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from sandboxer.testing.faults import OpenSession
from tests.rig import Rig, RigError
from tests.rig.commands import is_root
from tests.rig.install import install_missing, why_not
from tests.rig.vm import PROGRAMS as VM_PROGRAMS
from tests.rig.vm import VM
from tests.rig.vm_session import vm_sessions

_HOST_COUNT = 3

_LEFT_OUT = pytest.StashKey[tuple[int, str]]()


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what uses the rig; leave it out where this user cannot build one."""
    for item in items:
        on_rig = "rig" in getattr(item, "fixturenames", ())
        if on_rig:
            item.add_marker(pytest.mark.rig)
        # Several workers share one machine: one of them has the rig, and a file is never split,
        # so that its fixtures are made once.
        group = "rig" if on_rig else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
    needing = [item for item in items if item.get_closest_marker("rig")]
    reason = "" if is_root() or os.environ.get("CI") or not needing else why_not()
    if reason:
        config.stash[_LEFT_OUT] = (len(needing), reason)
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what was left out and how to get it."""
    count, reason = config.stash.get(_LEFT_OUT, (0, ""))
    if count:
        terminalreporter.section("not run: tests on several hosts")
        terminalreporter.write_line(
            f"{count} tests need several real hosts, which were not brought up: {reason}"
        )
