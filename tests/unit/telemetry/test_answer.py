"""What a host prints is somebody else's text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxer.errors import SandboxerError, TransientError
from sandboxer.telemetry.answer import MAX_ANSWER_BYTES
from sandboxer.telemetry.probe import parse_facts, parse_pulse

PULSE = b"""sandboxer-pulse/1
boot_id=25fa3ef8-c27d-4b1b-b22d-6da5bac11a53
load1=0.21
uptime_s=2082.69
memory_available_bytes=24834330624
disk_total_bytes=270553174016
disk_free_bytes=85197438976
end=1
"""
FACTS = b"""sandboxer-facts/1
boot_id=25fa3ef8-c27d-4b1b-b22d-6da5bac11a53
hostname=vm
os=Debian GNU/Linux 12 (bookworm)
kernel=6.1
architecture=x86_64
user=root
uid=0
home=/root
cpus=2
memory_bytes=25276502016
systemd=0
tool.rsync=/usr/bin/rsync
work_root=/var/lib/sandboxer
engine=podman
engine_version=4.3.1
compose.podman-compose=/usr/bin/podman-compose podman-compose version 1.6.0
end=1
"""


def test_pulse_is_read() -> None:
    """Numbers come out with their units."""
    pulse = parse_pulse("h1", PULSE)

    assert pulse.boot_id == "25fa3ef8-c27d-4b1b-b22d-6da5bac11a53"
    assert pulse.load.load1 == 0.21
    assert pulse.load.disk_free_bytes == 85197438976


def test_disk_of_the_store_is_read_where_it_is_told() -> None:
    """A host that may not look there says nothing of it, and that is no number."""
    told = b"store_disk_total_bytes=1000\nstore_disk_free_bytes=10\nend=1\n"

    with_store = parse_pulse("h1", PULSE.replace(b"end=1\n", told)).load
    without = parse_pulse("h1", PULSE).load

    assert (with_store.store_disk_total_bytes, with_store.store_disk_free_bytes) == (1000, 10)
    assert (without.store_disk_total_bytes, without.store_disk_free_bytes) == (0, 0)


def test_facts_are_read() -> None:
    """Facts come out, and the compose tool is chosen."""
    facts = parse_facts("h1", FACTS)

    assert facts.os == "Debian GNU/Linux 12 (bookworm)"
    assert facts.tools == {"rsync": "/usr/bin/rsync"}
    assert facts.compose_command == ("/usr/bin/podman-compose",)
    assert facts.engine_socket == ""
    assert facts.engine_store == ""


@given(st.binary(max_size=400))
def test_noise_before_the_marker_is_ignored(noise: bytes) -> None:
    """A greeting of the login shell changes nothing."""
    if b"sandboxer-pulse/1" not in noise:
        assert parse_pulse("h1", noise + b"\n" + PULSE) == parse_pulse("h1", PULSE)


@given(st.binary(max_size=2000))
def test_garbage_is_an_error_of_the_host(garbage: bytes) -> None:
    """Whatever comes, the result is a TransientError or facts, never another exception."""
    for head in (b"", b"sandboxer-facts/1\n"):
        with pytest.raises(TransientError):
            parse_facts("h1", head + garbage)


@given(st.data())
def test_damaged_answers_never_crash(data: st.DataObject) -> None:
    """An answer with bytes replaced is read or refused, nothing else."""
    damaged = bytearray(FACTS)
    for _ in range(data.draw(st.integers(1, 5))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        damaged[position] = data.draw(st.integers(0, 255))
    try:
        parse_facts("h1", bytes(damaged))
    except SandboxerError:
        return


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(PULSE[:-6], id="cut-short"),
        pytest.param(PULSE + b"more=1\n", id="goes-on"),
        pytest.param(PULSE.replace(b"load1=0.21", b"load1=nan"), id="nan"),
        pytest.param(PULSE.replace(b"load1=0.21", b"load1=1e999"), id="exponent"),
        pytest.param(PULSE.replace(b"0.21", b"9" * 400), id="endless-number"),
        pytest.param(PULSE.replace(b"load1=0.21\n", b""), id="missing-key"),
        pytest.param(PULSE.replace(b"load1=", b"load1=1\nload1="), id="twice"),
        pytest.param(PULSE.replace(b"load1=", b"strange=1\nload1="), id="unknown-key"),
        pytest.param(b"x" * (MAX_ANSWER_BYTES + 1), id="too-long"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_wrong_pulses_are_refused(answer: bytes) -> None:
    """Everything that is not exactly an answer is refused."""
    with pytest.raises(TransientError):
        parse_pulse("h1", answer)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"engine=podman", b"engine=lxc"),
        (b"work_root=/var/lib/sandboxer", b"work_root=/var/../etc"),
        (b"work_root=/var/lib/sandboxer", b"work_root=/"),
        (b"work_root=/var/lib/sandboxer", b"work_root=relative"),
        (b"engine=podman", b"engine_store=/var/../etc\nengine=podman"),
    ],
)
def test_wrong_facts_are_refused(before: bytes, after: bytes) -> None:
    """A value that could lead us astray is garbage."""
    with pytest.raises(TransientError):
        parse_facts("h1", FACTS.replace(before, after))
