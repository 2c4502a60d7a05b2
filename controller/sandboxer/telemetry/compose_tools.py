"""
Which compose tool of a host is used, and which is refused.

The order is: `docker compose`, `podman-compose`, `docker-compose`, `podman compose`. A
podman-compose before 1.6 is never used: it reports success when nothing was started and loses the
exit status of `exec` (seen with 1.0.3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

OLDEST_PODMAN_COMPOSE = (1, 6)
"""First version that was seen to tell the truth."""

REMEDY = "Install a newer one there, for example with `pip install 'podman-compose>=1.6,<2'`."

_ORDER = ("docker", "podman-compose", "docker-compose", "podman")
_SUBCOMMAND = ("docker", "podman")
_NUMBER = r"version:?\s+v?([0-9]{1,4}(?:\.[0-9]{1,4}){1,3})"
_VERSION = re.compile(_NUMBER, re.IGNORECASE)
# podman-compose tells podman's version too, 1.0.3 even before its own, and there it calls itself
# "podman-composer".
_PODMAN_COMPOSE_VERSION = re.compile(rf"podman-composer?\s+{_NUMBER}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeChoice:
    """What was chosen; fields as in `sandboxer.kinds.host.HostFacts`."""

    command: tuple[str, ...] = ()
    version: str = ""
    refused: str = ""


def choose_compose(engine: str, found: Mapping[str, str]) -> ComposeChoice:
    """
    Choose among the tools a host has.

    Args:
        engine: `docker`, `podman` or empty.
        found: By kind (`docker`, `podman-compose`, `docker-compose`, `podman`): the path of the
            program, a blank, and what its `version` printed.
    """
    refused: list[str] = []
    for kind in _ORDER:
        if not _can_reach(kind, engine) or kind not in found:
            continue
        program, _, text = found[kind].partition(" ")
        command = (program, "compose") if kind in _SUBCOMMAND else (program,)
        choice = judge_compose(command, text)
        if choice.command:
            return choice
        refused.append(choice.refused)
    return ComposeChoice(refused=" ".join(refused))


def judge_compose(command: Sequence[str], text: str) -> ComposeChoice:
    """
    Judge one compose command by what its `version` printed.

    Args:
        command: Argument list.
        text: Untrusted; `podman compose` prints the version of the tool it hands over to.
    """
    shown = " ".join(command)
    own = _PODMAN_COMPOSE_VERSION.search(text)
    match = own or _VERSION.search(text)
    if match is None:
        return ComposeChoice(refused=f"{shown} does not tell its version.")
    version = match[1]
    if own is not None and _numbers(version) < OLDEST_PODMAN_COMPOSE:
        return ComposeChoice(
            refused=f"{shown} is podman-compose {version}, which reports success when nothing "
            f"was started. {REMEDY}"
        )
    return ComposeChoice(command=tuple(command), version=version)


def _can_reach(kind: str, engine: str) -> bool:
    """
    Tell whether a tool of this kind talks to this engine.

    `docker compose` speaks to docker's daemon only. `docker-compose` can be given podman's socket.
    """
    if engine == "docker":
        return kind in ("docker", "docker-compose")
    return engine == "podman" and kind != "docker"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
