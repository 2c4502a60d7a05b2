"""`label`, `annotate`, `patch`, `edit` and `scale`: one field at a time."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.kubectl.session import Kubectl, condition, pool, sandbox, until


@pytest.fixture(scope="module", autouse=True)
def _one(kubectl: Kubectl) -> None:
    kubectl.apply(sandbox("one", env={"A": "1"}))
    kubectl.ok("wait", "--for=condition=Ready", "sbx/one", "--timeout=60s")


def test_a_label_moves_the_version_and_not_the_generation(kubectl: Kubectl) -> None:
    """Trap 7: metadata is no part of what generation counts."""
    before = kubectl.document("sbx", "one")["metadata"]

    assert kubectl.ok("label", "sbx", "one", "a=b") == "sandbox.sandboxer.dev/one labeled\n"

    after = kubectl.document("sbx", "one")["metadata"]
    assert after["labels"] == {"a": "b"}
    assert int(after["resourceVersion"]) > int(before["resourceVersion"])
    assert after["generation"] == before["generation"]


def test_a_label_is_changed_only_when_told_to(kubectl: Kubectl) -> None:
    """`--overwrite` changes, a trailing minus removes."""
    kubectl.ok("label", "sbx", "one", "c=1")

    assert "'c' already has a value" in kubectl.fails("label", "sbx", "one", "c=2")
    kubectl.ok("label", "sbx", "--all", "c=2", "--overwrite")
    assert kubectl.ok("get", "sbx", "-l", "c=2", "-o", "name") == "sandbox.sandboxer.dev/one\n"
    assert "unlabeled" in kubectl.ok("label", "sbx", "-l", "c=2", "c-")
    assert kubectl.ok("get", "sbx", "-l", "c", "-o", "name") == ""


def test_annotations_come_and_go(kubectl: Kubectl) -> None:
    """An annotation is set and removed."""
    kubectl.ok("annotate", "sbx/one", "note=a sentence")
    assert kubectl.document("sbx", "one")["metadata"]["annotations"]["note"] == "a sentence"

    kubectl.ok("annotate", "sbx/one", "note-")
    assert "note" not in kubectl.document("sbx", "one")["metadata"]["annotations"]


def test_a_merge_patch(kubectl: Kubectl) -> None:
    """Null removes, other values are set, what is not named stays."""
    before = [{"op": "add", "path": "/spec/env", "value": {"A": "1", "B": "1"}}]
    kubectl.ok("patch", "sbx", "one", "--type=json", "-p", json.dumps(before))

    kubectl.ok("patch", "sbx", "one", "--type=merge", "-p", '{"spec":{"env":{"A":null,"M":"1"}}}')

    assert kubectl.document("sbx", "one")["spec"]["env"] == {"B": "1", "M": "1"}


def test_a_json_patch(kubectl: Kubectl) -> None:
    """Operations are done in order; a `test` that fails refuses all of them."""
    operations = [{"op": "add", "path": "/spec/env", "value": {"J": "1"}}]
    kubectl.ok("patch", "sbx", "one", "--type=json", "-p", json.dumps(operations))
    assert kubectl.document("sbx", "one")["spec"]["env"] == {"J": "1"}

    operations = [
        {"op": "remove", "path": "/spec/env/J"},
        {"op": "test", "path": "/spec/profile", "value": "another"},
    ]
    kubectl.fails("patch", "sbx", "one", "--type=json", "-p", json.dumps(operations))
    assert kubectl.document("sbx", "one")["spec"]["env"] == {"J": "1"}


def test_a_strategic_patch_is_refused_in_words(kubectl: Kubectl) -> None:
    """The default type is for built-in kinds; what to write instead is said."""
    said = kubectl.fails("patch", "sbx", "one", "-p", '{"spec":{"env":{"A":"1"}}}')

    assert "strategic-merge-patch+json is not supported" in said
    assert "application/merge-patch+json" in said


def test_status_is_patched_through_its_subresource(kubectl: Kubectl) -> None:
    """`--subresource=status` shows and writes status."""
    patch = json.dumps({"status": {"placementReason": "by hand"}})
    options = ("--subresource=status", "--type=merge", "-p", patch)

    kubectl.ok("patch", "sbx", "one", *options)

    path = "jsonpath={.status.placementReason}"
    assert kubectl.ok("get", "sbx", "one", "--subresource=status", "-o", path) == "by hand"


def editor(home: Path, script: str) -> str:
    """Write an editor that is one line of sed and return its path."""
    path = home / "editor.sh"
    path.write_text(f'#!/bin/sh\ncp "$1" {home}/opened\nexec sed -i "{script}" "$1"\n')
    path.chmod(0o755)
    return str(path)


def opened(home: Path) -> str:
    """Return what the editor was last shown."""
    return (home / "opened").read_text()


def test_edit(kubectl: Kubectl) -> None:
    """What the editor saves is what is stored."""
    program = editor(
        kubectl.home, "s/profile: profile.local/&\\n  driftPolicy: Report/; /driftPolicy: Repair/d"
    )

    said = kubectl.ok("edit", "sbx", "one", KUBE_EDITOR=program)

    assert said == "sandbox.sandboxer.dev/one edited\n"
    assert kubectl.document("sbx", "one")["spec"]["driftPolicy"] == "Report"


def test_an_edit_without_a_change(kubectl: Kubectl) -> None:
    """Closing the editor is no write."""
    said = kubectl.run("edit", "sbx", "one", KUBE_EDITOR="true")

    assert said.status == 0
    assert "no changes made" in said.stdout + said.stderr


def test_an_edit_that_is_wrong_keeps_the_copy(kubectl: Kubectl) -> None:
    """A value that is not allowed is named, and the edited text is not lost."""
    program = editor(kubectl.home, "s/driftPolicy: .*/driftPolicy: Sometimes/")

    # kubectl opens the editor again with what was wrong, and gives up when nothing is mended.
    done = kubectl.run("edit", "sbx", "one", KUBE_EDITOR=program, TMPDIR=str(kubectl.home))

    assert done.status == 1
    assert 'sandboxes.sandboxer.dev "one" is invalid' in done.stderr
    assert '# * spec.driftPolicy: Unsupported value: "Sometimes"' in opened(kubectl.home)
    (kept,) = re.findall(r'has been stored to "(.*)"', done.stderr)
    assert "driftPolicy: Sometimes" in Path(kept).read_text()


def test_scale(kubectl: Kubectl) -> None:
    """A pool is scaled by PATCH and, with a condition, by PUT without a Content-Type: trap 3."""
    kubectl.apply(pool("warm", 1))

    assert "sandboxpool.sandboxer.dev/warm scaled" in kubectl.ok(
        "scale", "sbxpool", "warm", "--replicas=2"
    )
    assert "Expected replicas to be 5, was 2" in kubectl.fails(
        "scale", "sbxpool/warm", "--current-replicas=5", "--replicas=1"
    )
    kubectl.ok("scale", "sbxpool/warm", "--current-replicas=2", "--replicas=0")

    assert kubectl.document("sbxpool", "warm")["spec"]["replicas"] == 0
    until(lambda: kubectl.document("sbxpool", "warm")["status"]["replicas"] == 0)
    assert "could not find the requested resource" in kubectl.fails(
        "scale", "sbx/one", "--replicas=2"
    )


def test_what_cannot_be_done_to_kinds_of_our_own(kubectl: Kubectl) -> None:
    """Stock kubectl knows `rollout`, `set image` and `expose` for built-in kinds only."""
    for command in (
        ("rollout", "status", "sbx/one"),
        ("set", "image", "sbx/one", "a=b"),
        ("expose", "sbx/one", "--port=80"),
        ("autoscale", "sbxpool/warm", "--max=3"),
    ):
        assert kubectl.run(*command).status != 0
    assert condition(kubectl.document("sbx", "one"), "Accepted") == "True"
