"""How each compose tool is called."""

from __future__ import annotations

import pytest

from sandboxer.errors import TerminalError
from sandboxer.kinds.host import HostFacts
from sandboxer_extensions.compose_ssh.dialects import dialect_of, up_command


@pytest.mark.parametrize(
    ("command", "version", "name"),
    [
        (("docker", "compose"), "2.29", "docker compose"),
        (("/usr/bin/docker-compose",), "1.29.2", "docker-compose"),
        (("podman", "compose"), "docker-compose 2.29", "podman compose"),
        (("podman", "compose"), "podman-compose version 1.6.0", "podman-compose"),
        (("podman-compose",), "1.6.0", "podman-compose"),
        (("/opt/x/podman-compose",), "", "podman-compose"),
        (("/usr/local/bin/rs-podman-compose16",), "", "podman-compose"),
        (("/usr/local/bin/pc",), "podman-compose version 1.6.0", "podman-compose"),
        (("/usr/local/bin/dc",), "", "docker compose"),
    ],
)
def test_the_command_tells_the_dialect(command: tuple[str, ...], version: str, name: str) -> None:
    """Program, words and version decide, whatever directory the program lies in."""
    facts = HostFacts(compose_command=command, compose_version=version, engine="docker")

    assert dialect_of(facts).name == name


def test_a_host_without_a_tool_says_why_and_what_to_install() -> None:
    """The refusal of the probe is in the message, the remedy names a tool."""
    facts = HostFacts(hostname="h1", compose_refused="podman-compose 1.0.3 hides failures.")

    with pytest.raises(TerminalError, match=r"1\.0\.3") as caught:
        dialect_of(facts)

    assert "podman-compose 1.6" in caught.value.remedy


def test_podman_compose_makes_no_pod_and_shows_no_secret() -> None:
    """The pod would carry no label; secrets are handed over as a file."""
    facts = HostFacts(compose_command=("podman-compose",), engine="podman")

    command = up_command(
        facts, project="sbx-1", workspace="/w/sbx-1", stop_grace_s=0, build=False, secrets=True
    )

    assert command == [
        "podman-compose", "--in-pod", "false", "--podman-run-args=--env-file=/w/sbx-1/secrets.env",
        "-f", "/w/sbx-1/compose.yaml", "-p", "sbx-1", "up", "-d", "-t", "0",
    ]  # fmt: skip


def test_docker_tools_are_shown_the_socket() -> None:
    """docker-compose finds podman only by DOCKER_HOST."""
    facts = HostFacts(
        compose_command=("docker-compose",), engine="podman", engine_socket="/run/p.sock"
    )

    command = up_command(
        facts, project="p", workspace="/w", stop_grace_s=3, build=True, secrets=False
    )

    assert command[:3] == ["env", "DOCKER_HOST=unix:///run/p.sock", "docker-compose"]
    assert command[-5:] == ["up", "-d", "--build", "-t", "3"]
