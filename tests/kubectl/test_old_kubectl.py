"""kubectl 1.20, the oldest one that Debian still ships: what it can do, and how the rest fails."""

from __future__ import annotations

import pytest

from tests.e2e.installation import Installation
from tests.kubectl.session import Kubectl, manifest, sandbox, until
from tests.rig.kubectl import old_kubectl_program


@pytest.fixture(scope="module")
def old(
    kubectl: Kubectl, installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Kubectl:
    """The old program in the file's namespace, with a sandbox that is ready."""
    home, kubeconfig = tmp_path_factory.mktemp("old"), installation.directory / "data/kubeconfig"
    session = Kubectl(old_kubectl_program(), home, kubeconfig, kubectl.namespace)
    assert '"v1.20.' in session.ok("version", "-o", "json")
    session.apply(sandbox("one"))
    session.ok("wait", "--for=condition=Ready", "sbx/one", "--timeout=60s")
    return session


def test_it_looks(old: Kubectl) -> None:
    """Legacy discovery, tables, pages, describe, events and logs."""
    assert "sandboxes" in old.ok("api-resources")
    assert "Ready" in old.ok("get", "sbx", "-o", "wide", "--chunk-size=1")
    assert "It is placed" in old.ok("describe", "sbx", "one")
    assert "sandbox/one" in old.ok("get", "events")
    # Other tests of this file have it started anew.
    until(lambda: set(old.ok("logs", "one").splitlines()) == {"first"})
    assert old.ok("auth", "can-i", "create", "sandboxes") == "yes\n"


def test_it_changes(old: Kubectl) -> None:
    """Apply on both sides, label, patch, edit, replace, scale and delete."""
    changed = manifest(sandbox("one", env={"A": "1"}))

    assert "unchanged" in old.apply(sandbox("one"))
    assert "configured" in old.ok("apply", "-f", "-", stdin=changed)
    assert "serverside-applied" in old.ok("apply", "--server-side", "-f", "-", stdin=changed)
    old.ok("label", "sbx", "one", "a=b")
    old.ok("patch", "sbx", "one", "--type=merge", "-p", '{"spec":{"env":{"A":"2"}}}')
    old.ok("edit", "sbx", "one", KUBE_EDITOR="sed -i s/Repair/Report/")
    assert old.document("sbx", "one")["spec"]["driftPolicy"] == "Report"
    old.ok("replace", "-f", "-", stdin=manifest(sandbox("one")))
    old.ok("create", "namespace", "old-made")
    old.ok("delete", "namespace", "old-made")
    old.apply(sandbox("two"))
    assert old.ok("delete", "sbx", "two") == 'sandbox.sandboxer.dev "two" deleted\n'


def test_it_watches(old: Kubectl) -> None:
    """`get -w` goes on."""
    with old.start("get", "sbx", "one", "-w", "--show-labels") as watching:
        watching.until("one ")
        steps = iter(range(1000))
        until(
            lambda: (
                old.ok("label", "sbx", "one", f"try={next(steps)}", "--overwrite")
                and "try=" in watching.said
            )
        )


def test_what_it_cannot_do(old: Kubectl) -> None:
    """It wants all schemas in version 2, and SPDY; docs/kubectl.md says so."""
    text = manifest(sandbox("one", env={"A": "3"}))

    assert "doesn't support dry-run" in old.fails("diff", "-f", "-", status=2, stdin=text)
    assert "doesn't support dry-run" in old.fails("delete", "sbx", "one", "--dry-run=server")
    assert "couldn't find resource" in old.fails("explain", "sandbox")
    assert "use kubectl 1.31 or newer" in old.fails("exec", "one", "--", "true")
    assert "unknown command" in old.fails("auth", "whoami")
    assert old.document("sbx", "one")["spec"].get("env") != {"A": "3"}
