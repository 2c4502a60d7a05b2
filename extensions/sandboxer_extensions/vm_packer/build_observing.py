"""
What `scripts/build_observe.sh` printed, read strictly and judged.

A provisioner can write to the directory of its build. So a line that is not exactly what we write
is taken as not ours and harms nobody else; an answer that is cut off is an error.
"""

from __future__ import annotations

import re
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
from sandboxer.kinds.sandbox import ResourceSeen
from sandboxer_extensions.vm_packer import build_log
from sandboxer_extensions.vm_packer.observing import decoded

# Between the fields of an artifact's record; no path that is recorded holds it.
SEPARATOR = "\x1f"

# Artifacts of one build that are shown; a template with more writes a directory, not an image.
ARTIFACTS_MAX = 50

# sysexits.h: the keeper's own end when Packer ended well and its artifacts could not be recorded.
EXIT_UNRECORDED = "74"

_NAME = re.compile(r"(\.sbx-(?:new|gone)-)?(?:sbx-)?([0-9a-f]{12})(\.[0-9]+)?")


@dataclass(slots=True)
class Found:
    """Everything printed about one directory."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    run: Mapping[str, str] | None = None
    """Labels of what was started last; None when nothing was."""
    start: int = 0
    boot: str = ""
    stat: str = ""
    """State letter and start time of the process that has the keeper's pid now."""
    exit_status: str = ""
    artifacts: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    """Paths of artifacts that are not there any more."""
    manifest: str = ""
    log: list[str] = field(default_factory=list)
    """The last lines of the log, oldest first."""

    @property
    def uid(self) -> str:
        """Whose it is."""
        return self.labels[LABEL_UID]

    @property
    def finished(self) -> bool:
        """Whether the directory has its final name; before and while it is removed that is hidden."""
        return not self.name.startswith(".")

    @property
    def failed(self) -> bool:
        """Whether Packer ended, and not well."""
        return self.exit_status not in ("", "0")

    def alive(self, boot: str) -> bool:
        """Tell whether the keeper runs; *boot* is the machine's present one."""
        state, _, start = self.stat.partition(" ")
        return self.boot == boot and start == str(self.start) and state not in ("", "Z", "X")


@dataclass(frozen=True, slots=True)
class Seen:
    """One build: what was found of it, and how it is judged."""

    found: Found
    observation: Observation


def read_builds(
    output: bytes, *, environment: str, extension: str, uid: str = ""
) -> tuple[Seen, ...]:
    """
    Return what there is of one environment, in the order of names.

    Args:
        output: What `scripts/build_observe.sh` printed.
        environment: Installation whose builds are wanted, empty for all; others are left out.
        extension: Name the labels must carry.
        uid: Only this one, when it is not empty.

    Raises:
        TransientError: The answer is not complete, so that it cannot be trusted.
    """
    lines = output.decode("utf-8", "replace").split("\n")
    if lines[-2:] != ["end - -", ""] or not lines[0].startswith("boot - "):
        raise TransientError("The answer about the builds is incomplete.")
    boot = lines[0].removeprefix("boot - ")
    wanted = {LABEL_EXTENSION: extension}
    if environment:
        wanted[LABEL_ENVIRONMENT] = environment
    if uid:
        wanted[LABEL_UID] = uid
    found = [one for one in _gather(lines[1:-2]) if wanted.items() <= one.labels.items()]
    by_uid: dict[str, Found] = {}
    for one in sorted(found, key=lambda each: (not each.finished, each.name)):
        by_uid.setdefault(one.uid, one)
    return tuple(Seen(one, _judge(one, boot)) for one in by_uid.values())


def _gather(lines: list[str]) -> Iterator[Found]:
    by_name: dict[str, Found] = {}
    for line in lines:
        kind, _, rest = line.partition(" ")
        name, _, value = rest.partition(" ")
        found = by_name.setdefault(name, Found(name))
        match kind:
            case "marker":
                found.labels = _labels(decoded(value), name)
            case "run":
                _read_run(found, decoded(value))
            case "stat":
                found.stat = value
            case "exit":
                found.exit_status = value if re.fullmatch(r"\d{1,3}", value) else "1"
            case "artifact":
                found.artifacts.append(value)
            case "gone":
                found.gone.append(value)
            case "log":
                found.log.append(value)
            case "manifest":
                found.manifest = value
    yield from by_name.values()


def _labels(document: Mapping[str, Any], name: str) -> Mapping[str, str]:
    """Return the labels of a marker or a record, none unless they are whole and fit the name."""
    labels, matched = document.get("labels"), _NAME.fullmatch(name)
    if not isinstance(labels, dict) or matched is None:
        return {}
    if not all(isinstance(value, str) and is_label_value(value) for value in labels.values()):
        return {}
    return labels if labels.get(LABEL_UID, "").replace("-", "").startswith(matched[2]) else {}


def _read_run(found: Found, document: Mapping[str, Any]) -> None:
    start, boot = document.get("start"), document.get("boot")
    if isinstance(start, int) and isinstance(boot, str):
        found.run, found.start, found.boot = _labels(document, found.name), start, boot


def _judge(found: Found, boot: str) -> Observation:
    alive = found.alive(boot) and not found.exit_status
    state, message = _state(found, boot, alive=alive)
    labels = found.run if found.run is not None else found.labels
    return Observation(
        uid=found.uid,
        state=state,
        spec_hash=labels.get(LABEL_SPEC_HASH, ""),
        resources=tuple(_resources(found, alive=alive)),
        labels=found.labels,
        message=message,
        manifest=found.manifest,
    )


def _state(  # noqa: PLR0911 - a table, one return a row
    found: Found, boot: str, *, alive: bool
) -> tuple[State, str]:
    if not found.finished:
        return "Incomplete", "The directory of the build was not finished, or its removal was not."
    if found.run is None:
        return "Incomplete", "The build was not started."
    if alive:
        return "Starting", build_log.progress(found.log).message
    if found.failed:
        # NOTE: not Stopped: that would be repaired, so built again and again.
        return "Starting", _failure(found)
    if not found.exit_status:
        cause = "the machine was started anew" if found.boot != boot else "it was killed"
        return "Stopped", f"The build did not come to its end: {cause}."
    if found.gone:
        return "Incomplete", f"The artifact {build_log.plain(found.gone[0])} is gone."
    return "Running", ""


def _failure(found: Found) -> str:
    if found.exit_status == EXIT_UNRECORDED:
        return "Packer ended well, and the image could not be recorded."
    return f"Packer ended with exit status {found.exit_status}."


def _resources(found: Found, *, alive: bool) -> Iterator[ResourceSeen]:
    running = "running" if alive else "ended" if found.exit_status else "interrupted"
    state = running if found.run is not None else "present"
    detail = f"exit status {found.exit_status}" if found.failed else ""
    yield ResourceSeen(kind="build", name=found.name, state=state, detail=detail)
    gone = set(found.gone)
    groups: dict[str, list[ResourceSeen]] = defaultdict(list)
    for record in found.artifacts[:ARTIFACTS_MAX]:
        if (artifact := _artifact(record, gone)) is not None:
            groups[artifact.name].append(artifact)
    yield from (several[0] for several in groups.values())


def _artifact(record: str, gone: set[str]) -> ResourceSeen | None:
    """Return the artifact of a record `KIND BUILDER ID SHA256 BYTES PATH`, None when it is none."""
    fields = record.split(SEPARATOR)
    if len(fields) != 6:  # noqa: PLR2004 - see above
        return None
    kind, builder, id_, checksum, size, path = fields
    said = [f"builder {build_log.plain(builder, 100)}", f"id {build_log.plain(id_, 200)}"]
    if kind == "id":
        return ResourceSeen(
            kind="artifact", name=build_log.plain(id_, 200), state="made", detail=said[0]
        )
    if not re.fullmatch(r"[0-9a-f]{64}", checksum) or not re.fullmatch(r" *\d{1,18}", size):
        return None
    return ResourceSeen(
        kind="artifact",
        name=build_log.plain(path, 1000),
        state="gone" if path in gone else "present",
        detail=", ".join([*said, f"{int(size)} bytes"]),
        digest=f"sha256:{checksum}",
    )
