"""When a host's disks count as full."""

from __future__ import annotations

from typing import Any

import pytest

from sandboxer.engine.conditions import Fact, stated
from sandboxer.engine.disk import DISK_PRESSURE, pressure
from sandboxer.kinds.host import Host, HostLoad
from sandboxer.testing.builders import host
from sandboxer.testing.clock import EPOCH

GIB = 2**30


def load(work: float | None = None, store: float | None = None) -> HostLoad:
    """Return a load with disks of 100 GiB, in use by so many percent; None is unknown."""
    return HostLoad(
        disk_total_bytes=0 if work is None else 100 * GIB,
        disk_free_bytes=0 if work is None else int((100 - work) * GIB),
        store_disk_total_bytes=0 if store is None else 100 * GIB,
        store_disk_free_bytes=0 if store is None else int((100 - store) * GIB),
    )


def seen(*loads: HostLoad, **disk: Any) -> Fact:
    """Return what is said of a host that was seen with each of these loads in turn."""
    found = host(disk=disk)
    fact = Fact("Unknown", "NotProbed", "")
    for each in loads:
        fact = pressure(found, each)
        status = stated(found.status, {DISK_PRESSURE: fact}, generation=1, now=EPOCH)
        found = found.model_copy(update={"status": status})
    return fact


@pytest.mark.parametrize(
    ("work", "store", "status", "reason"),
    [
        pytest.param(10, 10, "False", "DiskHasRoom", id="empty"),
        pytest.param(84.9, 84.9, "False", "DiskHasRoom", id="below"),
        pytest.param(85, 10, "True", "WorkRootFull", id="work-root"),
        pytest.param(10, 85, "True", "EngineStoreFull", id="store"),
        pytest.param(90, 91, "True", "DisksFull", id="both"),
        pytest.param(100, None, "True", "WorkRootFull", id="no-engine"),
        pytest.param(10, None, "False", "DiskHasRoom", id="store-unknown"),
        pytest.param(None, None, "Unknown", "DiskUnknown", id="unknown"),
    ],
)
def test_fullness_of_either_disk_counts(
    work: float | None, store: float | None, status: str, reason: str
) -> None:
    """From 85 % on either disk is full; one whose size nobody knows is neither full nor empty."""
    fact = seen(load(work, store))

    assert (fact.status, fact.reason) == (status, reason)


def test_between_the_marks_it_stays_what_it_was() -> None:
    """A disk that was full stays so down to 80 %, one that was not is not before 85 %."""
    was_full = [seen(load(10, 90), load(10, used)).status for used in (84, 80.1, 80)]
    had_room = [seen(load(10, 10), load(10, used)).status for used in (80, 84, 85)]

    assert was_full == ["True", "True", "False"]
    assert had_room == ["False", "False", "True"]


def test_each_disk_has_a_memory_of_its_own() -> None:
    """A disk that was never full does not keep the host full when the other one has room again."""
    assert seen(load(82, 90), load(82, 70)).status == "False"
    assert seen(load(90, 90), load(82, 70)).reason == "WorkRootFull"


def test_lying_probe_is_unknown() -> None:
    """More free than there is, or nothing of nothing, is no pressure."""
    more_free = HostLoad(disk_total_bytes=10, disk_free_bytes=11)

    assert seen(more_free).status == "Unknown"
    assert seen(load(95), load(None)).status == "Unknown"


def test_message_has_the_numbers_and_changes_with_a_whole_percent() -> None:
    """What is said of a disk is not another sentence with every byte that is written."""
    one_disk, again = seen(load(91.2, 91.2)), seen(load(91.3, 91.3))
    two_disks = seen(load(88, 91))

    assert one_disk == again
    assert one_disk.message == (
        "The disk of the work root and the engine's store has 91 % of 100 GiB in use. "
        "Nothing new is placed here before it is 80 % at most."
    )
    assert two_disks.message.startswith(
        "The disk of the work root has 88 % of 100 GiB in use; "
        "The disk of the engine's store has 91 % of 100 GiB in use."
    )


def test_marks_are_the_owners() -> None:
    """The document says from when on a disk is full."""
    assert seen(load(60), highWatermark=60, lowWatermark=50).status == "True"
    assert seen(load(94), highWatermark=95, lowWatermark=90).status == "False"


@pytest.mark.parametrize(
    "disk",
    [
        {"highWatermark": 80, "lowWatermark": 80},
        {"highWatermark": 100},
        {"prune": "Always"},
        {"keepImages": ["-f"]},
        {"keepImages": ["debian:12 ubuntu"]},
        {"keepImages": ["debian"] * 101},
    ],
    ids=str,
)
def test_senseless_limits_are_refused(disk: dict[str, Any]) -> None:
    """Marks out of order, and images that are no names, never reach a host."""
    with pytest.raises(Exception, match="disk"):
        Host.parse({**host().to_document(), "spec": {"transport": "local", "disk": disk}})
