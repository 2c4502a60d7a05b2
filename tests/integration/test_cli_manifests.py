"""`apply`, `diff` and `validate`: manifests, and who owns which field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.e2e.installation import Installation
from tests.integration.cli_lab import HELLO, installed


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(tmp_path_factory.mktemp("manifests"), "socket") as installation:
        yield installation


def test_diff_and_validate_answer_by_exit_code(here: Installation, tmp_path: Path) -> None:
    """Diff says 1 as long as something differs, 0 afterwards; validate touches nothing."""
    manifest = tmp_path / "hello.yaml"
    manifest.write_text(HELLO)

    assert here.ok("validate", "-f", str(manifest)) == "sandbox/hello valid\n"
    before = here.run("diff", "-f", str(manifest))
    here.ok("apply", "-f", str(manifest))
    after = here.run("diff", "-f", str(manifest))
    again = here.ok("apply", "-f", str(manifest))

    assert before.returncode == 1
    assert "+kind: Sandbox" in before.stdout
    assert (after.returncode, after.stdout) == (0, "")
    assert again == "sandbox/hello unchanged\n"


@pytest.mark.parametrize("verb", ["apply", "diff", "validate"])
def test_manifests_without_a_document_are_remarked(here: Installation, verb: str) -> None:
    """A file that is all commented out is no mistake, and nobody thinks that it was applied."""
    done = here.run(verb, "-f", "-", stdin="# kind: Sandbox\n")

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "note: there is no document in -\n"


def edited_by_somebody(here: Installation, name: str, env: dict[str, str]) -> None:
    """Change a sandbox as kubectl would, so that somebody else owns what was changed."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket_of(here)))) as client:
        answer = client.patch(
            f"http://api/apis/sandboxer.dev/v1alpha1/namespaces/default/sandboxes/{name}",
            params={"fieldManager": "kubectl-edit"},
            headers={"Content-Type": "application/merge-patch+json"},
            content=json.dumps({"spec": {"env": env}}),
        )
    assert answer.status_code == 200, answer.text


def socket_of(here: Installation) -> Path:
    return here.directory / "data" / "sandboxer.sock"


def test_field_of_somebody_else_is_not_taken_in_passing(here: Installation) -> None:
    """Apply over a field that somebody else has set says which and whose; force takes it."""
    manifest = HELLO.replace("name: hello", "name: shared")
    here.ok("apply", "-f", "-", stdin=manifest)
    edited_by_somebody(here, "shared", {"GREETING": "from kubectl", "EXTRA": "stays"})

    refused = here.run("apply", "-f", "-", stdin=manifest)
    compared = here.run("diff", "-f", "-", stdin=manifest)
    forced = here.ok("apply", "-f", "-", "--force-conflicts", stdin=manifest)
    spec = here.sandboxes()["shared"]["spec"]

    assert (refused.returncode, refused.stdout) == (5, "")
    assert ".spec.env.GREETING" in refused.stderr
    assert "kubectl-edit" in refused.stderr
    assert "--force-conflicts" in refused.stderr
    assert compared.returncode == 5
    assert forced == "sandbox/shared configured\n"
    assert spec["env"] == {"GREETING": "hello there", "EXTRA": "stays"}


def test_field_that_a_manifest_no_longer_names_goes(here: Installation) -> None:
    """What an apply set and the next one leaves out is taken away; labels of others stay."""
    manifest = yaml.safe_load(HELLO.replace("name: hello", "name: fewer"))
    here.ok("apply", "-f", "-", stdin=yaml.safe_dump(manifest))
    del manifest["spec"]["env"]
    manifest["metadata"]["labels"] = {"tier": "test"}

    here.ok("apply", "-f", "-", stdin=yaml.safe_dump(manifest))

    applied = here.sandboxes()["fewer"]
    assert applied["spec"]["env"] == {}
    assert applied["metadata"]["labels"] == {"tier": "test"}


def test_what_was_printed_can_be_applied(here: Installation) -> None:
    """A document that `get` printed is a manifest: what the server added means nothing in it."""
    here.ok("apply", "-f", "-", stdin=HELLO.replace("name: hello", "name: printed"))
    printed = here.ok("get", "sbx/printed", "-o", "yaml")

    assert "managedFields" not in printed
    assert here.run("apply", "-f", "-", stdin=printed).returncode == 0


def test_one_refused_manifest_of_many_is_named(here: Installation) -> None:
    """What could be applied is, and reported; what was refused is the error."""
    fine = HELLO.replace("name: hello", "name: fine")
    taken = HELLO.replace("name: hello", "name: taken")
    here.ok("apply", "-f", "-", stdin=taken)
    edited_by_somebody(here, "taken", {"GREETING": "mine"})

    done = here.run("apply", "-f", "-", stdin=f"{fine}---{taken}")

    assert done.returncode == 5
    assert done.stdout == "sandbox/fine created\n"
    assert "GREETING" in done.stderr


POOL = """
apiVersion: sandboxer.dev/v1alpha1
kind: SandboxPool
metadata: {name: warm}
spec: {replicas: 0, template: {spec: {profile: profile.local}}}
"""


def test_pool_is_scaled(here: Installation) -> None:
    """Scale changes how many a pool keeps; what is no pool cannot be scaled."""
    here.ok("apply", "-f", "-", stdin=POOL)

    said = here.ok("scale", "sbxpool/warm", "--replicas", "1")
    here.ok("wait", "sbxpool/warm", "--for=jsonpath={.status.readyReplicas}=1", "--timeout", "60s")
    wrong = here.run("scale", "host/local", "--replicas", "1")
    here.ok("delete", "sbxpool/warm", "--cascade", "foreground")

    assert said == "sandboxpool/warm scaled\n"
    assert (wrong.returncode, "sbxpool/NAME" in wrong.stderr) == (2, True)
    assert not any(name.startswith("warm-") for name in here.sandboxes())
