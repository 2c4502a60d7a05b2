"""
What `scripts/observe.sh` printed, read strictly and judged.

Programs in a workspace can write to its marker. So a line that is not exactly what we write is
taken as not ours and harms nobody else; an answer that is cut off is an error.
"""

from __future__ import annotations

import json
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
from sandboxer.kinds.sandbox import Difference, ResourceSeen

BUILDS = b"builds"
"""The line by which scripts of mode attach tell that the directory of the builds is there."""


@dataclass(slots=True)
class _Found:
    """Everything printed about one directory."""

    path: str
    labels: Mapping[str, str] = field(default_factory=dict)
    work: bool = False
    synced: str = ""
    manifest: str = ""

    @property
    def finished(self) -> bool:
        """Whether it has its final name; before that and while it is removed that is hidden."""
        return not self.path.rpartition("/")[2].startswith(".")


def read_observations(
    output: bytes, *, environment: str, extension: str, uid: str = ""
) -> tuple[Observation, ...]:
    """
    Return what there is of one environment, in the order of paths.

    Args:
        output: What `scripts/observe.sh` printed.
        environment: Installation whose workspaces are wanted, empty for all; others are left out.
        extension: Name the labels must carry.
        uid: Only this one, when it is not empty.

    Raises:
        TransientError: The answer is not complete, so that it cannot be trusted.
    """
    lines = output.decode("utf-8", "replace").split("\n")
    if lines[-2:] != ["end", ""]:
        raise TransientError("The answer about the workspaces is incomplete.")
    wanted = {LABEL_EXTENSION: extension}
    if environment:
        wanted[LABEL_ENVIRONMENT] = environment
    if uid:
        wanted[LABEL_UID] = uid
    found = [one for one in _gather(lines[:-2]) if wanted.items() <= one.labels.items()]
    by_uid: dict[str, _Found] = {}
    for one in sorted(found, key=lambda each: (not each.finished, each.path)):
        by_uid.setdefault(one.labels[LABEL_UID], one)
    return tuple(_judge(one) for one in by_uid.values())


def _gather(lines: list[str]) -> Iterator[_Found]:
    by_path: dict[str, _Found] = {}
    for line in lines:
        kind, _, rest = line.partition(" ")
        path, _, value = rest.partition(" ")
        found = by_path.setdefault(path, _Found(path))
        if kind == "marker":
            found.labels = _labels(value, found)
        elif kind == "work":
            found.work = True
        elif kind == "synced":
            found.synced = value
        elif kind == "manifest":
            found.manifest = value
    yield from by_path.values()


def _labels(text: str, found: _Found) -> Mapping[str, str]:
    """Return the labels of a marker, none unless they are whole and it is not a copy elsewhere."""
    document = decoded(text)
    labels = document.get("labels")
    if not isinstance(labels, dict) or not labels.get(LABEL_UID):
        return {}
    if not all(isinstance(value, str) and is_label_value(value) for value in labels.values()):
        return {}
    moved = found.finished and document.get("path") != found.path
    return {} if moved else labels


def decoded(text: str) -> dict[str, Any]:
    """Return the JSON object in *text*, which anybody may have written; an empty one for none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _judge(found: _Found) -> Observation:
    state, message = _state(found)
    return Observation(
        uid=found.labels[LABEL_UID],
        state=state,
        spec_hash=found.labels.get(LABEL_SPEC_HASH, ""),
        resources=(
            ResourceSeen(
                kind="workspace",
                name=found.path,
                state="present" if state == "Running" else "damaged",
            ),
        ),
        labels=found.labels,
        message=message,
        drift=tuple(_drift(found)),
        manifest=found.manifest,
    )


def _drift(found: _Found) -> Iterator[Difference]:
    """Yield what is not as it was made; the files of the user are not looked at."""
    if not found.finished:
        yield Difference(path="workspace", wanted="present", seen="unfinished")
    elif not found.work:
        yield Difference(path="workspace/work", wanted="present", seen="missing", data_lost=True)
    elif found.synced != found.labels.get(LABEL_SPEC_HASH):
        yield Difference(path="workspace/repository", wanted="copied", seen="not copied")


def _state(found: _Found) -> tuple[State, str]:
    if not found.finished:
        return "Incomplete", "The workspace was not finished, or its removal was not."
    if not found.work:
        return "Incomplete", "The work directory is gone."
    if found.synced != found.labels.get(LABEL_SPEC_HASH):
        return "Incomplete", "The repository was not copied completely."
    return "Running", ""
