"""`kubectl apply --server-side`: owners, conflicts, and coming from client-side apply."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kubectl.session import Kubectl, manifest, sandbox


@pytest.fixture(autouse=True)
def _clean(kubectl: Kubectl) -> Iterator[None]:
    yield
    kubectl.ok("delete", "sbx", "--all", "--wait=false")
    kubectl.ok("wait", "--for=delete", "sbx", "--all", "--timeout=60s")


def server_side(kubectl: Kubectl, *options: str, **env: str) -> str:
    """Apply `one` with this environment on the server's side."""
    text = manifest(sandbox("one", env=env))
    return kubectl.ok("apply", "--server-side", *options, "-f", "-", stdin=text)


def owners(kubectl: Kubectl) -> dict[str, str]:
    """Return how each manager of `one` came to own fields."""
    document = kubectl.document("sbx", "one", "--show-managed-fields")
    return {entry["manager"]: entry["operation"] for entry in document["metadata"]["managedFields"]}


def test_an_apply_twice_is_a_no_op(kubectl: Kubectl) -> None:
    """The second one changes neither version nor generation."""
    assert server_side(kubectl, A="1") == "sandbox.sandboxer.dev/one serverside-applied\n"
    kubectl.ok("wait", "--for=condition=Ready", "sbx/one", "--timeout=60s")
    before = kubectl.document("sbx", "one")["metadata"]["resourceVersion"]

    server_side(kubectl, A="1")

    assert kubectl.document("sbx", "one")["metadata"]["resourceVersion"] == before
    assert owners(kubectl) == {"kubectl": "Apply"}


def test_a_conflict_names_field_and_manager(kubectl: Kubectl) -> None:
    """What another has set is not overwritten unless forced."""
    server_side(kubectl, A="1")
    server_side(kubectl, "--field-manager=robot", "--force-conflicts", A="2")

    text = manifest(sandbox("one", env={"A": "3"}))
    said = kubectl.fails("apply", "--server-side", "-f", "-", stdin=text)

    assert 'conflict with "robot": .spec.env.A' in said
    assert "--force-conflicts" in said
    assert kubectl.document("sbx", "one")["spec"]["env"] == {"A": "2"}
    server_side(kubectl, "--force-conflicts", A="3")
    assert kubectl.document("sbx", "one")["spec"]["env"] == {"A": "3"}


def test_managers_share_an_object_field_by_field(kubectl: Kubectl) -> None:
    """Two managers keep their own entries of one map, and drop only their own."""
    server_side(kubectl, A="1")
    extra = manifest(sandbox("one", env={"B": "2"}))
    kubectl.ok("apply", "--server-side", "--field-manager=robot", "-f", "-", stdin=extra)

    server_side(kubectl)

    assert kubectl.document("sbx", "one")["spec"]["env"] == {"B": "2"}
    assert owners(kubectl) == {"kubectl": "Apply", "robot": "Apply"}


def test_coming_from_client_side_apply(kubectl: Kubectl) -> None:
    """
    The owner `kubectl-client-side-apply` is given up without a conflict.

    Trap 13: kubectl follows up with an apply by `kubectl-last-applied` whose body has annotations
    alone. Trap 14: before, it moves ownership with a JSON patch of managedFields and
    resourceVersion.
    """
    kubectl.apply(sandbox("one", env={"A": "1", "B": "2"}))

    text = manifest(sandbox("one", env={"A": "changed"}))
    done = kubectl.run("apply", "--server-side", "-v=7", "-f", "-", stdin=text)

    assert done.status == 0, done
    assert "Warning" not in done.stderr
    assert "fieldManager=kubectl-last-applied" in done.stderr
    assert "application/json-patch+json" in done.stderr
    document = kubectl.document("sbx", "one", "--show-managed-fields")
    assert document["spec"]["env"] == {"A": "changed"}
    assert "kubectl-client-side-apply" not in owners(kubectl)
    assert "changed" in kubectl.ok("apply", "view-last-applied", "sbx/one")


def test_owners_are_shown_when_asked_for(kubectl: Kubectl) -> None:
    """They are hidden from people and shown with the option."""
    server_side(kubectl, A="1")

    assert "managedFields" not in kubectl.ok("get", "sbx", "one", "-o", "yaml")
    assert "f:A: {}" in kubectl.ok("get", "sbx", "one", "-o", "yaml", "--show-managed-fields")


def test_status_is_applied_through_its_subresource(kubectl: Kubectl) -> None:
    """`--subresource=status` writes status and leaves spec alone, and the other way round."""
    server_side(kubectl, A="1")
    kubectl.ok("wait", "--for=condition=Ready", "sbx/one", "--timeout=60s")
    wanted = {
        "apiVersion": "sandboxer.dev/v1alpha1", "kind": "Sandbox", "metadata": {"name": "one"},
        "status": {"placementReason": "by hand"},
    }  # fmt: skip

    options = ("--server-side", "--subresource=status", "--field-manager=hand")
    said = kubectl.ok(
        "apply", *options, "-o", "jsonpath={.status.placementReason}", "-f", "-",
        stdin=manifest(wanted),
    )  # fmt: skip

    assert said == "by hand"
    assert kubectl.document("sbx", "one")["spec"]["env"] == {"A": "1"}
