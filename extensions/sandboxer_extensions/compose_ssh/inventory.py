"""
Everything of ours on one host, asked from the engine by label and from the work root by marker.

What compose prints is never read. The engine's REST socket is asked where there is one, its
command otherwise; podman by its own paths, which answer twice as fast as the docker ones and say
health and exit status (measured on podman 4.3). All answers come from a machine that may lie:
they are parsed strictly, bounded, and one that does not parse is an error, never "nothing there".
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from sandboxer.errors import TerminalError, TransientError
from sandboxer.extension import LABEL_ENVIRONMENT, LABEL_UID
from sandboxer.kinds.host import HostFacts
from sandboxer.session import Engine, Session
from sandboxer_extensions.compose_ssh import scripts
from sandboxer_extensions.compose_ssh.made import Limit, Made, Record, read_made

_UID = re.compile(r"[0-9A-Za-z-]{1,64}", re.ASCII)
_DOCKER_EXIT = re.compile(r"Exited \((\d{1,3})\)", re.ASCII)
_DOCKER_HEALTH = re.compile(r"\((?:health: )?(healthy|unhealthy|starting)\)", re.ASCII)
_MAJOR_VERSION = re.compile(r"\d{1,4}(?=\.)", re.ASCII)
_PODMAN_PREFIX = "/v4.0.0/libpod"
# Containers that ended and whose memory kill is asked for in one observation.
MAX_INSPECTED = 16
# Seconds one health check may take, and seconds after which no further one is begun. Together they
# stay below the 60 a script may take: checks that hang must not make the whole host unknown.
_CHECK_LIMIT_S = 20
_CHECKS_LIMIT_S = 20
# First major version of Docker that dates a volume by its making. Before, it is dated by the last
# change of its data directory, which each write at its top is (moby issue 38274, mended by 44719).
_DOCKER_DATES_VOLUMES = 23
# Engines say "never" with a year long before the first container.
_FIRST_YEAR = 2000
# Status a process has after SIGKILL, which is what the memory limit sends.
KILLED_STATUS = 137


def _or_empty(value: Any) -> Any:
    return {} if value is None else value


_Model = TypeVar("_Model", bound=BaseModel)

Labels = Annotated[dict[str, str], BeforeValidator(_or_empty)]
Names = Annotated[list[str], BeforeValidator(lambda value: value or [])]


def _moment(value: Any) -> datetime | None:
    """Return when something ended; None for what is no time, and for the zero that means never."""
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
        else:
            moment = datetime.fromtimestamp(value, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return aware.replace(microsecond=0) if aware.year >= _FIRST_YEAR else None


# NOTE: only evidence; an engine that writes times otherwise must not make its host unknown.
Moment = Annotated[datetime | None, BeforeValidator(_moment)]


class _Answer(BaseModel):
    """Part of an engine's answer: the fields that are needed, strictly; the rest is not read."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, validate_by_name=True)


class _PodmanContainer(_Answer):
    id: str = Field(alias="Id")
    names: list[str] = Field(alias="Names", min_length=1)
    labels: Labels = Field(alias="Labels", default_factory=dict)
    state: str = Field(alias="State")
    exit_code: int = Field(alias="ExitCode")
    ended_at: Moment = Field(alias="ExitedAt", default=None)
    health: str = Field(alias="Status", default="")
    image: str = Field(alias="Image", default="")
    networks: Names = Field(alias="Networks", default_factory=list)


class _Networks(_Answer):
    networks: Annotated[dict[str, Any], BeforeValidator(_or_empty)] = Field(
        alias="Networks", default_factory=dict
    )


class _DockerContainer(_Answer):
    id: str = Field(alias="Id")
    names: list[str] = Field(alias="Names", min_length=1)
    labels: Labels = Field(alias="Labels", default_factory=dict)
    state: str = Field(alias="State")
    status: str = Field(alias="Status")
    image: str = Field(alias="Image", default="")
    network: _Networks = Field(alias="NetworkSettings", default_factory=_Networks)


class _Health(_Answer):
    status: str = Field(alias="Status", default="")


class _State(_Answer):
    status: str = Field(alias="Status")
    exit_code: int = Field(alias="ExitCode")
    oom_killed: bool = Field(alias="OOMKilled", default=False)
    ended_at: Moment = Field(alias="FinishedAt", default=None)
    health: _Health | None = Field(alias="Health", default=None)


class _Config(_Answer):
    labels: Labels = Field(alias="Labels", default_factory=dict)
    image: str = Field(alias="Image", default="")


class Limits(_Answer):
    """Limits the engine says a container has; 0 means none."""

    memory: int | None = Field(alias="Memory", default=0)
    nano_cpus: int | None = Field(alias="NanoCpus", default=0)
    cpu_quota: int | None = Field(alias="CpuQuota", default=0)
    pids: int | None = Field(alias="PidsLimit", default=0)


class _Inspected(_Answer):
    id: str = Field(alias="Id")
    name: str = Field(alias="Name")
    state: _State = Field(alias="State")
    config: _Config = Field(alias="Config")
    limits: Limits = Field(alias="HostConfig", default_factory=Limits)
    image: str = Field(alias="ImageName", default="")
    network: _Networks = Field(alias="NetworkSettings", default_factory=_Networks)


class _PodmanNetwork(_Answer):
    name: str
    labels: Labels = Field(default_factory=dict)
    made_at: Moment = Field(alias="created", default=None)


class _DockerNetwork(_Answer):
    name: str = Field(alias="Name")
    labels: Labels = Field(alias="Labels", default_factory=dict)
    made_at: Moment = Field(alias="Created", default=None)


class _Volume(_Answer):
    name: str = Field(alias="Name")
    labels: Labels = Field(alias="Labels", default_factory=dict)
    made_at: Moment = Field(alias="CreatedAt", default=None)


class _Volumes(_Answer):
    volumes: list[_Volume] | None = Field(alias="Volumes", default=None)


class _Marker(_Answer):
    labels: dict[str, str]
    expected: list[str] = Field(max_length=1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container, whichever way it was asked for."""

    id: str
    name: str
    labels: Mapping[str, str]
    state: str
    exit_code: int = 0
    health: str = ""
    """`starting`, `healthy`, `unhealthy`; empty without a check."""
    oom_killed: bool = False
    ended_at: datetime | None = None
    """By the host's clock; None when the engine was not asked or does not say."""
    memory_bytes: int = 0
    """Memory it may have; 0 when there is no limit or the engine was not asked."""
    image: str = ""
    """As the engine names it."""
    networks: tuple[str, ...] = ()
    """Names of the networks it is in, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """A network or volume."""

    kind: str
    name: str
    labels: Mapping[str, str]
    made_at: str = ""
    """By the host's clock, in whole seconds; empty where the engine does not say, or not truly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A directory with our marker."""

    name: str
    labels: Mapping[str, str]
    expected: tuple[str, ...]
    suspended: bool
    manifest: str = ""
    """Only when one uid was asked for."""
    record: Record | None = None
    """What was made; None when the record is missing or damaged."""
    before: Record | None = None
    """What was made before, while it is brought up again."""
    limits: Mapping[str, Sequence[Limit]] = field(default_factory=dict)
    """By container id, limits that are not what they were."""
    has_repo: bool = True
    """Whether the directory of the user's files is there."""


@dataclass(slots=True, kw_only=True)
class Inventory:
    """Everything that was found."""

    containers: list[Container] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)
    workspaces: list[Workspace] = field(default_factory=list)
    unmarked: frozenset[str] = frozenset()
    """Names of workspaces whose marker cannot be read; whose they are, the labels of others say."""


async def take_inventory(session: Session, *, environment: str = "", uid: str = "") -> Inventory:
    """
    Return what carries these labels; with neither of them, all of every installation.

    Raises:
        UnreachableError: The host did not answer.
        TransientError: No engine answers, or its answer could not be understood.
    """
    if uid and not _UID.fullmatch(uid):
        raise TerminalError(f"{uid[:80]!r} is not the uid of a sandbox.")
    if not session.facts.engine:
        raise TransientError(
            f"Host {session.host} has no container engine that answers.",
            reason="NoEngine",
            remedy="Install podman or docker, or start its service.",
        )
    labels = [f"{LABEL_ENVIRONMENT}={environment}"] if environment else []
    labels += [f"{LABEL_UID}={uid}"] if uid else []
    labels = labels or [LABEL_ENVIRONMENT]
    engine = session.engine()
    try:
        (containers, things), (workspaces, unmarked) = await asyncio.gather(
            _by_command(session, labels)
            if engine is None
            else _by_rest(engine, session.facts.engine, labels),
            _workspaces(session, uid),
        )
    except (ValidationError, ValueError) as error:
        problem = str(error).splitlines()[0][:200]
        raise TransientError(
            f"The container engine of host {session.host} gave an answer that cannot be read: "
            f"{problem}.",
            reason="BadAnswer",
        ) from error
    wanted = dict(label.split("=", 1) for label in labels if "=" in label)

    def ours(found: Mapping[str, str]) -> bool:
        return bool(found.get(LABEL_UID)) and all(found.get(k) == v for k, v in wanted.items())

    # NOTE: filtered again here, because engines differ in how they combine several labels.
    return Inventory(
        containers=[c for c in containers if ours(c.labels)],
        things=[t for t in with_true_times(things, session.facts) if ours(t.labels)],
        workspaces=[w for w in workspaces if ours(w.labels)],
        unmarked=unmarked,
    )


async def _by_rest(
    engine: Engine, program: str, labels: Sequence[str]
) -> tuple[list[Container], list[Thing]]:
    query = {"filters": json.dumps({"label": list(labels)})}
    if program == "podman":
        paths = ("/containers/json", "/networks/json", "/volumes/json")
        raw: Sequence[Any] = await asyncio.gather(
            engine.get(_PODMAN_PREFIX + paths[0], query={**query, "all": "true"}),
            *(engine.get(_PODMAN_PREFIX + path, query=query) for path in paths[1:]),
        )
        containers = [_from_podman(c) for c in _list_of(_PodmanContainer, raw[0])]
        networks = _things("network", _list_of(_PodmanNetwork, raw[1]))
        volumes = _things("volume", _list_of(_Volume, raw[2]))
    else:
        raw = await asyncio.gather(
            engine.get("/containers/json", query={**query, "all": "true"}),
            engine.get("/networks", query=query),
            engine.get("/volumes", query=query),
        )
        containers = [_from_docker(c) for c in _list_of(_DockerContainer, raw[0])]
        networks = _things("network", _list_of(_DockerNetwork, raw[1]))
        volumes = _things("volume", _Volumes.model_validate(raw[2]).volumes or [])
    return await _with_memory_kills(engine, containers), networks + volumes


async def _with_memory_kills(engine: Engine, containers: list[Container]) -> list[Container]:
    """Ask, for containers that were killed, whether it was for their memory."""
    killed = [c for c in containers if c.exit_code == KILLED_STATUS][:MAX_INSPECTED]
    answers = await asyncio.gather(
        *(engine.get(f"/containers/{c.id}/json") for c in killed), return_exceptions=True
    )
    better = {c.id: c for c in containers}
    for answer in answers:
        # NOTE: only evidence for a message; a container that vanished meanwhile has none.
        if not isinstance(answer, BaseException):
            inspected = _Inspected.model_validate(answer)
            better[inspected.id] = _from_inspect(inspected)
    return list(better.values())


async def _by_command(
    session: Session, labels: Sequence[str]
) -> tuple[list[Container], list[Thing]]:
    done = await session.script(scripts.INVENTORY, session.facts.engine, *labels)
    if done.exit_status:
        raise TransientError(
            f"{session.facts.engine} on host {session.host} cannot list what is there: "
            f"{done.error_text()}"
        )
    containers, networks, volumes = _documents(done.stdout.decode("utf-8", "replace"), 3)
    network_model = _PodmanNetwork if session.facts.engine == "podman" else _DockerNetwork
    return (
        [_from_inspect(c) for c in _list_of(_Inspected, containers)],
        _things("network", _list_of(network_model, networks))
        + _things("volume", _list_of(_Volume, volumes)),
    )


async def inspect_limits(session: Session, containers: Sequence[Container]) -> list[Limits]:
    """Return the limits the engine holds for each container."""
    engine = session.engine()
    try:
        if engine is not None:
            raw: Any = await asyncio.gather(
                *(engine.get(f"/containers/{c.id}/json") for c in containers)
            )
        else:
            done = await session.run([session.facts.engine, "inspect", *(c.id for c in containers)])
            raw = _documents(done.stdout.decode("utf-8", "replace") or "[]", 1)[0]
        return [inspected.limits for inspected in _list_of(_Inspected, raw)]
    except ValueError as error:
        raise TransientError(
            f"The engine of host {session.host} cannot say which limits hold."
        ) from error


async def run_health_checks(session: Session, inventory: Inventory) -> None:
    """
    Run each check once and put its result into *inventory*, where the engine does not.

    Podman's checks are timers of systemd; without it a container is `starting` for ever
    (podman issue 19326).
    """
    facts = session.facts
    checked = [c for c in inventory.containers if c.health and c.state == "running"]
    if facts.engine != "podman" or facts.systemd or not checked:
        return
    done = await session.script(
        scripts.HEALTH, facts.engine, str(_CHECK_LIMIT_S), str(_CHECKS_LIMIT_S),
        *(c.id for c in checked),
    )  # fmt: skip
    lines = done.stdout.decode("ascii", "replace").splitlines()
    result = dict(line.split(" ", 1) for line in lines if " " in line)
    inventory.containers = [
        replace(c, health=result.get(c.id, c.health)) if c.health else c
        for c in inventory.containers
    ]


async def _workspaces(session: Session, uid: str) -> tuple[list[Workspace], frozenset[str]]:
    """Return the workspaces, and the names of those whose marker cannot be read."""
    name = f"sbx-{uid.replace('-', '')[:12]}" if uid else ""
    done = await session.script(scripts.WORKSPACES, session.facts.work_root, name)
    if done.exit_status:
        raise TransientError(
            f"The work root {session.facts.work_root} of host {session.host} cannot be listed: "
            f"{done.error_text()}"
        )
    found: list[Workspace] = []
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    made = read_made(lines)
    for line in lines:
        sign, _, text = line.partition(" ")
        if sign == "=":
            found[-1:] = [replace(each, manifest=text) for each in found[-1:]]
            continue
        try:
            marker = _Marker.model_validate_json(text)
        except ValidationError:
            # NOTE: markers of other extensions lie there too; only the owner reads its own.
            continue
        owner = f"sbx-{marker.labels.get(LABEL_UID, '').replace('-', '')[:12]}"
        kept = made.get(owner, Made())
        found.append(
            Workspace(
                name=owner, labels=marker.labels, expected=tuple(marker.expected),
                suspended=sign == "-", record=kept.record, before=kept.before, limits=kept.limits,
                has_repo=kept.has_repo,
            )
        )  # fmt: skip
    return found, frozenset(made) - {workspace.name for workspace in found}


def _documents(text: str, count: int) -> list[Any]:
    """Return *count* JSON documents that stand one after the other."""
    decoder, position, documents = json.JSONDecoder(), 0, []
    for _ in range(count):
        while position < len(text) and text[position].isspace():
            position += 1
        document, position = decoder.raw_decode(text, position)
        documents.append(document)
    return documents


def _list_of(model: type[_Model], raw: Any) -> list[_Model]:
    if not isinstance(raw, list | None):
        msg = "a list was expected"
        raise ValueError(msg)  # noqa: TRY004 - same class as pydantic's own
    return [model.model_validate(entry) for entry in raw or []]


def _from_podman(found: _PodmanContainer) -> Container:
    return Container(
        id=found.id, name=_word(found.names[0]), labels=found.labels, state=_word(found.state),
        exit_code=found.exit_code, health=_word(found.health), ended_at=found.ended_at,
        image=_text(found.image), networks=_networks(found.networks),
    )  # fmt: skip


def _from_docker(found: _DockerContainer) -> Container:
    ended, health = _DOCKER_EXIT.search(found.status), _DOCKER_HEALTH.search(found.status)
    return Container(
        id=found.id, name=_word(found.names[0]), labels=found.labels, state=_word(found.state),
        exit_code=int(ended[1]) if ended else 0, health=health[1] if health else "",
        image=_text(found.image), networks=_networks(found.network.networks),
    )  # fmt: skip


def _from_inspect(found: _Inspected) -> Container:
    state = found.state
    return Container(
        id=found.id, name=_word(found.name), labels=found.config.labels, state=_word(state.status),
        exit_code=state.exit_code, oom_killed=state.oom_killed,
        health=_word(state.health.status) if state.health else "",
        ended_at=state.ended_at, memory_bytes=found.limits.memory or 0,
        image=_text(found.image or found.config.image),
        networks=_networks(found.network.networks),
    )  # fmt: skip


def _things(kind: str, found: Sequence[_PodmanNetwork | _DockerNetwork | _Volume]) -> list[Thing]:
    return [
        Thing(kind=kind, name=_word(t.name), labels=t.labels, made_at=_moment_text(t.made_at))
        for t in found
    ]


def with_true_times(things: Sequence[Thing], facts: HostFacts) -> Sequence[Thing]:
    """Return networks and volumes, without a time that is not the one they were made at."""
    version = _MAJOR_VERSION.match(facts.engine_version)
    if facts.engine != "docker" or (version and int(version[0]) >= _DOCKER_DATES_VOLUMES):
        return things
    return [replace(t, made_at="") if t.kind == "volume" else t for t in things]


def _moment_text(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""


def _networks(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(word for name in names if (word := _word(name))))


def _text(value: str) -> str:
    """Return a name of an image without what a terminal would obey."""
    return "".join(c for c in value[:256] if c.isprintable())


def _word(text: str) -> str:
    """Return the engine's word without what it may not contain; `none` and nothing are empty."""
    clean = re.sub(r"[^A-Za-z0-9_.:-]", "", text.lstrip("/"))[:128]
    return "" if clean == "none" else clean
