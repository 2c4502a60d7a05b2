"""`kubectl apply --prune`: what is no longer applied goes, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kubectl.session import Kubectl, manifest, sandbox

LABELS = {"team": "red"}
ALLOW = "--prune-allowlist=sandboxer.dev/v1alpha1/Sandbox"


@pytest.fixture(autouse=True)
def _clean(kubectl: Kubectl) -> Iterator[None]:
    yield
    kubectl.ok("delete", "sbx,secrets", "--all")


def names(kubectl: Kubectl) -> set[str]:
    """Return the sandboxes that are not on their way out."""
    items = kubectl.document("sbx")["items"]
    return {
        item["metadata"]["name"] for item in items if "deletionTimestamp" not in item["metadata"]
    }


def test_prune_by_label(kubectl: Kubectl) -> None:
    """Of what has the label, what is not in the manifest goes; others stay."""
    kubectl.apply(sandbox("a", labels=LABELS), sandbox("b", labels=LABELS), sandbox("other"))

    text = manifest(sandbox("a", labels=LABELS))
    said = kubectl.ok("apply", "--prune", "-l", "team=red", ALLOW, "-f", "-", stdin=text)

    assert said.splitlines() == [
        "sandbox.sandboxer.dev/a unchanged",
        "sandbox.sandboxer.dev/b pruned",
    ]
    assert names(kubectl) == {"a", "other"}


def test_prune_leaves_what_was_not_applied(kubectl: Kubectl) -> None:
    """An object somebody created has the label, but never was part of an apply."""
    kubectl.apply(sandbox("a", labels=LABELS))
    kubectl.ok("create", "-f", "-", stdin=manifest(sandbox("made", labels=LABELS)))

    text = manifest(sandbox("a", labels=LABELS))
    kubectl.ok("apply", "--prune", "-l", "team=red", ALLOW, "-f", "-", stdin=text)

    assert names(kubectl) == {"a", "made"}


def test_prune_by_apply_set(kubectl: Kubectl) -> None:
    """A Secret without data remembers the set, and members that are not applied again go."""

    def apply(*documents: str) -> str:
        text = manifest(*[sandbox(name) for name in documents])
        options = ("-n", kubectl.namespace, "--prune", "--applyset=team-red", "-f", "-")
        return kubectl.ok("apply", *options, stdin=text, KUBECTL_APPLYSET="true")

    apply("a", "b")
    kubectl.apply(sandbox("other"))
    parent = kubectl.document("secret", "team-red")["metadata"]

    said = apply("a")

    assert "sandbox.sandboxer.dev/b pruned" in said
    assert names(kubectl) == {"a", "other"}
    assert parent["labels"]["applyset.kubernetes.io/id"].startswith("applyset-")
    kinds = parent["annotations"]["applyset.kubernetes.io/contains-group-kinds"]
    assert kinds == "Sandbox.sandboxer.dev"
