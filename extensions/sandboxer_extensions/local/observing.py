"""
What `scripts/observe.sh` printed, read strictly and judged.

A sandbox without walls can write to its own marker and record. So a line that is not exactly what
we write is taken as not ours and harms nobody else; an answer that is cut off is an error.
"""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandboxer.errors import TransientError
from sandboxer.extension import (
    LABEL_ENVIRONMENT,
    LABEL_EXTENSION,
    LABEL_SPEC_HASH,
    LABEL_UID,
    Observation,
    State,
)
from sandboxer.kinds.meta import is_label_value
from sandboxer.kinds.sandbox import Difference, Ending, ResourceSeen

# Digits of an exit status, which is at most 255.
_STATUS_DIGITS = 3

# Prefix of a workspace that did not get its final name yet.
UNFINISHED = ".new-"


@dataclass(slots=True)
class _Found:
    """Everything printed about one name, gathered from several lines."""

    name: str
    marker: Mapping[str, str] | None = None
    process: Mapping[str, str] | None = None
    """Labels of the process's record; None when there is no record."""
    pid: int = 0
    start: int = 0
    boot: str = ""
    stat: tuple[str, str] = ("", "")
    """State letter and start time of the process that has this pid now."""
    exit_status: str = ""
    manifest: str = ""
    flags: set[str] = field(default_factory=set)
    """`work`, `suspended`, and `marked` when its directory is there."""

    @property
    def labels(self) -> Mapping[str, str]:
        return self.marker or self.process or {}

    def alive(self, boot: str) -> bool:
        state, start = self.stat
        return self.boot == boot and start == str(self.start) and state not in ("", "Z", "X")

    @property
    def paused(self) -> bool:
        """Whether a signal holds the process that is alive."""
        return self.stat[0] == "T"


def labels_text(labels: Mapping[str, str]) -> str:
    """Return labels as one line of JSON in the one form the scripts compare as text."""
    return json.dumps(labels, separators=(",", ":"), sort_keys=True)


def read_observations(
    output: bytes, *, environment: str, extension: str
) -> tuple[Observation, ...]:
    """
    Return what there is of one environment, in the order of names.

    Args:
        output: What `scripts/observe.sh` printed.
        environment: Installation whose sandboxes are wanted, empty for all; others are left out.
        extension: Name the sandboxes' labels must carry.

    Raises:
        TransientError: The answer is not complete, so that it cannot be trusted.
    """
    lines = output.decode("utf-8", "replace").split("\n")
    if lines[-2:] != ["end - -", ""] or not lines[0].startswith("boot - "):
        raise TransientError("The answer about the local sandboxes is incomplete.")
    boot = lines[0].removeprefix("boot - ")
    wanted = {LABEL_EXTENSION: extension}
    if environment:
        wanted[LABEL_ENVIRONMENT] = environment
    return tuple(
        _judge(found, boot)
        for found in _gather(lines[1:-2])
        if found.labels and wanted.items() <= found.labels.items()
    )


# An idle machine gives the same answer to each probe, 1 MB for 2,000 sandboxes: reading it took
# 1.6 % of a core at a probe every 15 s. Two answers are kept, for two environments or roots.
read_same_observations = functools.lru_cache(maxsize=2)(read_observations)


def _gather(lines: list[str]) -> Iterator[_Found]:
    by_name: dict[str, _Found] = {}
    for line in lines:
        kind, _, rest = line.partition(" ")
        name, _, value = rest.partition(" ")
        found = by_name.setdefault(name, _Found(name))
        if kind == "marker":
            found.flags.add("marked")
            found.marker = _labels(_decoded(value), name)
        elif kind == "process":
            _read_process(found, _decoded(value))
        elif kind == "stat":
            state, _, start = value.partition(" ")
            found.stat = (state, start)
        elif kind == "exit":
            found.exit_status = value
        elif kind == "manifest":
            found.manifest = value
        else:
            found.flags.add(kind)
    yield from _one_per_uid(by_name)


def _one_per_uid(by_name: Mapping[str, _Found]) -> Iterator[_Found]:
    """Yield in the order of names; an unfinished workspace only where there is nothing else."""
    grouped: dict[str, list[_Found]] = defaultdict(list)
    for name in sorted(by_name):
        grouped[by_name[name].labels.get(LABEL_UID, "")].append(by_name[name])
    grouped.pop("", None)
    for several in grouped.values():
        yield several[-1]


def _decoded(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _labels(document: Mapping[str, Any], name: str) -> Mapping[str, str] | None:
    """Return the labels of a marker or record, None unless they are whole and belong to *name*."""
    labels = document.get("labels")
    if not isinstance(labels, dict):
        return None
    if not all(isinstance(value, str) and is_label_value(value) for value in labels.values()):
        return None
    uid = labels.get(LABEL_UID, "").replace("-", "")
    short_id = name.removeprefix(UNFINISHED).partition(".")[0]
    return labels if short_id == f"sbx-{uid[:12]}" else None


def _read_process(found: _Found, document: Mapping[str, Any]) -> None:
    pid, start, boot = (document.get(key) for key in ("pid", "start", "boot"))
    if isinstance(pid, int) and isinstance(start, int) and isinstance(boot, str):
        same = document.get("labels") == "same"
        found.process = found.marker if same else _labels(document, found.name)
        found.pid, found.start, found.boot = pid, start, boot


def _judge(found: _Found, boot: str) -> Observation:
    labels = found.labels
    alive = found.alive(boot)
    state, message = _state(found, boot, alive=alive)
    hashes = {one.get(LABEL_SPEC_HASH, "") for one in (found.marker, found.process) if one}
    return Observation(
        uid=labels[LABEL_UID],
        state=state,
        spec_hash=hashes.pop() if len(hashes) == 1 else "",
        resources=tuple(_resources(found, alive=alive)),
        labels=labels,
        message=message,
        manifest=found.manifest,
        drift=tuple(_drift(found, state, boot)),
    )


def _state(found: _Found, boot: str, *, alive: bool) -> tuple[State, str]:
    if found.name.startswith(UNFINISHED):
        return "Incomplete", "The workspace was not finished."
    if found.marker is None:
        if "marked" in found.flags:
            return "Incomplete", "The marker of the workspace was damaged."
        return "Incomplete", "The workspace is gone."
    if "work" not in found.flags:
        return "Incomplete", "The work directory is gone."
    if alive and found.paused:
        return "Stopped", "The process is held by a signal (SIGSTOP)."
    return ("Running", "") if alive else _at_rest(found, boot)


def _drift(found: _Found, state: State, boot: str) -> Iterator[Difference]:
    """Yield what is not as it was made; the files of the user are not looked at."""
    if found.marker is None:
        damaged = "marked" in found.flags
        path, seen = ("workspace/marker", "damaged") if damaged else ("workspace", "missing")
        yield Difference(path=path, wanted="present", seen=seen, data_lost=not damaged)
    elif "work" not in found.flags:
        yield Difference(path="workspace/work", wanted="present", seen="missing", data_lost=True)
    if state != "Suspended" and (not found.alive(boot) or found.paused):
        yield Difference(path="process/state", wanted="running", seen=_process_state(found, boot))


def _process_state(found: _Found, boot: str) -> str:
    if found.process is None:
        return "missing"
    if found.alive(boot):
        return "held by a signal"
    return f"ended ({found.exit_status})" if found.exit_status else "killed"


def _at_rest(found: _Found, boot: str) -> tuple[State, str]:
    if "suspended" in found.flags:
        return "Suspended", ""
    if found.process is None:
        return "Incomplete", "The process was not started."
    if found.boot != boot:
        return "Stopped", "The machine was started anew."
    if found.exit_status:
        return "Stopped", f"The process ended with exit status {found.exit_status}."
    return "Stopped", "The process was killed from outside."


def _resources(found: _Found, *, alive: bool) -> Iterator[ResourceSeen]:
    if found.marker is not None:
        state = "present" if "work" in found.flags else "damaged"
        yield ResourceSeen(kind="workspace", name=found.name, state=state)
    if found.process is not None:
        ending = "" if alive or not found.exit_status else f"exit status {found.exit_status}"
        state = "running" if alive else "ended"
        yield ResourceSeen(
            kind="process", name=f"pid {found.pid}", state=state, detail=ending,
            ending=_ending(found.exit_status) if ending else None,
        )  # fmt: skip


def _ending(exit_status: str) -> Ending | None:
    """Return how a process ended; None for what is no exit status, which a sandbox can write."""
    known = exit_status.isascii() and exit_status.isdigit() and len(exit_status) <= _STATUS_DIGITS
    return Ending(exit_code=int(exit_status)) if known else None
