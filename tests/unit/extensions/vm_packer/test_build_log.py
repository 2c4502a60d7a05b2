"""What is told of Packer's machine-readable output, however it looks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandboxer_extensions.vm_packer import build_log

FAILED = [
    "1795275266,,ui,say,==> file.img: Running local shell script: /tmp/packer-shell1",
    "1795275266,,ui,error,==> file.img: no such compiler",
    "1795275266,,ui,error,Build 'file.img' errored after 7 milliseconds: Script exited",
    "1795275266,,error-count,1",
    "1795275266,,ui,error,\\n==> Some builds didn't complete successfully and had errors:",
    "1795275266,file.img,error,Script exited with non-zero exit status: 3%!(PACKER_COMMA) sorry",
    "1795275266,,ui,error,--> file.img: Script exited",
    "1795275266,,ui,say,\\n==> Builds finished but no artifacts were created.",
]


def test_progress_is_the_stage_and_the_last_words() -> None:
    """The stage lasts until another begins; what a provisioner prints is shown meanwhile."""
    lines = [
        "1795275240,,ui,say,==> qemu.vm: Waiting for SSH to become available...",
        "1795275241,,ui,say,==> qemu.vm: Provisioning with shell script: /tmp/x",
        "1795275242,,ui,message,    qemu.vm: a%!(PACKER_COMMA)b",
    ]

    assert build_log.progress(lines[:1]).reason == "Connecting"
    progress = build_log.progress(lines)
    assert (progress.reason, progress.message) == ("RunningProvisioners", "Packer: qemu.vm: a,b")
    assert build_log.progress([]).reason == "Building"


def test_a_failure_is_told_with_its_cause() -> None:
    """The error of the build and what its provisioner printed as one, each once."""
    assert build_log.failure(FAILED) == (
        "file.img: no such compiler; file.img: Script exited with non-zero exit status: 3, sorry"
    )


def test_a_failure_without_an_error_shows_the_last_lines() -> None:
    """Packer may die without a word of its own, or not even start."""
    assert build_log.failure(["sandboxer: Packer ended with exit status 127"]) == (
        "Packer ended with exit status 127"
    )


def test_printed_text_forges_nothing() -> None:
    """What a provisioner prints is data, also when it looks like a line of Packer's."""
    printed = "1795275242,,ui,message,    x: 1\\n1795275242%!(PACKER_COMMA)x%!(PACKER_COMMA)error"

    assert "x: error" not in build_log.failure([printed])


@given(st.lists(st.text(max_size=200), max_size=40))
def test_any_text_is_read(lines: list[str]) -> None:
    """No log makes the reader fail, or its answer long or unprintable."""
    progress, failure = build_log.progress(lines), build_log.failure(lines)

    assert progress.message.isprintable()
    assert len(progress.message) <= build_log.TEXT_LENGTH_MAX + 20
    assert failure.isprintable()
    assert len(failure) <= build_log.FAILURE_LENGTH_MAX
