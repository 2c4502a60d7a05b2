"""From what was found to a state, by the contract's words."""

from __future__ import annotations

from typing import Any

import pytest

from sandboxer.extension import LABEL_EXTENSION, LABEL_SPEC_HASH, LABEL_UID
from sandboxer_extensions.compose_ssh.inventory import Container, Inventory, Thing, Workspace
from sandboxer_extensions.compose_ssh.judge import judge
from sandboxer_extensions.compose_ssh.stack import LABEL_EXPECTED, LABEL_ONESHOT, LABEL_SERVICE

NAME = "ext.compose-ssh"
BASE = {LABEL_UID: "u1", LABEL_EXTENSION: NAME}
WORKSPACE = Workspace(name="sbx-u1", labels=BASE, expected=("app", "db"), suspended=False)
SUSPENDED = Workspace(name="sbx-u1", labels=BASE, expected=("app", "db"), suspended=True)


def container(service: str, state: str = "running", **fields: Any) -> Container:
    """Return a container of a service."""
    labels = BASE | {LABEL_SERVICE: service, LABEL_EXPECTED: "app,db", LABEL_SPEC_HASH: "h1"}
    labels |= fields.pop("labels", {})
    return Container(id=service, name=f"sbx_{service}_1", labels=labels, state=state, **fields)


@pytest.mark.parametrize(
    ("containers", "workspace", "state", "said"),
    [
        ([container("app"), container("db")], WORKSPACE, "Running", ""),
        ([container("app")], WORKSPACE, "Incomplete", "db has no container"),
        ([], WORKSPACE, "Incomplete", "app has no container"),
        ([container("app"), container("db")], None, "Incomplete", "workspace"),
        ([container("app"), container("db", "exited", exit_code=3)], WORKSPACE, "Stopped", "db ended with status 3"),
        ([container("app"), container("db", "exited", exit_code=137, oom_killed=True)], WORKSPACE, "Stopped", "memory"),
        ([container("app"), container("db", "paused")], WORKSPACE, "Stopped", "db is paused"),
        ([container("app"), container("db", "created")], WORKSPACE, "Stopped", "db is created"),
        ([container("app"), container("db", "restarting", exit_code=1)], WORKSPACE, "Starting", "restarted"),
        ([container("app"), container("db", health="starting")], WORKSPACE, "Starting", "starting"),
        ([container("app"), container("db", health="unhealthy")], WORKSPACE, "Starting", "unhealthy"),
        ([container("app"), container("db", health="healthy")], WORKSPACE, "Running", ""),
        ([container("app", "exited"), container("db", "exited")], SUSPENDED, "Suspended", ""),
        ([container("app"), container("db", "exited")], SUSPENDED, "Stopped", "db"),
        ([container("app"), container("db")], SUSPENDED, "Running", ""),
        ([container("app", "exited")], SUSPENDED, "Incomplete", "db"),
        ([container("app"), container("db", "exited", labels={LABEL_ONESHOT: "true"})], WORKSPACE, "Running", ""),
        ([container("app"), container("db", labels={LABEL_ONESHOT: "true"})], WORKSPACE, "Starting", "not finished"),
        ([container("app"), container("db", "exited", exit_code=1, labels={LABEL_ONESHOT: "true"})], WORKSPACE, "Stopped", "status 1"),
    ],
)  # fmt: skip
def test_states(
    containers: list[Container], workspace: Workspace | None, state: str, said: str
) -> None:
    """Each situation has one state, with its evidence in the message."""
    found = Inventory(containers=containers, workspaces=[workspace] if workspace else [])

    (seen,) = judge(found, extension=NAME)

    assert seen.state == state
    assert said in seen.message


def test_a_leftover_network_is_still_something() -> None:
    """Whatever carries the uid keeps the sandbox from being Absent."""
    found = Inventory(things=[Thing(kind="network", name="n", labels=BASE)])

    (seen,) = judge(found, extension=NAME)

    assert seen.state == "Incomplete"


def test_different_hashes_are_no_hash() -> None:
    """A half-done update shows as neither the old nor the new spec."""
    found = Inventory(
        containers=[container("app"), container("db", labels={LABEL_SPEC_HASH: "h2"})],
        workspaces=[WORKSPACE],
    )

    assert judge(found, extension=NAME)[0].spec_hash == ""


def test_other_extensions_are_not_ours() -> None:
    """The marker of another extension in the same work root is left out."""
    labels = {LABEL_UID: "u2", LABEL_EXTENSION: "ext.local"}
    found = Inventory(workspaces=[Workspace(name="sbx-u2", labels=labels, expected=(), suspended=False)])  # fmt: skip

    assert judge(found, extension=NAME) == []
