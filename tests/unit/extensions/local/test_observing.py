"""Reading what the observing script prints: complete or an error, exact or not ours."""

from __future__ import annotations

import json

import pytest

from sandboxer.errors import TransientError
from sandboxer.extension import Observation
from sandboxer_extensions.local import observing

UID = "12345678-9abc-4def-8000-000000000000"
NAME = "sbx-123456789abc"
BOOT = "b00t"
LABELS = {
    "sandboxer.dev/uid": UID,
    "sandboxer.dev/environment": "here",
    "sandboxer.dev/extension": "ext.local",
    "sandboxer.dev/spec-hash": "abc",
}


def marker(name: str = NAME, **changes: str) -> str:
    labels = LABELS | {f"sandboxer.dev/{key}": value for key, value in changes.items()}
    return f"marker {name} " + json.dumps({"labels": labels})


def process(spec_hash: str = "abc", boot: str = BOOT) -> str:
    labels = LABELS | {"sandboxer.dev/spec-hash": spec_hash}
    record = {"pid": 7, "start": 99, "boot": boot, "level": "none", "labels": labels}
    return f"process {NAME} " + json.dumps(record)


WORK = f"work {NAME}"
LIVES = f"stat {NAME} S 99"


def read(*lines: str) -> tuple[Observation, ...]:
    text = "\n".join((f"boot - {BOOT}", *lines, "end - -", ""))
    return observing.read_observations(text.encode(), environment="here", extension="ext.local")


@pytest.mark.parametrize(
    ("lines", "state", "message"),
    [
        pytest.param([marker(), WORK, process(), LIVES], "Running", "", id="running"),
        pytest.param([marker(), WORK], "Incomplete", "not started", id="no-process"),
        pytest.param([marker(), process(), LIVES], "Incomplete", "directory", id="no-work"),
        pytest.param([process(), LIVES], "Incomplete", "workspace is gone", id="no-workspace"),
        pytest.param([marker(f".new-{NAME}.12")], "Incomplete", "finished", id="unfinished"),
        pytest.param([marker(), WORK, process()], "Stopped", "killed", id="no-such-pid"),
        pytest.param(
            [marker(), WORK, process(), f"stat {NAME} Z 99"], "Stopped", "killed", id="zombie"
        ),
        pytest.param(
            [marker(), WORK, process(), f"stat {NAME} S 100"], "Stopped", "killed", id="pid-reused"
        ),
        pytest.param(
            [marker(), WORK, process(boot="other"), LIVES], "Stopped", "anew", id="rebooted"
        ),
        pytest.param(
            [marker(), WORK, process(), f"exit {NAME} 3"], "Stopped", "exit status 3", id="ended"
        ),
        pytest.param([marker(), WORK, f"suspended {NAME}"], "Suspended", "", id="suspended"),
        pytest.param(
            [marker(), WORK, f"suspended {NAME}", process(), LIVES], "Running", "", id="half-way"
        ),
    ],
)
def test_state(lines: list[str], state: str, message: str) -> None:
    """Each situation on the disk has its state and its evidence."""
    [seen] = read(*lines)

    assert (seen.uid, seen.state) == (UID, state)
    assert message in seen.message


@pytest.mark.parametrize(
    ("lines", "path", "lost"),
    [
        pytest.param([marker(), WORK, process(), LIVES], "", False, id="running"),
        pytest.param([marker(), WORK, process()], "process/state killed", False, id="killed"),
        pytest.param(
            [marker(), WORK, process(), f"stat {NAME} T 99"],
            "process/state held by a signal", False, id="held",
        ),
        pytest.param(
            [marker(), WORK, process(), f"exit {NAME} 3"],
            "process/state ended (3)", False, id="ended",
        ),
        pytest.param([marker(), WORK], "process/state missing", False, id="no-process"),
        pytest.param([marker(), WORK, f"suspended {NAME}"], "", False, id="suspended"),
        pytest.param([marker(), process(), LIVES], "workspace/work missing", True, id="no-work"),
        pytest.param([process(), LIVES], "workspace missing", True, id="no-workspace"),
        pytest.param(
            [f"marker {NAME} x", WORK, process(), LIVES],
            "workspace/marker damaged", False, id="damaged",
        ),
    ],
)  # fmt: skip
def test_drift(lines: list[str], path: str, *, lost: bool) -> None:
    """What is not as it was made is told by its path, and whether data went with it."""
    [seen] = read(*lines)

    assert [f"{one.path} {one.seen}" for one in seen.drift] == ([path] if path else [])
    assert [one.data_lost for one in seen.drift] == ([lost] if path else [])
    assert (seen.state in ("Running", "Suspended")) == (path == "")


def test_hashes_must_agree() -> None:
    """A process older than its workspace's labels gives no hash, so it is provisioned anew."""
    [seen] = read(marker(), WORK, process("old"), LIVES)

    assert (seen.state, seen.spec_hash) == ("Running", "")


@pytest.mark.parametrize(
    "output",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"boot - x\n", id="no-end"),
        pytest.param(b"boot - x\nend - -", id="cut-in-the-last-line"),
        pytest.param(b"sh: awk: not found\nend - -\n", id="no-boot"),
    ],
)
def test_cut_off_is_an_error(output: bytes) -> None:
    """An answer that is not whole is an error and never an empty list."""
    with pytest.raises(TransientError):
        observing.read_observations(output, environment="here", extension="ext.local")


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(f"marker {NAME} not json", id="no-json"),
        pytest.param(f"marker {NAME} [1]", id="list"),
        pytest.param(f"marker {NAME} " + "[" * 5000, id="deep"),
        pytest.param(f'marker {NAME} {{"labels": {{"sandboxer.dev/uid": 7}}}}', id="number"),
        pytest.param(marker("sbx-ffffffffffff"), id="name-of-another"),
        pytest.param(marker(owner="a b\nc"), id="not-a-label-value"),
        pytest.param(marker(environment="elsewhere"), id="other-environment"),
        pytest.param(marker(extension="ext.compose-ssh"), id="other-extension"),
    ],
)
def test_what_is_not_ours_is_left_out(line: str) -> None:
    """A damaged or foreign line hides nobody else."""
    other = UID.replace("12345678", "87654321")
    good = marker(f"sbx-{other.replace('-', '')[:12]}", uid=other)

    assert [seen.uid for seen in read(line, good)] == [other]
