"""`get` in all its forms, `describe` and `events`."""

from __future__ import annotations

import json

import pytest

from tests.kubectl.session import Kubectl, sandbox

NAMES = ["anna", "bert", "carl", "dora", "emil"]


@pytest.fixture(scope="module", autouse=True)
def _five(kubectl: Kubectl) -> None:
    kubectl.apply(
        *[sandbox(name, labels={"even": str(i % 2 == 0).lower()}) for i, name in enumerate(NAMES)]
    )
    kubectl.ok("wait", "--for=condition=Ready", "sbx", "--all", "--timeout=60s")


def names(kubectl: Kubectl, *options: str) -> list[str]:
    """Return the names a `get` finds, in its order."""
    said = kubectl.ok("get", "sbx", *options, "-o", "name")
    return [line.removeprefix("sandbox.sandboxer.dev/") for line in said.splitlines()]


def test_the_table_has_our_columns(kubectl: Kubectl) -> None:
    """The server says which columns, and `-o wide` shows the rest of them."""
    head, *rows = kubectl.ok("get", "sbx").splitlines()

    assert head.split() == ["NAME", "PROFILE", "PHASE", "READY", "HOST", "AGE"]
    assert rows[0].split()[:5] == ["anna", "profile.local", "Ready", "True", "local"]
    wide = kubectl.ok("get", "sbx", "-o", "wide").splitlines()
    assert wide[0].split()[6:] == ["EXTENSION", "ISOLATION", "EXPIRES", "MESSAGE"]
    assert "Everything wished runs and is healthy." in wide[1]


def test_everything_in_all_namespaces(kubectl: Kubectl) -> None:
    """`-A` adds the namespace."""
    head, *rows = kubectl.ok("get", "sbx", "-A").splitlines()

    assert head.split()[:2] == ["NAMESPACE", "NAME"]
    assert ["looking", "anna"] in [row.split()[:2] for row in rows]


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("even=true", ["anna", "carl", "emil"]),
        ("even!=true", ["bert", "dora"]),
        ("even in (false, no)", ["bert", "dora"]),
        ("even notin (false)", ["anna", "carl", "emil"]),
        ("!even", []),
    ],
)
def test_label_selectors(kubectl: Kubectl, selector: str, found: list[str]) -> None:
    """Every form of a selector is understood."""
    assert names(kubectl, "-l", selector) == found


def test_field_selectors(kubectl: Kubectl) -> None:
    """Objects are found by name; other fields are refused by name."""
    assert names(kubectl, "--field-selector=metadata.name=bert") == ["bert"]
    assert names(kubectl, "--field-selector=metadata.name!=bert") == [
        "anna",
        "carl",
        "dora",
        "emil",
    ]

    said = kubectl.fails("get", "sbx", "--field-selector=spec.profile=x")
    assert "field label not supported: spec.profile" in said


def test_pages(kubectl: Kubectl) -> None:
    """`--chunk-size` asks page by page, in order and without a gap."""
    said = kubectl.run("get", "sbx", "--chunk-size=2", "-o", "name", "-v=6")

    assert said.stdout.count("\n") == 5
    assert said.stderr.count("limit=2") == 3
    assert names(kubectl, "--chunk-size=2") == NAMES


def test_sorting(kubectl: Kubectl) -> None:
    """`--sort-by` sorts by any field, since rows carry their objects."""
    said = kubectl.ok("get", "sbx", "--sort-by={.metadata.labels.even}", "--no-headers")

    assert [line.split()[0] for line in said.splitlines()] == [
        "bert", "dora", "anna", "carl", "emil",
    ]  # fmt: skip


def test_formats(kubectl: Kubectl) -> None:
    """Each output format has its document or its part of it."""
    document = json.loads(kubectl.ok("get", "sbx", "anna", "-o", "json"))
    listed = kubectl.document("sbx")

    assert (document["kind"], document["metadata"]["name"]) == ("Sandbox", "anna")
    assert {item["kind"] for item in listed["items"]} == {"Sandbox"}
    assert "kind: Sandbox" in kubectl.ok("get", "sbx", "anna", "-o", "yaml")
    assert kubectl.ok("get", "sbx", "anna", "-o", "jsonpath={.spec.profile}") == "profile.local"
    columns = "custom-columns=N:.metadata.name,H:.status.host"
    assert kubectl.ok("get", "sbx", "anna", "-o", columns).split() == ["N", "H", "anna", "local"]
    template = "{{range .items}}{{.metadata.name}} {{end}}"
    assert kubectl.ok("get", "sbx", "-o", f"go-template={template}").split() == NAMES


def test_labels_as_columns(kubectl: Kubectl) -> None:
    """`--show-labels` and `-L` read the metadata that rows carry."""
    assert "even=true" in kubectl.ok("get", "sbx", "anna", "--show-labels")
    assert kubectl.ok("get", "sbx", "anna", "-L", "even").splitlines()[0].endswith("EVEN")


def test_all_shows_our_kinds(kubectl: Kubectl) -> None:
    """`get all` goes through every kind of the category."""
    said = kubectl.ok("get", "all")

    assert "sandbox.sandboxer.dev/anna" in said
    assert "host.sandboxer.dev/local" in said
    assert "pod/anna" in said


def test_what_is_not_there(kubectl: Kubectl) -> None:
    """A missing object has a name; a missing list is no error."""
    said = kubectl.fails("get", "sbx", "nobody")

    assert said == 'Error from server (NotFound): sandboxes.sandboxer.dev "nobody" not found\n'
    assert kubectl.ok("get", "sbx", "nobody", "--ignore-not-found") == ""
    assert "No resources found" in kubectl.run("get", "sbxpool").stderr


def test_describe_shows_the_story(kubectl: Kubectl) -> None:
    """Fields, conditions and the events of this object alone."""
    said = kubectl.ok("describe", "sbx", "anna")

    assert "Profile:  profile.local" in said
    events = said.partition("\nEvents:\n")[2]
    assert "It is placed: ext.local on local" in events
    assert events.count("  Routed  ") == 1
    assert kubectl.ok("describe", "sbx").count("\nEvents:\n") == len(NAMES)


def test_a_host_has_events_too(kubectl: Kubectl) -> None:
    """Events of what has no namespace are found as well."""
    assert "It answers. Sandboxes can be placed here." in kubectl.ok("describe", "host", "local")


def test_events_of_one_object(kubectl: Kubectl) -> None:
    """`events --for` asks for the events about one object."""
    said = kubectl.ok("events", "--for=sandbox/anna")

    assert said.splitlines()[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert "Sandbox/anna" in said
    assert "Sandbox/bert" not in said
    assert "Sandbox/bert" in kubectl.ok("events", "--types=Normal")


def test_events_as_a_table(kubectl: Kubectl) -> None:
    """`get events` has Kubernetes' columns, selectors and both API groups."""
    head, *rows = kubectl.ok("get", "events", "--field-selector=reason=Ready").splitlines()

    assert head.split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert {row.split()[2] for row in rows} == {"Ready"}
    assert "sandbox/anna" in kubectl.ok("get", "events.events.k8s.io", "-o", "wide")


def test_pods_are_the_sandboxes_processes(kubectl: Kubectl) -> None:
    """A sandbox of this machine is one Pod that belongs to it."""
    head, row, *_ = kubectl.ok("get", "pods", "-l", "even=true").splitlines()

    assert head.split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert row.split()[:3] == ["anna", "1/1", "Running"]
    (owner,) = kubectl.document("pod", "anna")["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Sandbox", "anna")


def test_pods_are_read_only(kubectl: Kubectl) -> None:
    """What a Pod is belongs to its Sandbox; a write to it says so."""
    assert "change the Sandbox" in kubectl.fails("delete", "pod", "anna")
    assert "change the Sandbox" in kubectl.fails("label", "pod", "anna", "a=b")
