r"""
Packer's machine-readable output, read strictly: what it is doing, and why it failed.

A line is `TIME,BUILD,KIND,DATA…`, with `%!(PACKER_COMMA)` for a comma and `\n` for a newline
inside of data (Packer 1.6.6, "Machine-Readable Output"). What a provisioner prints is data, so it
can say anything and forge nothing. Packer counts no work, so there is no percentage here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_LINE = re.compile(r"(?P<at>\d{1,12}),(?P<build>[^,]*),(?P<kind>[a-z][a-z-]{0,30}),(?P<data>.*)")

# Characters of one text, and of all texts about a failure: a screen, well below a condition's 2000.
TEXT_LENGTH_MAX = 300
FAILURE_LENGTH_MAX = 1200

# Lines of what Packer printed last, for a failure it does not explain.
LAST_LINES = 6

OURS = "sandboxer: "
"""How our own lines in the log begin."""

# What Packer says when it begins something, to the reason of the condition Ready. First match wins.
# Source: the texts of its builders and provisioners, seen with 1.6.6.
_STAGES = (
    ("computing the checksum", "ComputingChecksum"),
    ("Retrieving", "Downloading"),
    ("Waiting for SSH", "Connecting"),
    ("Waiting for WinRM", "Connecting"),
    ("Using ssh communicator", "Connecting"),
    ("Running local shell script", "RunningProvisioners"),
    ("Provisioning with", "RunningProvisioners"),
    ("Uploading", "RunningProvisioners"),
    ("Running post-processor", "PostProcessing"),
    ("halting", "ShuttingDown"),
    ("shutting down", "ShuttingDown"),
    ("Converting", "WritingImage"),
    ("Cancelling", "Cancelling"),
)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a build is."""

    reason: str = "Building"
    """CamelCase word for the stage; stays until another one begins."""
    message: str = "Packer was started."
    """What Packer said last, as a sentence."""


@dataclass(frozen=True, slots=True)
class _Line:
    build: str
    kind: str
    data: tuple[str, ...]


def progress(lines: Iterable[str]) -> Progress:
    """Return how far a build is, by the last lines of its log, oldest first."""
    reason, said = "Building", ""
    for text in _said(lines):
        said = text
        reason = next((word for sign, word in _STAGES if sign in text), reason)
    return Progress(reason, f"Packer: {said}") if said else Progress()


def failure(lines: Iterable[str]) -> str:
    """
    Return why a build failed: Packer's own errors, else what it printed last.

    Args:
        lines: The last lines of its log, oldest first.
    """
    listed = list(lines)
    errors = [
        f"{line.build}: {_plain(line.data[-1])}"
        for line in _read(listed)
        if line.kind == "error" and line.build
    ]
    shown = _once([*_stderr(listed), *errors]) if errors else list(_said(listed))
    text = "; ".join(shown[-LAST_LINES:])
    return text[-FAILURE_LENGTH_MAX:]


def plain(text: str, limit: int = TEXT_LENGTH_MAX) -> str:
    """Return foreign text as one printable line of bounded length."""
    words = "".join(c if c.isprintable() else " " for c in text).split()
    line = " ".join(words)
    return line if len(line) <= limit else f"{line[:limit]}…"


def _read(lines: Iterable[str]) -> Iterator[_Line]:
    for text in lines:
        if found := _LINE.fullmatch(text):
            yield _Line(found["build"], found["kind"], tuple(found["data"].split(",")))


def _said(lines: Iterable[str]) -> Iterator[str]:
    """Yield what a person would read, a line each; lines of no form are not Packer's."""
    for text in lines:
        if text.startswith(OURS):
            yield plain(text.removeprefix(OURS))
            continue
        for line in _read([text]):
            if line.kind == "ui" and len(line.data) == 2 and (said := _plain(line.data[1])):  # noqa: PLR2004 - level and text
                yield said


def _stderr(lines: Iterable[str]) -> Iterator[str]:
    """Yield what builds and provisioners printed as errors: the cause of most failures."""
    for line in _read(lines):
        if line.kind == "ui" and line.data[0] == "error" and line.data[-1].startswith("==> "):
            yield _plain(line.data[-1])


def _plain(data: str) -> str:
    decoded = data.replace("%!(PACKER_COMMA)", ",").replace("\\n", " ").replace("\\r", " ")
    return plain(decoded.strip().removeprefix("==>").removeprefix("-->"))


def _once(texts: Iterable[str]) -> list[str]:
    """Return the texts without repetitions, the last of equals."""
    return list(dict.fromkeys(reversed(list(texts))))[::-1]
