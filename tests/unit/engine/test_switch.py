"""What a profile's wish for a dead-man's switch comes to, and what a host may say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxer.engine.switch.guard import fired, guard_of, guarded, is_guarded
from sandboxer.engine.switch.listing import Listing, read_listing
from sandboxer.extension import Capability, Inputs, Instance
from sandboxer.kinds.host import Host, HostFacts
from sandboxer.kinds.sandbox import Sandbox, SwitchSeen
from sandboxer.testing.clock import EPOCH
from sandboxer.testing.fake import FakeExtension, FakeWorld
from sandboxer.testing.this_machine import local_host
from tests.unit.engine.situations import situation

END = EPOCH + timedelta(hours=1)
UID = "0a0b0c0d-0000-4000-8000-000000000001"
INSTANCE = Instance(
    uid=UID, namespace="default", name="hello", environment="e", extension="ext.fake",
    spec_hash="0" * 16, inputs=Inputs(), expires_at=END,
)  # fmt: skip


class Removable(FakeExtension):
    """A backend whose hosts can take away by themselves what is not called `never`."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset({"removal"})

    def removal(self, facts: HostFacts, instance: Instance) -> Sequence[str]:
        """Return a command; see `Extension.removal`."""
        del facts
        return () if instance.name == "never" else ("remove", instance.uid)


def host(*tools: str, interval: str = "15s") -> Host:
    found = local_host(Path("/build"))
    facts = found.status.facts.model_copy(
        update={"tools": {tool: f"/bin/{tool}" for tool in tools}}
    )
    spec = Host.parse(
        found.to_document() | {"spec": {"transport": "local", "probeInterval": interval}}
    )
    return spec.model_copy(update={"status": found.status.model_copy(update={"facts": facts})})


SANDBOX = situation({"stage": "ready", "sees": "Running"}).sandbox
ABLE = host("flock", "setsid", "timeout")


@pytest.mark.parametrize(
    ("instance", "extension", "where", "reason"),
    [
        (INSTANCE, Removable, ABLE, "Armed"),
        (replace(INSTANCE, expires_at=None), Removable, ABLE, "NeverExpires"),
        (INSTANCE, FakeExtension, ABLE, "NotSupported"),
        (replace(INSTANCE, name="never"), Removable, ABLE, "NotSupported"),
        (INSTANCE, Removable, host("flock", "setsid"), "HostLacksTools"),
    ],
)
def test_what_the_wish_comes_to(
    instance: Instance, extension: type[FakeExtension], where: Host, reason: str
) -> None:
    """A switch, or why there can be none."""
    guard = guard_of(600.0, instance, extension=extension(FakeWorld()), host=where)

    assert guard is not None
    assert guard.reason == reason
    assert (guard.switch is not None) == (reason == "Armed")
    assert guard.switch is not None or guard.message


def test_nobody_asks() -> None:
    """A profile that says nothing has no switch, and nothing is said of one."""
    assert guard_of(None, INSTANCE, extension=Removable(FakeWorld()), host=ABLE) is None
    assert is_guarded(SANDBOX, None)


@pytest.mark.parametrize(("interval", "lease_s"), [("1s", 5), ("15s", 45), ("10m", 1800)])
def test_lease_outlives_lost_probes(interval: str, lease_s: int) -> None:
    """However short a lease is wished, three probes fit in it."""
    where = host("flock", "setsid", "timeout", interval=interval)

    guard = guard_of(5.0, INSTANCE, extension=Removable(FakeWorld()), host=where)

    assert guard is not None
    assert guard.switch is not None
    assert guard.switch.lease_s == lease_s


def test_said_once() -> None:
    """What was stated of a switch is as wished, until its end moves or it has fired."""
    guard = guard_of(600.0, INSTANCE, extension=Removable(FakeWorld()), host=ABLE)
    seen = SwitchSeen(expires_at=END, lease_s=600, watcher="cron", survives_reboot=True)

    said = _with(guarded(1, SANDBOX.status, guard, seen, EPOCH))
    moved = _with(said.status.model_copy(update={"dead_mans_switch": _moved(seen)}))
    gone = _with(fired(said, END, EPOCH))

    assert [is_guarded(each, guard) for each in (SANDBOX, said, moved, gone)] == [
        False, True, False, False,
    ]  # fmt: skip
    assert not is_guarded(said, None)


def _with(status: object) -> Sandbox:
    return SANDBOX.model_copy(update={"status": status})


def _moved(seen: SwitchSeen) -> SwitchSeen:
    later: datetime = seen.expires_at + timedelta(seconds=1)
    return seen.model_copy(update={"expires_at": later})


def test_listing_is_read() -> None:
    """Each line of the script's answer has its place."""
    end_s = int(END.timestamp())
    text = f"armed {UID} {end_s} 600\nfired other {end_s}\nwatcher systemd yes\n"

    listing = read_listing(text.encode())

    assert listing.armed == {UID: (END, 600)}
    assert listing.fired == {"other": END}
    assert (listing.watcher, listing.survives_reboot) == ("systemd", True)
    assert read_listing(b"") == Listing()


def test_end_of_time_is_read() -> None:
    """What a document may say as `never` does not make everything else unreadable."""
    never = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

    listing = read_listing(f"armed {UID} {int(never.timestamp())} 600\n".encode())

    assert listing.armed[UID] == (never, 600)


@pytest.mark.parametrize(
    "line",
    [
        "armed", "armed u 1", "armed u x 1", "armed u 1 -1", "armed u 1 1 1", "armed u 1 9999999999",
        "fired u 999999999999", "fired u ٣", "watcher me yes", "hello",
    ],
)  # fmt: skip
def test_odd_lines_hide_no_others(line: str) -> None:
    """A host may say anything; what is understood of it counts."""
    good = f"armed {UID} {int(END.timestamp())} 600"

    listing = read_listing(f"{line}\n{good}\n".encode())

    assert listing == Listing(armed={UID: (END, 600)}, odd=line)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_listing(output: bytes) -> None:
    """Nothing a host prints ends in an error."""
    assert isinstance(read_listing(output), Listing)
