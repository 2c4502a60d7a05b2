"""What kubectl learns of the API before it does anything: resources, versions, explanations."""

from __future__ import annotations

import json

import pytest

from sandboxer.kinds.catalog import KINDS
from tests.kubectl.session import Kubectl


def test_api_resources_shows_every_kind_with_its_short_name(kubectl: Kubectl) -> None:
    """What can be asked for is listed with scope and kind."""
    lines = [line.split() for line in kubectl.ok("api-resources").splitlines()]

    assert ["sandboxes", "sbx", "sandboxer.dev/v1alpha1", "true", "Sandbox"] in lines
    assert ["hosts", "sbxhost", "sandboxer.dev/v1alpha1", "false", "Host"] in lines
    assert ["pods", "po", "v1", "true", "Pod"] in lines


def test_api_resources_of_a_group_with_verbs_and_categories(kubectl: Kubectl) -> None:
    """`-o wide` tells verbs, and `all` finds the kinds of our own group."""
    wide = kubectl.ok("api-resources", "--api-group=sandboxer.dev", "-o", "wide")
    names = kubectl.ok("api-resources", "--categories=all", "-o", "name").split()

    pools = next(line for line in wide.splitlines() if line.startswith("sandboxpools"))
    assert "create,delete,deletecollection,get,list,patch,update,watch" in pools
    assert "sandboxes.sandboxer.dev" in names


def test_api_versions(kubectl: Kubectl) -> None:
    """Every group and version is listed once."""
    assert kubectl.ok("api-versions").split() == [
        "authentication.k8s.io/v1",
        "authorization.k8s.io/v1",
        "events.k8s.io/v1",
        "sandboxer.dev/v1alpha1",
        "v1",
    ]


def test_an_unknown_kind_is_named(kubectl: Kubectl) -> None:
    """Trap 5: kubectl says that there is no such kind, not that it cannot read the schema."""
    wrong = '{"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Castle", "metadata": {"name": "x"}}'

    said = kubectl.fails("apply", "-f", "-", stdin=wrong)

    assert 'no matches for kind "Castle" in version "sandboxer.dev/v1alpha1"' in said
    assert "doesn't have a resource type" in kubectl.fails("get", "castles")


def test_explain_tells_what_a_field_is(kubectl: Kubectl) -> None:
    """The docstrings of the kinds are what `explain` prints."""
    said = kubectl.ok("explain", "sandbox.spec.driftPolicy")

    assert "KIND:       Sandbox" in said
    assert "FIELD: driftPolicy" in said
    assert "Repair" in said


def test_explain_recursively(kubectl: Kubectl) -> None:
    """All fields below one, with their types."""
    said = kubectl.ok("explain", "sandbox.spec.lifetime", "--recursive")

    assert "onExpiry\t<string>" in said
    assert "ttl\t<string>" in said


@pytest.mark.parametrize("kind", sorted(model.plural for model in KINDS.values()))
def test_every_kind_can_be_explained(kubectl: Kubectl, kind: str) -> None:
    """Nothing is served that cannot be explained down to its last field."""
    assert "metadata\t<ObjectMeta>" in kubectl.ok("explain", kind, "--recursive")


def test_explain_of_an_unknown_field(kubectl: Kubectl) -> None:
    """A slip of the pen is answered with the field that does not exist."""
    assert 'field "lifetimes" does not exist' in kubectl.fails("explain", "sbx.spec.lifetimes")


def test_version_fits_the_client(kubectl: Kubectl) -> None:
    """The server says a version that kubectl does not warn about."""
    done = kubectl.run("version", "-o", "json")

    assert done.status == 0
    assert json.loads(done.stdout)["serverVersion"]["minor"] == "32"
    assert "WARNING" not in done.stderr


def test_cluster_info_has_no_services_to_show(kubectl: Kubectl) -> None:
    """It looks for Services, which there are none of, and says so."""
    assert 'the server doesn\'t have a resource type "services"' in kubectl.fails("cluster-info")


def test_raw_paths(kubectl: Kubectl) -> None:
    """`get --raw` reads what has no kind."""
    assert kubectl.ok("get", "--raw", "/readyz") == "ok"
    assert json.loads(kubectl.ok("get", "--raw", "/version"))["major"] == "1"


def test_the_kubeconfig_is_a_usual_one(kubectl: Kubectl) -> None:
    """`kubectl config` reads the file a controller has written."""
    assert kubectl.ok("config", "current-context").strip() == "sandboxer"
    shown = json.loads(kubectl.ok("config", "view", "-o", "json"))
    assert shown["clusters"][0]["cluster"]["server"].startswith("https://127.0.0.1:")
    assert kubectl.ok("config", "get-contexts", "-o", "name").split() == ["sandboxer"]
