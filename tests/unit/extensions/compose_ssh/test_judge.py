"""From what was found to a state, by the contract's words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from sandboxer.extension import LABEL_EXTENSION, LABEL_SPEC_HASH, LABEL_UID
from sandboxer.kinds.sandbox import Ending
from sandboxer_extensions.compose_ssh.drift import Found, record_of
from sandboxer_extensions.compose_ssh.inventory import (
    Container,
    Inventory,
    Thing,
    Workspace,
    _PodmanContainer,
)
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


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (container("db", "exited", exit_code=137, oom_killed=True, memory_bytes=64 * 2**20),
         "Service db was killed because it needed more memory than 64 MiB (exit 137, OOM)."),
        (container("db", "exited", exit_code=137, oom_killed=True),
         "Service db was killed because it needed more memory than it may have (exit 137, OOM)."),
        (container("db", "exited", exit_code=137), "Service db ended with status 137 (SIGKILL)."),
        (container("db", "exited", exit_code=143), "Service db ended with status 143 (SIGTERM)."),
        (container("db", "exited", exit_code=255), "Service db ended with status 255."),
        (container("db", "exited", exit_code=1), "Service db ended with status 1."),
    ],
)  # fmt: skip
def test_an_ending_is_named(ended: Container, said: str) -> None:
    """What killed a container is said by its name, and kept for programs."""
    when = datetime(2026, 1, 1, tzinfo=UTC)
    found = Inventory(
        containers=[container("app"), replace(ended, ended_at=when)], workspaces=[WORKSPACE]
    )

    (seen,) = judge(found, extension=NAME)

    endings = {resource.name: resource.ending for resource in seen.resources}
    assert seen.message == said
    assert endings["sbx_app_1"] is None
    assert endings["sbx_db_1"] == Ending(
        exit_code=ended.exit_code, oom_killed=ended.oom_killed, ended_at=when
    )


@pytest.mark.parametrize(
    ("raw", "year"),
    [
        ("2026-11-21T15:12:11.123456789Z", 2026),
        ("2026-11-21T15:12:11.12+01:00", 2026),
        ("0001-01-01T00:00:00Z", None),
        (1_795_000_000, 2026),
        (-62135596800, None),
        ("yesterday", None),
        (None, None),
        ({"at": 1}, None),
        (10**30, None),
    ],
)
def test_a_time_of_an_engine_is_evidence_only(raw: object, year: int | None) -> None:
    """Times are read as engines write them; what is none is not known, and no error."""
    answer = {"Id": "1", "Names": ["a"], "State": "exited", "ExitCode": 1, "ExitedAt": raw}

    read = _PodmanContainer.model_validate(answer).ended_at

    assert (read.year if read else None) == year
    assert read is None or (read.tzinfo is not None and read.microsecond == 0)


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


@pytest.mark.parametrize(
    ("containers", "workspace", "told"),
    [
        ([container("app"), container("db")], WORKSPACE, []),
        ([container("app")], WORKSPACE, ["containers/db: present -> missing"]),
        ([container("app"), container("db", "paused")], WORKSPACE, ["containers/db/state: running -> paused"]),
        ([container("app"), container("db", "stopped", exit_code=137)], WORKSPACE, ["containers/db/state: running -> ended (137)"]),
        ([container("app"), container("db", "exited", exit_code=137)], WORKSPACE, ["containers/db/state: running -> ended (137)"]),
        ([container("app"), container("db", "exited", labels={LABEL_ONESHOT: "true"})], WORKSPACE, []),
        ([container("app", "exited"), container("db", "exited")], SUSPENDED, []),
        ([container("app"), container("db")], None, ["workspace: present -> missing"]),
    ],
)  # fmt: skip
def test_what_does_not_run_is_drift(
    containers: list[Container], workspace: Workspace | None, told: list[str]
) -> None:
    """What is missing or does not run is told by its path; what is suspended or done is not."""
    record = record_of(Found(containers))
    kept = [replace(workspace, record=record)] if workspace else []

    (seen,) = judge(Inventory(containers=containers, workspaces=kept), extension=NAME)

    assert [str(one) for one in seen.drift] == told
