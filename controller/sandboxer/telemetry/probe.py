"""
Ask a machine what it is and what it is doing: one POSIX `sh` script each, one round trip each.

Nothing is installed on the machine, and nothing but a shell is needed there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

from sandboxer.errors import TerminalError, TransientError
from sandboxer.kinds.host import Host, HostFacts, HostLoad
from sandboxer.telemetry.answer import MAX_ANSWER_BYTES, Answer, garbage, read_answer
from sandboxer.telemetry.compose_tools import ComposeChoice, choose_compose, judge_compose
from sandboxer.transport.link import Link

# Seconds. The pulse reads four files; the facts ask engines and compose tools, each of which may
# take its full 10 s on a machine that is in trouble.
PULSE_TIMEOUT_S = 15.0
FACTS_TIMEOUT_S = 90.0

_PULSE_NUMBERS = ("memory_available_bytes", "disk_total_bytes", "disk_free_bytes")
_PULSE_STORE = ("store_disk_total_bytes", "store_disk_free_bytes")
_FACTS_REQUIRED = (
    "boot_id", "hostname", "os", "kernel", "architecture", "user", "uid", "home", "cpus",
    "memory_bytes", "systemd",
)  # fmt: skip
_FACTS_OPTIONAL = (
    "tool.", "compose.", "work_root", "work_root_error", "engine", "engine_version",
    "engine_store", "engine_socket",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """What a machine is doing, and which boot it is in."""

    boot_id: str
    load: HostLoad


async def read_pulse(link: Link, work_root: str, engine_store: str = "") -> Pulse:
    """
    Return the machine's load and the state of its disks.

    Args:
        link: The machine.
        work_root: Whose disk is asked about; that of `/` while it does not exist.
        engine_store: Whose disk is asked about besides; empty for none.

    Raises:
        UnreachableError: It does not answer.
        TransientError: Its answer cannot be read.
    """
    directories = (work_root or "/", engine_store)
    output = await _run_script(link, "pulse.sh", *directories, timeout_s=PULSE_TIMEOUT_S)
    return parse_pulse(link.host, output)


async def read_facts(link: Link, host: Host, override: tuple[str, ...] | None) -> HostFacts:
    """
    Return what the machine is, and make its work root.

    Args:
        link: The machine.
        host: Its document; `spec.workRoot` and `spec.composeCommand` count.
        override: Compose command of this process's settings; `spec.composeCommand` goes over it.

    Raises:
        UnreachableError: It does not answer.
        TransientError: Its answer cannot be read.
        TerminalError: The work root cannot be used.
    """
    # A podman-compose installed beside sandboxer (extra `compose`) is not always on the PATH.
    own_programs = str(Path(sys.executable).parent) if host.spec.transport == "local" else ""
    output = await _run_script(
        link, "facts.sh", host.spec.work_root or "", own_programs, timeout_s=FACTS_TIMEOUT_S
    )
    wanted = host.spec.compose_command or override
    choice = await _ask_compose(link, wanted) if wanted else None
    return parse_facts(link.host, output, compose=choice)


def parse_pulse(host: str, output: bytes) -> Pulse:
    """
    Read the output of `pulse.sh`.

    Raises:
        TransientError: It is not such an output.
    """
    answer = read_answer(
        host,
        output,
        marker="sandboxer-pulse/1",
        required=("boot_id", "load1", "uptime_s", *_PULSE_NUMBERS),
        optional=_PULSE_STORE,
    )
    told = [*_PULSE_NUMBERS, *(key for key in _PULSE_STORE if answer.text(key))]
    numbers = {key: answer.integer(key) for key in told}
    load = HostLoad(load1=answer.decimal("load1"), uptime_s=answer.decimal("uptime_s"), **numbers)
    return Pulse(boot_id=answer.text("boot_id"), load=load)


def parse_facts(host: str, output: bytes, *, compose: ComposeChoice | None = None) -> HostFacts:
    """
    Read the output of `facts.sh`.

    Args:
        host: Name of the Host, for messages.
        output: What the script printed.
        compose: The compose command somebody decided on; None means that the best one is chosen.

    Raises:
        TransientError: It is not such an output.
        TerminalError: The machine says why its work root cannot be used.
    """
    answer = read_answer(
        host,
        output,
        marker="sandboxer-facts/1",
        required=_FACTS_REQUIRED,
        optional=_FACTS_OPTIONAL,
    )
    engine = _engine(host, answer)
    choice = compose or choose_compose(engine, answer.group("compose."))
    return HostFacts(
        boot_id=answer.text("boot_id"),
        hostname=answer.text("hostname"),
        os=answer.text("os"),
        kernel=answer.text("kernel"),
        architecture=answer.text("architecture"),
        user=answer.text("user"),
        uid=answer.integer("uid"),
        home=answer.text("home"),
        cpus=answer.integer("cpus"),
        memory_bytes=answer.integer("memory_bytes"),
        work_root=_work_root(host, answer),
        engine=engine,
        engine_version=answer.text("engine_version"),
        engine_store=_absolute(host, answer, "engine_store"),
        engine_socket=_absolute(host, answer, "engine_socket"),
        compose_command=choice.command,
        compose_version=choice.version,
        compose_refused=choice.refused,
        systemd=answer.text("systemd") == "1",
        tools=answer.group("tool."),
    )


def _engine(host: str, answer: Answer) -> Literal["", "docker", "podman"]:
    match answer.text("engine"):
        case "docker":
            return "docker"
        case "podman":
            return "podman"
        case "":
            return ""
        case other:
            raise garbage(host, f"engine is {other[:60]!r}")


def _work_root(host: str, answer: Answer) -> str:
    if reason := answer.text("work_root_error"):
        raise TerminalError(
            f"The work root of host {host} cannot be used: {reason}.",
            reason="WorkRootUnusable",
            remedy="Set spec.workRoot to a directory the account may make and own.",
        )
    path = _absolute(host, answer, "work_root")
    if len(path) < len("/x"):
        raise garbage(host, "work_root is not a directory of its own")
    return path


def _absolute(host: str, answer: Answer, key: str) -> str:
    path = answer.text(key)
    if path and (not path.startswith("/") or {".", ".."} & set(path.split("/"))):
        raise garbage(host, f"{key} is {path[:60]!r}, not an absolute path")
    return path


async def _ask_compose(link: Link, command: tuple[str, ...]) -> ComposeChoice:
    done = await link.run(
        [*command, "version"], stdin=b"", timeout_s=30.0, max_output_bytes=MAX_ANSWER_BYTES
    )
    if done.exit_status:
        return ComposeChoice(
            refused=f"The configured {' '.join(command)} cannot be run: {done.error_text(200)}"
        )
    return judge_compose(command, done.stdout.decode("utf-8", "replace"))


async def _run_script(link: Link, name: str, *arguments: str, timeout_s: float) -> bytes:
    done = await link.run(
        ["sh", "-c", _script(name), "sh", *arguments],
        stdin=b"",
        timeout_s=timeout_s,
        max_output_bytes=MAX_ANSWER_BYTES,
    )
    if done.exit_status:
        raise TransientError(
            f"The probe of host {link.host} ended with status {done.exit_status}: "
            f"{done.error_text(200)}",
            reason="ProbeFailed",
        )
    return done.stdout


@cache
def _script(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")
