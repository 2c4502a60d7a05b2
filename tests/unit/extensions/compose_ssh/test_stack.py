"""The document that runs for one instance."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from sandboxer.errors import InvalidSpecError
from sandboxer.extension import Instance, PortLease
from sandboxer.kinds.sandbox import Resources
from sandboxer.units import CPUQuantity, Quantity
from sandboxer_extensions.compose_ssh.inputs import ComposeInputs
from sandboxer_extensions.compose_ssh.stack import Stack, build_stack

TWO = "services: {web: {image: localhost/a:1}, db: {image: localhost/b:1}}"


def stack(*, secrets_in_file: bool = True, inputs: dict[str, Any] | None = None, **fields: Any) -> Stack:  # fmt: skip
    """Build the stack of an instance."""
    instance = Instance(
        uid="01234567-89ab-cdef-0123-456789abcdef", namespace="default", name="hello",
        environment="env-1", extension="ext.compose-ssh", spec_hash="0123456789abcdef",
        inputs=ComposeInputs(**(inputs or {"image": "localhost/a:1"})), **fields,
    )  # fmt: skip
    return build_stack(
        instance, work_root="/w", qualified_images=True, secrets_in_file=secrets_in_file
    )


def document(built: Stack) -> dict[str, Any]:
    """Return the compose document of a stack."""
    decoded: dict[str, Any] = json.loads(built.files["compose.yaml"])
    return decoded


def test_everything_is_labelled_and_lasting_things_carry_no_hash() -> None:
    """Containers carry all labels; what outlives a change of the spec carries identity only."""
    built = document(stack(inputs={"compose": TWO + "\nvolumes: {v: {}}"}))

    labels = built["services"]["web"]["labels"]
    assert labels["sandboxer.dev/uid"] == "01234567-89ab-cdef-0123-456789abcdef"
    assert labels["sandboxer.dev/spec-hash"] == "0123456789abcdef"
    assert labels["sandboxer.dev/expected"] == "web,db"
    assert labels["sandboxer.dev/service"] == "web"
    for lasting in (built["networks"]["default"], built["volumes"]["v"]):
        assert lasting["labels"]["sandboxer.dev/uid"] == labels["sandboxer.dev/uid"]
        assert "sandboxer.dev/spec-hash" not in lasting["labels"]


def test_plain_environment_is_taken_literally() -> None:
    """A dollar sign is no variable, and the sandbox's value goes over the file's."""
    text = "services: {web: {image: localhost/a:1, environment: [A=old, B=kept, C]}}"

    built = document(stack(inputs={"compose": text}, env={"A": "$HOME"}))

    assert built["services"]["web"]["environment"] == {"A": "$$HOME", "B": "kept", "C": None}


def test_secrets_are_in_one_place_only() -> None:
    """In podman's file and not in the document, or in the document where no argument shows it."""
    secrets = {"T": SecretStr("hush$")}

    by_file = stack(secrets=secrets)
    by_document = stack(secrets=secrets, secrets_in_file=False)

    assert by_file.files["secrets.env"] == b"T=hush$\n"
    assert b"hush" not in by_file.files["compose.yaml"]
    assert document(by_document)["services"]["main"]["environment"] == {"T": "hush$$"}
    assert by_document.files["secrets.env"] == b""
    assert all(b"hush" not in s.files[".sandboxer.json"] for s in (by_file, by_document))


def test_a_secret_of_several_lines_is_refused_where_it_cannot_pass() -> None:
    """Podman's file knows no line breaks; the value itself is not in the message."""
    with pytest.raises(InvalidSpecError, match="line break") as caught:
        stack(secrets={"T": SecretStr("one\ntwo")})

    assert "two" not in str(caught.value)


def test_limits_go_over_those_of_the_file() -> None:
    """The sandbox's limits are said once per service, in the plain keys."""
    text = "services: {web: {image: localhost/a:1, deploy: {resources: {limits: {memory: 9g}}}}}"
    resources = Resources(cpu=CPUQuantity("500m"), memory=Quantity("64Mi"), pids=9)

    web = document(stack(inputs={"compose": text}, resources=resources))["services"]["web"]

    assert (web["cpus"], web["mem_limit"], web["pids_limit"]) == (0.5, 64 * 2**20, 9)
    assert "deploy" not in web


def test_limits_of_the_file_that_are_not_ours_stay() -> None:
    """A sandbox that limits pids only does not lift the memory limit the file has."""
    text = (
        "services: {web: {image: localhost/a:1, deploy: {resources: "
        "{limits: {memory: 64m, pids: 5}}}}}"
    )

    built = document(stack(inputs={"compose": text}, resources=Resources(pids=9)))

    web = built["services"]["web"]
    assert web["pids_limit"] == 9
    assert web["deploy"] == {"resources": {"limits": {"memory": "64m"}}}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("services: {a: [", "is not YAML", id="no-yaml"),
        pytest.param("services: {a: {image: a, privileged: true}}", "privileged", id="refused"),
    ],
)
def test_a_compose_text_no_host_would_take_is_refused_as_an_input(text: str, problem: str) -> None:
    """The manifest is refused at once, instead of waiting for a host that fits."""
    with pytest.raises(InvalidSpecError, match=problem) as caught:
        ComposeInputs(compose=text)

    assert caught.value.field == "spec.inputs.compose"


def test_ports_are_published_on_loopback() -> None:
    """A lease names its service, or there is only one."""
    lease = PortLease(name="http", container_port=80, host_port=42000, service="db")

    built = document(stack(inputs={"compose": TWO}, ports=(lease,)))

    assert built["services"]["db"]["ports"] == ["127.0.0.1:42000:80"]


@pytest.mark.parametrize("service", ["", "nobody"])
def test_a_port_of_no_service_is_refused(service: str) -> None:
    """With two services the port must name one that is there."""
    lease = PortLease(name="http", container_port=80, host_port=42000, service=service)

    with pytest.raises(InvalidSpecError, match="http") as caught:
        stack(inputs={"compose": TWO}, ports=(lease,))

    assert caught.value.field == "spec.ports"


def test_built_images_get_a_name_of_ours(tmp_path: Path) -> None:
    """A repository cannot replace an image that others on the host use."""
    (tmp_path / "compose.yaml").write_text(
        "services: {web: {build: ., image: docker.io/library/busybox:stable}}"
    )

    built = stack(inputs={"repo": str(tmp_path)})

    assert document(built)["services"]["web"]["image"] == "localhost/sbx-0123456789ab_web:built"
    assert built.builds


def test_the_first_compose_file_is_taken_and_its_directory_counts(tmp_path: Path) -> None:
    """compose.yaml goes before docker-compose.yml; a named file starts paths from its directory."""
    (tmp_path / "compose.yaml").write_text("services: {one: {image: localhost/a:1}}")
    (tmp_path / "docker-compose.yml").write_text("services: {two: {image: localhost/a:1}}")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.yaml").write_text(
        "services: {three: {image: localhost/a:1, volumes: ['./d:/d']}}"
    )

    first = stack(inputs={"repo": str(tmp_path)})
    named = stack(inputs={"repo": str(tmp_path), "compose_file": "sub/x.yaml"})

    assert first.services == ("one",)
    assert named.host_paths == ("/w/sbx-0123456789ab/repo/sub/d",)


def test_a_repository_without_a_file_becomes_a_box_around_it(tmp_path: Path) -> None:
    """With an image the copy is mounted; without one the missing file is said."""
    built = document(stack(inputs={"repo": str(tmp_path), "image": "localhost/a:1"}))

    assert built["services"]["main"]["volumes"] == ["/w/sbx-0123456789ab/repo:/workspace"]
    with pytest.raises(InvalidSpecError, match=r"compose\.yaml"):
        stack(inputs={"repo": str(tmp_path)})


@pytest.mark.parametrize("name", ["../outside.yaml", "link.yaml"])
def test_a_compose_file_outside_the_repository_is_refused(tmp_path: Path, name: str) -> None:
    """Neither dots nor a link lead out of it."""
    repo = tmp_path / "repo"
    repo.mkdir()
    (tmp_path / "outside.yaml").write_text(TWO)
    (repo / "link.yaml").symlink_to(tmp_path / "outside.yaml")

    with pytest.raises((InvalidSpecError, ValidationError)):
        stack(inputs={"repo": str(repo), "compose_file": name})


def test_a_command_is_split_and_not_expanded() -> None:
    """Quotes work as in a shell, dollars do not."""
    built = document(stack(inputs={"image": "localhost/a:1", "command": "sh -c 'echo $A'"}))

    assert built["services"]["main"]["command"] == ["sh", "-c", "echo $$A"]


def test_the_archive_holds_private_files_only() -> None:
    """What is sent are plain files of mode 0600 with the marker among them."""
    with tarfile.open(fileobj=io.BytesIO(stack().archive())) as archive:
        members = archive.getmembers()

    files = {".sandboxer.json", "manifest.json", "compose.yaml", "secrets.env"}
    assert {m.name for m in members} == files
    assert {m.mode for m in members} == {0o600}
    assert all(m.isfile() for m in members)


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"compose": TWO, "image": "localhost/a:1"},
        {"compose": TWO, "repo": "/r"},
        {"image": "localhost/a:1", "compose_file": "compose.yaml"},
        {"image": "-v"},
        {"repo": "relative"},
        {"repo": "/r", "compose_file": "/etc/passwd"},
        {"image": "localhost/a:1", "stop_grace_s": -1},
        {"image": "localhost/a:1", "unknown": "x"},
    ],
)
def test_inputs_that_make_no_sense_are_refused(inputs: dict[str, Any]) -> None:
    """Exactly one source, paths of the right form, nothing unknown."""
    with pytest.raises(ValidationError):
        ComposeInputs(**inputs)
