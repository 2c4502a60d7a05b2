"""What of a compose file may run: an allow-list."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandboxer.errors import InvalidSpecError
from sandboxer.extension import Instance
from sandboxer_extensions.compose_ssh.document import read_document
from sandboxer_extensions.compose_ssh.inputs import ComposeInputs
from sandboxer_extensions.compose_ssh.policy import Checked, Policy
from sandboxer_extensions.compose_ssh.stack import Stack, build_stack

PROJECT = "/w/sbx-1/repo/deploy"


def check(text: str, **options: Any) -> Checked:
    """Check *text* as the compose file `deploy/compose.yaml` of a repository."""
    known = {"has_files": True, "qualified_images": True}
    policy = Policy(
        origin="compose.yaml", field="spec.inputs.compose_file", project_dir=PROJECT,
        repo_dir="/w/sbx-1/repo", **(known | options),
    )  # fmt: skip
    return policy.check(read_document(text, origin="compose.yaml", field="f"))


def service(body: str) -> str:
    """Return a compose file with one service of that body."""
    return f"services: {{web: {{image: localhost/a:1, {body}}}}}"


@pytest.mark.parametrize(
    "body",
    [
        "annotations: {run.oci.hooks.stdout: /etc/cron.d/x}",
        "privileged: true", "privileged: '${X:-true}'", "devices: [/dev/sda]", "cap_add: [SYS_ADMIN]",
        "pid: host", "ipc: host", "uts: host", "userns_mode: host", "cgroup: host",
        "cgroup_parent: /x", "container_name: web", "network_mode: host",
        "network_mode: 'container:other'", "network_mode: 'service:web'",
        "volumes: ['/:/host']", "volumes: ['/var/run/docker.sock:/s']", "volumes: ['../../..:/x']",
        "volumes: ['~/.ssh:/x']", "volumes: ['./a:/x:rshared']", "volumes: ['$HOME:/x']",
        "volumes: ['${X:-/}:/x']", "volumes: [{type: bind, source: /, target: /x}]",
        "volumes: [{type: bind, source: ./a, target: /x, bind: {propagation: shared}}]",
        "volumes: [{type: volume, source: /, target: /x}]",
        "volumes: [{type: npipe, source: a, target: /x}]",
        "volumes_from: [other]", "runtime: runsc", "sysctls: {net.ipv4.ip_forward: 1}",
        "security_opt: ['seccomp=unconfined']", "security_opt: ['label:disable']",
        "extra_hosts: ['host:host-gateway']", "links: [db]", "external_links: [db]",
        "env_file: /etc/shadow", "env_file: [../../../x]", "env_file: [{path: /etc/shadow}]",
        "build: ../../..", "build: 'https://example.org/x.git'", "build: 'git@example.org:x'",
        "build: {context: ., network: host}", "build: {context: ., ssh: default}",
        "build: {context: ., dockerfile: /etc/shadow}",
        "extends: {file: other.yaml, service: a}", "scale: 3", "deploy: {replicas: 2}",
        "deploy: {resources: {reservations: {devices: [{driver: nvidia}]}}}",
        "logging: {driver: syslog, options: {syslog-address: 'tcp://x'}}",
        "x-podman: {rootfs: /}", "gpus: all", "unknown_key: 1", "use_api_socket: true",
        "labels: {sandboxer.dev/uid: x}", "labels: ['sandboxer.dev/uid=x']", "post_start: [{}]",
    ],
)  # fmt: skip
def test_escapes_are_refused_by_service_and_key(body: str) -> None:
    """Each way out of the container is an invalid spec that names the service."""
    with pytest.raises(InvalidSpecError, match="web") as caught:
        check(service(body))

    assert caught.value.field == "spec.inputs.compose_file"


@pytest.mark.parametrize(
    "text",
    [
        "include: [other.yaml]\nservices: {a: {image: localhost/a:1}}",
        "x-podman: {in_pod: true}\nservices: {a: {image: localhost/a:1}}",
        "volumes: {v: {driver_opts: {type: none, device: /, o: bind}}}\nservices: {a: {image: localhost/a:1}}",
        "volumes: {v: {external: true}}\nservices: {a: {image: localhost/a:1}}",
        "volumes: {v: {name: shared}}\nservices: {a: {image: localhost/a:1}}",
        "volumes: {v: {driver: nfs}}\nservices: {a: {image: localhost/a:1}}",
        "networks: {n: {external: true}}\nservices: {a: {image: localhost/a:1}}",
        "networks: {n: {driver: macvlan}}\nservices: {a: {image: localhost/a:1}}",
        "secrets: {s: {file: /etc/shadow}}\nservices: {a: {image: localhost/a:1}}",
        "secrets: {s: {environment: HOME}}\nservices: {a: {image: localhost/a:1}}",
        "configs: {c: {external: true}}\nservices: {a: {image: localhost/a:1}}",
        "services: {}",
        "services: []",
        "services: {a: {}}",
        "services: {'a b': {image: localhost/a:1}}",
        "services: {'-a': {image: localhost/a:1}}",
        "services: {'a,b': {image: localhost/a:1}}",
        "models: {}\nservices: {a: {image: localhost/a:1}}",
    ],
)
def test_files_that_reach_outside_are_refused(text: str) -> None:
    """Top-level keys that share, include or mount are invalid specs."""
    with pytest.raises(InvalidSpecError):
        check(text)


def test_relative_paths_become_absolute_and_are_looked_at() -> None:
    """Paths start from the compose file's directory, and the host is told to check them."""
    checked = check(
        service("volumes: ['./data:/data:ro', 'named:/n', '/anonymous'], env_file: ../x.env")
    )

    web = checked.services["web"]
    assert web["volumes"] == [f"{PROJECT}/data:/data:ro", "named:/n", "/anonymous"]
    assert web["env_file"] == ["/w/sbx-1/repo/x.env"]
    assert checked.host_paths == [f"{PROJECT}/data", "/w/sbx-1/repo/x.env"]


def test_paths_need_a_repository() -> None:
    """Without a repo there is nothing a relative path could mean."""
    with pytest.raises(InvalidSpecError, match="no repo"):
        check(service("volumes: ['./data:/data']"), has_files=False)


def test_published_ports_are_left_out_and_said() -> None:
    """A fixed host port would make two sandboxes fight; the note says what to write instead."""
    checked = check(service("ports: ['8080:80']"))

    assert "ports" not in checked.services["web"]
    assert "spec.ports" in checked.notes[0]


def test_services_of_a_compose_profile_are_left_out() -> None:
    """Compose would not start them, so nobody waits for them."""
    checked = check(
        "services: {a: {image: localhost/a:1}, b: {image: localhost/b:1, profiles: [debug]}}"
    )

    assert list(checked.services) == ["a"]


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("busybox", "docker.io/library/busybox"),
        ("busybox:1", "docker.io/library/busybox:1"),
        ("group/tool:2", "docker.io/group/tool:2"),
    ],
)
def test_short_image_names_are_refused_on_podman_only(image: str, full: str) -> None:
    """Podman guesses no registry: the message has the full name; docker takes the short one."""
    text = f"services: {{a: {{image: '{image}'}}}}"

    with pytest.raises(InvalidSpecError) as caught:
        check(text)

    assert full in str(caught.value)
    assert check(text, qualified_images=False).services["a"]["image"] == image


@pytest.mark.parametrize("image", ["localhost/a:1", "r.example.org/a", "r:5000/a@sha256:ab"])
def test_full_image_names_pass(image: str) -> None:
    """A first part with a dot, a port, or localhost is a registry."""
    assert check(f"services: {{a: {{image: '{image}'}}}}").services["a"]["image"] == image


_KEYS = st.sampled_from([
    "build", "configs", "depends_on", "deploy", "driver", "env_file", "environment", "extends",
    "image", "labels", "logging", "networks", "ports", "profiles", "resources", "scale", "secrets",
    "security_opt", "services", "source", "type", "volumes", "file", "limits", "web", "context",
])  # fmt: skip
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "./a", "/", "bind", "volume"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(service_body=st.dictionaries(_KEYS, _VALUES), rest=st.dictionaries(_KEYS, _VALUES))
@settings(max_examples=300)
def test_values_of_any_type_are_taken_or_refused(
    service_body: dict[str, Any], rest: dict[str, Any]
) -> None:
    """Whatever stands where, the outcome is a document or InvalidSpecError, never a crash."""
    body = {"image": "localhost/a:1", **service_body}
    text = json.dumps({**rest, "services": {"web": body}})
    try:
        built = stack_of(text)
    except InvalidSpecError:
        return
    assert json.loads(built.files["compose.yaml"])["services"].keys() == set(built.services)


def stack_of(text: str) -> Stack:
    """Build the whole stack of a compose text, so that what follows the policy is met too."""
    instance = Instance(
        uid="u", namespace="default", name="n", environment="e", extension="ext.compose-ssh",
        spec_hash="h", inputs=ComposeInputs(compose=text), env={"A": "1"},
    )  # fmt: skip
    return build_stack(instance, work_root="/w", qualified_images=True, secrets_in_file=True)
