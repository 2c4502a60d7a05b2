"""Which compose tool is used."""

from __future__ import annotations

import pytest

from sandboxer.telemetry.compose_tools import choose_compose

# What Debian's 1.0.3 prints, word for word.
OLD = (
    "/usr/bin/podman-compose ['podman', '--version', ''] using podman version: 4.3.1 "
    "podman-composer version  1.0.3 podman --version  podman version 4.3.1 exit code: 0"
)
NEW = "/opt/bin/podman-compose podman-compose version 1.6.0 podman version 4.3.1"
PLUGIN = "/usr/bin/docker Docker Compose version v2.27.0"
PYTHON = "/usr/bin/docker-compose docker-compose version 1.29.2, build unknown"


@pytest.mark.parametrize(
    ("engine", "found", "command"),
    [
        pytest.param("docker", {"docker": PLUGIN, "docker-compose": PYTHON},
                     ("/usr/bin/docker", "compose"), id="plugin-first"),
        pytest.param("docker", {"docker-compose": PYTHON, "podman-compose": NEW},
                     ("/usr/bin/docker-compose",), id="docker-engine"),
        pytest.param("podman", {"docker": PLUGIN, "podman-compose": NEW},
                     ("/opt/bin/podman-compose",), id="podman-engine"),
        pytest.param("podman", {"podman-compose": OLD, "docker-compose": PYTHON},
                     ("/usr/bin/docker-compose",), id="old-one-passed-over"),
        pytest.param("podman", {"podman": "/usr/bin/podman Docker Compose version v2.27.0"},
                     ("/usr/bin/podman", "compose"), id="podman-compose-wrapper"),
        pytest.param("podman", {"podman": "/usr/bin/podman podman-compose version 1.0.3"},
                     (), id="wrapper-of-an-old-one"),
        pytest.param("", {"podman-compose": NEW}, (), id="no-engine"),
        pytest.param("podman", {"podman-compose": "/usr/bin/podman-compose"}, (), id="no-version"),
    ],
)  # fmt: skip
def test_choice(engine: str, found: dict[str, str], command: tuple[str, ...]) -> None:
    """The first tool of the order that reaches the engine and tells the truth is taken."""
    assert choose_compose(engine, found).command == command


def test_refusal_has_a_remedy() -> None:
    """A refused tool is named with its version and the way out."""
    choice = choose_compose("podman", {"podman-compose": OLD})

    assert choice.command == ()
    assert "1.0.3" in choice.refused
    assert "pip install" in choice.refused
