"""The profiles and the example that ship fit the kinds and the extensions they name."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from sandboxer.extension import Extension, Instance
from sandboxer.kinds.host import Host, HostFacts, HostStatus
from sandboxer.kinds.profile import Profile
from sandboxer.kinds.registration import Extension as Registration
from sandboxer.kinds.sandbox import Sandbox
from sandboxer_extensions.compose_ssh import ComposeSSHExtension
from sandboxer_extensions.compose_ssh.inputs import ComposeInputs
from sandboxer_extensions.compose_ssh.stack import build_stack

TOP = Path(__file__).parents[4]
EXAMPLE = TOP / "examples" / "02-compose"
OURS = ("profile.agent-dev", "profile.compose-e2e", "profile.sandbox-canary")
# What a user adds, where the profile alone is not enough.
ADDED = {"profile.agent-dev": {"repo": "/r"}, "profile.compose-e2e": {"repo": "/r"}}


def load(path: Path) -> Any:
    """Return the only document of a file."""
    return yaml.safe_load(path.read_text())


def backend(name: str) -> Extension:
    """Return the extension registered under *name*."""
    (found,) = entry_points(group="sandboxer.extensions", name=name)
    made: Extension = found.load()()
    return made


@pytest.mark.parametrize("name", OURS)
def test_a_profile_is_valid_and_its_file_has_its_name(name: str) -> None:
    """Each file holds the Profile of its name, with a schema that is a schema."""
    profile = Profile.parse(load(TOP / "profiles" / f"{name}.yaml"))

    assert profile.metadata.name == name
    assert profile.spec.description
    Draft202012Validator.check_schema(profile.spec.inputs_schema)


@pytest.mark.parametrize("name", OURS)
def test_each_candidate_takes_the_inputs(name: str) -> None:
    """Defaults and what a user adds pass the profile's schema and every candidate's model."""
    profile = Profile.parse(load(TOP / "profiles" / f"{name}.yaml"))

    for candidate in profile.spec.candidates:
        inputs = profile.spec.inputs | candidate.inputs | ADDED.get(name, {})
        Draft202012Validator(profile.spec.inputs_schema).validate(inputs)
        backend(candidate.extension).inputs_model(**inputs)


def test_the_canary_tries_this_machine_first() -> None:
    """The embedded default needs no host."""
    profile = Profile.parse(load(TOP / "profiles" / "profile.sandbox-canary.yaml"))

    assert [c.extension for c in profile.spec.candidates] == ["ext.local", "ext.compose-ssh"]


def test_the_registration_is_valid() -> None:
    """The Extension document names the entry point the package has."""
    registration = Registration.parse(load(TOP / "extensions" / "ext.compose-ssh.yaml"))

    assert backend(registration.spec.entry_point or "").name == registration.metadata.name


def test_the_example_is_valid_down_to_its_compose_file() -> None:
    """Host and Sandbox parse, and the repository's stack would run on a podman host."""
    host = Host.parse(load(EXAMPLE / "host.yaml"))
    sandbox = Sandbox.parse(load(EXAMPLE / "sandbox.yaml"))
    instance = Instance(
        uid="u", namespace="default", name="stack", environment="e", extension="ext.compose-ssh",
        spec_hash="h", inputs=ComposeInputs(repo=str(EXAMPLE / "repo")), env=sandbox.spec.env,
    )  # fmt: skip

    stack = build_stack(instance, work_root="/w", qualified_images=True, secrets_in_file=True)

    assert host.spec.host_key
    assert stack.services == ("web", "worker")


def offered(facts: HostFacts, **inputs: Any) -> tuple[bool, str]:
    """Return what the extension offers on a host with these facts."""
    host = Host.parse(load(EXAMPLE / "host.yaml")).model_copy(
        update={"status": HostStatus(facts=facts)}
    )
    offer = ComposeSSHExtension().offer(host, ComposeInputs(**inputs))
    return offer.fits, offer.reason


def test_a_host_is_offered_or_refused_with_its_reason() -> None:
    """Engine, tool and image name decide, each with a sentence."""
    podman = HostFacts(engine="podman", compose_command=("podman-compose",))

    assert offered(podman, image="localhost/a:1")[0]
    assert "neither podman nor docker" in offered(HostFacts(), image="localhost/a:1")[1]
    assert "compose tool" in offered(HostFacts(engine="podman"), image="localhost/a:1")[1]
    assert "docker.io/library/busybox" in offered(podman, image="busybox")[1]
    assert "docker.io/a/b" in offered(podman, compose="services: {a: {image: a/b}}")[1]
