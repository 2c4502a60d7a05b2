"""`kubectl auth`, namespaces, and being nobody."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.e2e.installation import Installation
from tests.kubectl.session import Kubectl, sandbox


@pytest.fixture(scope="module")
def viewer(
    kubectl: Kubectl, installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Kubectl:
    """A kubectl whose user may only look."""
    home, written = tmp_path_factory.mktemp("viewer"), installation.directory / "data/kubeconfig"
    session = Kubectl(kubectl.program, home, written, kubectl.namespace)
    file = session.home / ".kube/config"
    token = installation.ok("token", "create", "watcher", "--role=viewer").strip()
    document = yaml.safe_load(file.read_text())
    document["users"][0]["user"]["token"] = token
    file.write_text(yaml.safe_dump(document))
    return session


def test_who_i_am(kubectl: Kubectl, viewer: Kubectl) -> None:
    """`whoami` names user and groups. Trap 6: asked in protobuf."""
    assert "sandboxer:admins" in kubectl.ok("auth", "whoami")
    said = json.loads(viewer.ok("auth", "whoami", "-o", "json"))
    assert said["status"]["userInfo"]["username"] == "watcher"


@pytest.mark.parametrize(
    ("question", "admin", "viewer_may"),
    [
        (("create", "sandboxes"), "yes", "no"),
        (("delete", "sbx/one"), "yes", "no"),
        (("get", "sandboxes"), "yes", "yes"),
        (("get", "pods", "--subresource=log"), "yes", "yes"),
        (("create", "pods", "--subresource=exec"), "yes", "no"),
        (("patch", "hosts"), "yes", "no"),
        (("get", "/healthz"), "yes", "yes"),
    ],
)
def test_what_i_may(
    kubectl: Kubectl, viewer: Kubectl, question: tuple[str, ...], admin: str, viewer_may: str
) -> None:
    """`can-i` answers yes with status 0 and no with status 1."""
    for session, answer in ((kubectl, admin), (viewer, viewer_may)):
        done = session.run("auth", "can-i", *question)
        assert done.stdout.split()[0] == answer
        assert done.status == (0 if answer == "yes" else 1)


def test_all_that_i_may(kubectl: Kubectl, viewer: Kubectl) -> None:
    """`can-i --list` shows the rules."""
    assert "[*]" in kubectl.ok("auth", "can-i", "--list")
    assert "[get list watch]" in viewer.ok("auth", "can-i", "--list")


def test_a_viewer_looks_and_does_not_touch(kubectl: Kubectl, viewer: Kubectl) -> None:
    """A refusal names user, verb and resource as Kubernetes does."""
    kubectl.apply(sandbox("one"))

    assert "one" in viewer.ok("get", "sbx")
    said = viewer.fails("delete", "sbx", "one")

    assert said == (
        'Error from server (Forbidden): sandboxes.sandboxer.dev "one" is forbidden: '
        'User "watcher" cannot delete resource "sandboxes" in API group "sandboxer.dev" '
        'in the namespace "permissions"\n'
    )


def test_a_wrong_token(kubectl: Kubectl) -> None:
    """Who is not known is told to log in."""
    done = kubectl.run("--token=nobody", "get", "sbx")

    # kubectl prefers the token of the option to the one of its file.
    assert done.status == 1
    assert "You must be logged in to the server" in done.stderr


def test_an_unknown_authority(kubectl: Kubectl, tmp_path: Path) -> None:
    """A server whose certificate is not vouched for gets no token."""
    file = tmp_path / "kubeconfig"
    shutil.copy(kubectl.home / ".kube/config", file)
    document = yaml.safe_load(file.read_text())
    del document["clusters"][0]["cluster"]["certificate-authority-data"]
    file.write_text(yaml.safe_dump(document))

    assert "certificate signed by unknown authority" in kubectl.fails(
        f"--kubeconfig={file}", "get", "sbx"
    )


def test_namespaces_are_made_and_found(kubectl: Kubectl) -> None:
    """`create namespace` stores one; what is used is shown too. Trap 6: made with protobuf."""
    assert kubectl.ok("create", "namespace", "made") == "namespace/made created\n"
    assert '"made" already exists' in kubectl.fails("create", "namespace", "made")
    kubectl.apply(sandbox("one"))

    said = kubectl.ok("get", "namespaces").splitlines()

    assert said[0].split() == ["NAME", "STATUS", "AGE"]
    assert {"default", "made", kubectl.namespace} <= {line.split()[0] for line in said[1:]}
    assert kubectl.ok("delete", "namespace", "made") == 'namespace "made" deleted\n'


def test_secrets_have_no_values_here(kubectl: Kubectl) -> None:
    """A Secret with data is refused with the place where values belong."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "stringData": {"a": "b"},
    }

    said = kubectl.fails("apply", "-f", "-", stdin=yaml.safe_dump(secret))
    assert "secretRefs" in said
    said = kubectl.fails("create", "secret", "generic", "s", "--from-literal=a=b-value")
    assert "secretRefs" in said
    assert "b-value" not in said
    kubectl.ok("create", "secret", "generic", "empty")
    kubectl.ok("delete", "secret", "empty")
