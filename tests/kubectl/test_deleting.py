"""`kubectl delete`: waiting, rehearsing, and what becomes of what an object owns."""

from __future__ import annotations

import pytest

from tests.kubectl.session import Kubectl, pool, sandbox, until


def test_a_rehearsal_deletes_nothing(kubectl: Kubectl) -> None:
    """Trap 1: kubectl puts dryRun into the body of the DELETE."""
    kubectl.apply(sandbox("kept"))

    said = kubectl.ok("delete", "sbx", "kept", "--dry-run=server")

    assert said == 'sandbox.sandboxer.dev "kept" deleted (server dry run)\n'
    assert "dry run" in kubectl.ok("delete", "sbx", "kept", "--dry-run=client")
    assert "deletionTimestamp" not in kubectl.document("sbx", "kept")["metadata"]


def test_a_delete_waits_for_the_end(kubectl: Kubectl) -> None:
    """When kubectl returns, the sandbox is taken down and its object gone."""
    kubectl.apply(sandbox("gone"))
    kubectl.ok("wait", "--for=condition=Ready", "sbx/gone", "--timeout=60s")

    assert kubectl.ok("delete", "sbx", "gone") == 'sandbox.sandboxer.dev "gone" deleted\n'

    assert "NotFound" in kubectl.fails("get", "sbx", "gone")
    assert 'sandboxes.sandboxer.dev "gone" not found' in kubectl.fails("delete", "sbx", "gone")
    assert kubectl.ok("delete", "sbx", "gone", "--ignore-not-found") == ""


def test_a_delete_that_does_not_wait(kubectl: Kubectl) -> None:
    """`--wait=false` returns while the sandbox is taken down."""
    kubectl.apply(sandbox("later"))

    kubectl.ok("delete", "sbx", "later", "--wait=false")

    kubectl.ok("wait", "--for=delete", "sbx/later", "--timeout=60s")


def test_a_finalizer_holds_the_object(kubectl: Kubectl) -> None:
    """It is shown as going until the last finalizer is removed, and none may be added then."""
    kubectl.apply(sandbox("held"))
    kubectl.ok("wait", "--for=condition=Ready", "sbx/held", "--timeout=60s")
    hold = '[{"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/hold"}]'
    kubectl.ok("patch", "sbx", "held", "--type=json", "-p", hold)
    kubectl.ok("delete", "sbx", "held", "--wait=false")
    until(lambda: finalizers(kubectl, "held") == ["example.com/hold"])

    more = '{"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}'
    said = kubectl.fails("patch", "sbx", "held", "--type=merge", "-p", more)
    assert "metadata.finalizers: Forbidden" in said

    kubectl.ok("patch", "sbx", "held", "--type=merge", "-p", '{"metadata": {"finalizers": []}}')
    kubectl.ok("wait", "--for=delete", "sbx/held", "--timeout=30s")


def finalizers(kubectl: Kubectl, name: str) -> list[str]:
    """Return what holds a sandbox."""
    found: list[str] = kubectl.document("sbx", name)["metadata"]["finalizers"]
    return found


def test_many_at_once(kubectl: Kubectl) -> None:
    """By label, and all of them."""
    kubectl.apply(sandbox("a", labels={"x": "1"}), sandbox("b", labels={"x": "1"}), sandbox("c"))

    assert kubectl.ok("delete", "sbx", "-l", "x=1").count(" deleted") == 2
    assert 'sandbox.sandboxer.dev "c" deleted' in kubectl.ok("delete", "sbx", "--all")


@pytest.mark.parametrize("cascade", ["background", "foreground"])
def test_a_pool_takes_its_sandboxes_along(kubectl: Kubectl, cascade: str) -> None:
    """Both policies end with nothing; in the foreground the pool waits for its sandboxes."""
    filled(kubectl, cascade)

    kubectl.ok("delete", "sbxpool", cascade, f"--cascade={cascade}")

    if cascade == "foreground":
        assert members(kubectl, cascade) == set()
    until(lambda: not members(kubectl, cascade))


def test_a_pool_leaves_its_sandboxes_behind(kubectl: Kubectl) -> None:
    """`--cascade=orphan` frees them."""
    before = filled(kubectl, "orphan")

    kubectl.ok("delete", "sbxpool", "orphan", "--cascade=orphan")

    assert members(kubectl, "orphan") == before
    for name in before:
        assert "ownerReferences" not in kubectl.document("sbx", name)["metadata"]


def filled(kubectl: Kubectl, name: str) -> set[str]:
    """Make a pool of two and return its members."""
    kubectl.apply(pool(name, 2))
    kubectl.ok("wait", "--for=condition=Ready", f"sbxpool/{name}", "--timeout=60s")
    found = members(kubectl, name)
    assert len(found) == 2
    return found


def members(kubectl: Kubectl, pool_name: str) -> set[str]:
    """Return the sandboxes whose names a pool has made."""
    items = kubectl.document("sbx")["items"]
    names = {item["metadata"]["name"] for item in items}
    return {name for name in names if name.startswith(f"{pool_name}-")}
