"""The one function that turns arguments into a shell line."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandboxer.errors import InvalidSpecError
from sandboxer.transport.quoting import MAX_LINE_BYTES, remote_line

# Any text a program can be given: no NUL; lone bytes as surrogates, as file names come.
arguments = st.lists(
    st.text(
        st.characters(exclude_characters="\0", exclude_categories=["Cs"])
        | st.integers(0xDC80, 0xDCFF).map(chr),
        max_size=40,
    ),
    max_size=6,
)


def _as_bytes(text: str) -> bytes:
    # Lone bytes that happen to form UTF-8 together are the same bytes either way.
    return text.encode("utf-8", "surrogateescape")


@settings(max_examples=60, deadline=None)
@given(arguments)
def test_a_shell_gives_back_exactly_the_arguments(argv: list[str]) -> None:
    """A real `sh -c` of the line runs the program with the very arguments."""
    line = remote_line(["printf", "%s\\0", "start", *argv])

    shown = subprocess.run(["sh", "-c", line], capture_output=True, check=True).stdout

    assert shown.split(b"\0")[1:-1] == [_as_bytes(text) for text in argv]


def test_nul_is_refused() -> None:
    """An argument no program can be given is refused, not cut."""
    with pytest.raises(InvalidSpecError):
        remote_line(["echo", "a\0b"])


@pytest.mark.parametrize("argv", [[], [""], ["", "x"]], ids=["nothing", "empty", "no-program"])
def test_empty_command_is_refused(argv: list[str]) -> None:
    """A command without a program is refused."""
    with pytest.raises(InvalidSpecError):
        remote_line(argv)


def test_too_long_is_refused_before_it_is_sent() -> None:
    """What the kernel would refuse on the machine is refused here, with a remedy."""
    with pytest.raises(InvalidSpecError) as caught:
        remote_line(["echo", "x" * MAX_LINE_BYTES])

    assert "standard input" in caught.value.remedy


def test_the_longest_line_passes_the_kernel() -> None:
    """The limit is the kernel's own."""
    line = remote_line(["true", "x" * (MAX_LINE_BYTES - len("true "))])

    assert len(line) == MAX_LINE_BYTES
    assert subprocess.run(["sh", "-c", os.fsdecode(line)], check=False).returncode == 0
