"""
One table of what differs between compose tools.

Everything else is kept out of their hands: containers of an older spec are removed, and everything
is observed and torn down, by label through the engine (`scripts`, `inventory`).
"""

from __future__ import annotations

from dataclasses import dataclass

from sandboxer.errors import TerminalError
from sandboxer.kinds.host import HostFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one compose tool is called."""

    name: str
    project_arguments: tuple[str, ...] = ()
    """Arguments before the command, besides files and project name."""
    secrets_in_file: bool = False
    """The tool puts `environment` into the arguments of `podman create`, where every user of the
    host reads it: secrets must go through podman's own --env-file."""
    by_socket: bool = False
    """The tool speaks to the engine's socket and finds it by DOCKER_HOST."""


DIALECTS = {
    # NOTE: a pod would be made without our labels, so `teardown` could not find it.
    "podman-compose": Dialect(
        name="podman-compose", project_arguments=("--in-pod", "false"), secrets_in_file=True
    ),
    "docker-compose": Dialect(name="docker-compose", by_socket=True),
    "docker compose": Dialect(name="docker compose", by_socket=True),
    "podman compose": Dialect(name="podman compose", by_socket=True),
}
"""By the words of the command; `podman compose` hands over to one of the others."""


def dialect_of(facts: HostFacts) -> Dialect:
    """
    Return the dialect of the compose command that is used on a host.

    Raises:
        TerminalError: There is no compose tool that can be trusted.
    """
    command = facts.compose_command
    if not command:
        raise TerminalError(
            f"Host {facts.hostname or 'unknown'} has no compose tool that can be used"
            + (f": {facts.compose_refused.rstrip('.')}." if facts.compose_refused else "."),
            reason="NoCompose",
            remedy="Install docker compose v2, or podman-compose 1.6 (`pip install podman-compose`), "
            "or name one in the Host's spec.composeCommand.",
        )
    words = [word.rsplit("/", 1)[-1] for word in command]
    if words[-1] == "compose" and words[0] in {"docker", "podman"}:
        delegated = words[0] == "podman" and "podman-compose" in facts.compose_version
        return DIALECTS["podman-compose" if delegated else f"{words[0]} compose"]
    # A wrapper script may have any name; it shows in the version which tool it calls.
    for name in ("podman-compose", "docker-compose"):
        if any(name in word for word in words) or name in facts.compose_version:
            return DIALECTS[name]
    return DIALECTS["podman-compose" if facts.engine == "podman" else "docker compose"]


def up_command(
    facts: HostFacts, *, project: str, workspace: str, stop_grace_s: int, build: bool, secrets: bool
) -> list[str]:
    """Return the argument list that makes the project in *workspace* run."""
    dialect = dialect_of(facts)
    command = list(facts.compose_command)
    if dialect.by_socket and facts.engine_socket:
        command = ["env", f"DOCKER_HOST=unix://{facts.engine_socket}", *command]
    command += dialect.project_arguments
    if dialect.secrets_in_file and secrets:
        command.append(f"--podman-run-args=--env-file={workspace}/secrets.env")
    command += ["-f", f"{workspace}/compose.yaml", "-p", project, "up", "-d"]
    if build:
        command.append("--build")
    return [*command, "-t", str(stop_grace_s)]
