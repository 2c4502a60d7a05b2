"""`kubectl apply`, `diff`, `create` and `replace`: documents go in as they were written."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kubectl.session import Kubectl, manifest, sandbox

KEEP = {"env": {"GREETER": "me"}}


@pytest.fixture
def one(kubectl: Kubectl) -> Iterator[str]:
    """A manifest that is applied, and taken away after the test."""
    text = manifest(sandbox("one", **KEEP))
    assert kubectl.ok("apply", "-f", "-", stdin=text) == "sandbox.sandboxer.dev/one created\n"
    yield text
    kubectl.ok("delete", "sbx", "one", "--wait=false")
    kubectl.ok("wait", "--for=delete", "sbx/one", "--timeout=60s")


def test_an_apply_again_changes_nothing(kubectl: Kubectl, one: str) -> None:
    """Trap 7: a no-op apply keeps resourceVersion and generation."""
    kubectl.ok("wait", "--for=condition=Ready", "sbx/one", "--timeout=60s")
    before = kubectl.document("sbx", "one")["metadata"]

    said = kubectl.ok("apply", "-f", "-", stdin=one)

    after = kubectl.document("sbx", "one")["metadata"]
    assert said == "sandbox.sandboxer.dev/one unchanged\n"
    assert (after["resourceVersion"], after["generation"]) == (
        before["resourceVersion"],
        before["generation"],
    )


def test_a_changed_apply_takes_away_what_is_no_longer_written(kubectl: Kubectl, one: str) -> None:
    """A field dropped from the manifest goes; a label somebody else has set stays."""
    kubectl.ok("label", "sbx", "one", "by-hand=yes")

    said = kubectl.apply(sandbox("one", env={"OTHER": "you"}))

    document = kubectl.document("sbx", "one")
    assert said == "sandbox.sandboxer.dev/one configured\n"
    assert document["spec"]["env"] == {"OTHER": "you"}
    assert document["metadata"]["labels"] == {"by-hand": "yes"}
    assert document["metadata"]["generation"] == 2
    assert one


def test_a_list_is_applied_item_by_item(kubectl: Kubectl) -> None:
    """Trap 4: `kind: List` needs the version 2 schema, which kubectl asks for first."""
    items = [sandbox("in-list-a"), sandbox("in-list-b")]

    said = kubectl.apply({"apiVersion": "v1", "kind": "List", "items": items})

    assert said.splitlines() == [
        "sandbox.sandboxer.dev/in-list-a created",
        "sandbox.sandboxer.dev/in-list-b created",
    ]
    kubectl.ok("delete", "sbx", "in-list-a", "in-list-b")


def test_many_documents_are_applied_in_order(kubectl: Kubectl) -> None:
    """One stream with several documents is one apply; the same stream deletes them."""
    documents = manifest(sandbox("many-a"), sandbox("many-b"), sandbox("many-c"))

    assert kubectl.ok("apply", "-f", "-", stdin=documents).count(" created\n") == 3
    assert kubectl.ok("delete", "-f", "-", stdin=documents).count(" deleted") == 3


@pytest.mark.parametrize("how", ["server", "client"])
def test_a_dry_run_stores_nothing(kubectl: Kubectl, how: str) -> None:
    """Both rehearsals say what would be, and nothing is there afterwards."""
    text = manifest(sandbox("rehearsed"))

    said = kubectl.ok("apply", f"--dry-run={how}", "-f", "-", stdin=text)

    word = "server dry run" if how == "server" else "dry run"
    assert said == f"sandbox.sandboxer.dev/rehearsed created ({word})\n"
    assert "NotFound" in kubectl.fails("get", "sbx", "rehearsed")


def test_a_dry_run_of_a_change_shows_the_present_version(kubectl: Kubectl, one: str) -> None:
    """What would be stored is judged whole and keeps generation and resourceVersion."""
    kubectl.ok("wait", "--for=condition=Ready", "sbx/one", "--timeout=60s")
    before = kubectl.document("sbx", "one")["metadata"]

    changed = manifest(sandbox("one", env={"GREETER": "you"}))
    options = ("--dry-run=server", "-o", "jsonpath={.metadata.resourceVersion} {.spec.env}")
    said = kubectl.ok("apply", *options, "-f", "-", stdin=changed)

    assert said == f'{before["resourceVersion"]} {{"GREETER":"you"}}'
    assert kubectl.document("sbx", "one")["spec"]["env"] == {"GREETER": "me"}
    assert one


@pytest.mark.parametrize("way", [(), ("--server-side",)], ids=["client-side", "server-side"])
def test_diff_shows_the_change_and_nothing_else(
    kubectl: Kubectl, one: str, way: tuple[str, ...]
) -> None:
    """Trap 8: exit 1, the changed line, and no noise of versions."""
    kubectl.ok("wait", "--for=condition=Ready", "sbx/one", "--timeout=60s")
    changed = manifest(sandbox("one", env={"GREETER": "you"}))

    force = ("--force-conflicts",) if way else ()
    done = kubectl.run("diff", *way, *force, "-f", "-", stdin=changed)

    assert done.status == 1, done
    lines = [line for line in done.stdout.splitlines() if line[:1] in "+-" and line[1:2] == " "]
    assert "-    GREETER: me" in lines
    assert "+    GREETER: you" in lines
    assert not [line for line in lines if "resourceVersion:" in line]
    # On the server's side the annotation of the client-side apply follows, as in Kubernetes.
    allowed = {"GREETER:", "generation:"} if not way else {"GREETER:", "generation:", "{"}
    assert {line.split()[1][: 99 if line.split()[1] in allowed else 1] for line in lines} <= allowed
    assert one


def test_diff_of_what_is_as_written(kubectl: Kubectl, one: str) -> None:
    """Nothing to do is exit 0 without a word."""
    done = kubectl.run("diff", "-f", "-", stdin=one)

    assert (done.status, done.stdout) == (0, "")


def test_unknown_fields_are_refused_unless_asked_otherwise(kubectl: Kubectl) -> None:
    """Strictness is asked for; `--validate=warn` warns and prunes, `ignore` is silent."""
    text = manifest(sandbox("typo", drivePolicy="Repair"))

    assert 'unknown field "spec.drivePolicy"' in kubectl.fails("apply", "-f", "-", stdin=text)
    warned = kubectl.run("apply", "--validate=warn", "-f", "-", stdin=text)
    assert warned.status == 0
    assert 'Warning: unknown field "spec.drivePolicy"' in warned.stderr
    silent = kubectl.run("apply", "--validate=ignore", "-f", "-", stdin=text)
    assert (silent.status, silent.stderr) == (0, "")
    assert "drivePolicy" not in kubectl.document("sbx", "typo")["spec"]
    kubectl.ok("delete", "sbx", "typo")


def test_every_mistake_is_named(kubectl: Kubectl) -> None:
    """Values that are not allowed come back as one line each."""
    text = manifest(sandbox("wrong", driftPolicy="Ignore", operatingMode="Sleeping"))

    said = kubectl.fails("create", "-f", "-", stdin=text)

    assert 'The Sandbox "wrong" is invalid' in said
    assert '* spec.driftPolicy: Unsupported value: "Ignore"' in said
    assert "* spec.operatingMode: Unsupported value" in said


def test_create_says_when_it_is_there_already(kubectl: Kubectl, one: str) -> None:
    """A second create is refused by name."""
    said = kubectl.fails("create", "-f", "-", stdin=one)

    assert 'sandboxes.sandboxer.dev "one" already exists' in said


def test_create_with_a_generated_name(kubectl: Kubectl) -> None:
    """The server completes `generateName`."""
    document = sandbox("x")
    document["metadata"] = {"generateName": "made-"}

    name = kubectl.ok("create", "-f", "-", "-o", "name", stdin=manifest(document)).strip()

    assert name.startswith("sandbox.sandboxer.dev/made-")
    kubectl.ok("delete", name)


def test_replace_keeps_what_the_server_owns(kubectl: Kubectl, one: str) -> None:
    """Trap 2: a PUT without uid, creationTimestamp and status loses none of them."""
    kubectl.ok("wait", "--for=condition=Ready", "sbx/one", "--timeout=60s")
    before = kubectl.document("sbx", "one")

    kubectl.ok("replace", "-f", "-", stdin=manifest(sandbox("one", env={"NEW": "1"})))

    after = kubectl.document("sbx", "one")
    for field in ("uid", "creationTimestamp"):
        assert after["metadata"][field] == before["metadata"][field]
    assert after["status"]["host"] == before["status"]["host"]
    assert after["spec"]["env"] == {"NEW": "1"}
    assert one


def test_replace_by_force_makes_another_object(kubectl: Kubectl) -> None:
    """`replace --force` deletes, waits, and creates anew."""
    text = manifest(sandbox("forced"))
    kubectl.ok("create", "-f", "-", stdin=text)
    before = kubectl.document("sbx", "forced")["metadata"]["uid"]

    said = kubectl.ok("replace", "--force", "-f", "-", stdin=text)

    assert 'sandbox.sandboxer.dev "forced" deleted' in said
    assert "sandbox.sandboxer.dev/forced replaced" in said
    assert kubectl.document("sbx", "forced")["metadata"]["uid"] != before
    kubectl.ok("delete", "sbx", "forced")


def test_the_last_applied_document_can_be_looked_at_and_set(kubectl: Kubectl, one: str) -> None:
    """`apply view-last-applied` and `set-last-applied` read and write their annotation."""
    assert "GREETER: me" in kubectl.ok("apply", "view-last-applied", "sbx/one")
    (kubectl.home / "one.yaml").write_text(manifest(sandbox("one", env={"GREETER": "them"})))

    assert "configured" in kubectl.ok("apply", "set-last-applied", "-f", "one.yaml")
    assert "GREETER: them" in kubectl.ok("apply", "view-last-applied", "sbx/one")
    assert one
