"""Every write that is no apply: what changed becomes its writer's."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import pytest

from sandboxer import fields
from sandboxer.fields import FieldSet
from tests.unit.fields.documents import (
    DEBUG,
    LATER,
    NOW,
    WEB,
    Document,
    applied,
    managers,
    owned,
    sandbox,
    stored,
    written,
)


def changed(live: Document, **spec: Any) -> Document:
    """Return the document with other fields of the spec."""
    return {**live, "spec": {**live["spec"], **spec}}


def test_a_create_owns_what_it_wrote() -> None:
    """Of what the client wrote, defaults left out, nothing that names the object or is status."""
    new = sandbox({"env": {"A": "1"}}, labels={"x": "1"}, namespace="default", status={})

    (entry,) = fields.update(None, new, manager="kubectl-create", now=NOW)

    assert (entry["manager"], entry["operation"]) == ("kubectl-create", "Update")
    assert list(FieldSet.from_json(entry["fieldsV1"]).texts()) == [
        ".metadata.labels.x",
        ".spec.env.A",
    ]


def test_what_changes_goes_from_its_owner_to_the_writer() -> None:
    """Changed, added and removed fields; what stays the same stays with whom it was."""
    live = applied(None, sandbox({"env": {"A": "1", "B": "1"}, "ports": [WEB, DEBUG]}))

    after = written(live, changed(live, env={"A": "1", "B": "2", "C": "2"}, ports=[WEB]), "you")

    assert owned(after, "you") == {".spec.env.B", ".spec.env.C"}
    assert owned(after) == {
        ".spec.env.A",
        '.spec.ports[name="web"]',
        '.spec.ports[name="web"].containerPort',
        '.spec.ports[name="web"].name',
    }


def test_a_write_that_changes_nothing_changes_no_owner() -> None:
    """Not even the time."""
    live = applied(None, sandbox({"env": {"A": "1"}}))

    assert written(live, live, "you", now=LATER) == live


def test_the_order_of_keyed_items_is_no_change() -> None:
    """Items are told apart by their keys, wherever they stand."""
    live = applied(None, sandbox({"ports": [WEB, DEBUG]}))

    after = written(live, changed(live, ports=live["spec"]["ports"][::-1]), "you")

    assert managers(after) == [("me", "Apply")]


def test_a_second_write_widens_the_entry_and_sets_its_time() -> None:
    """One entry per manager; its time is that of the set."""
    live = written(None, sandbox({"env": {"A": "1"}}), "you")
    same_fields = written(live, changed(live, env={"A": "2"}), "you", now=LATER)
    wider = written(live, changed(live, env={"A": "1", "B": "1"}), "you", now=LATER)

    times = [document["metadata"]["managedFields"][0]["time"] for document in (same_fields, wider)]
    assert times == ["2026-01-02T03:04:05Z", "2026-01-02T03:04:06Z"]
    assert {".spec.env.A", ".spec.env.B"} <= owned(wider, "you")
    assert len(managers(wider)) == 1


def test_a_value_that_becomes_a_map_takes_everything_below() -> None:
    """Who owned the value owns nothing of what replaced it, and the other way round."""
    profile = {"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Profile", "metadata": {"name": "p"}}
    flat: Document = {**profile, "spec": {"inputsSchema": {"a": 1}}}
    deep: Document = {**profile, "spec": {"inputsSchema": {"a": {"b": 1}}}}

    for one, other, path in ((flat, deep, ".b"), (deep, flat, "")):
        live = fields.apply(None, one, manager="me", force=False, now=NOW).document
        entries = fields.update(live, other, manager="you", now=NOW)

        (entry,) = entries
        texts = set(FieldSet.from_json(entry["fieldsV1"]).texts())
        assert entry["manager"] == "you"
        assert f".spec.inputsSchema.a{path}" in texts


def test_status_and_the_rest_have_separate_owners() -> None:
    """A write to /status owns status only, any other one everything but status."""
    live = applied(None, sandbox({"env": {"A": "1"}}))
    new = {**changed(live, env={"A": "2"}), "status": {**live["status"], "phase": "Ready"}}

    for_status = fields.update(live, new, manager="you", now=NOW, subresource="status")
    for_main = fields.update(live, new, manager="you", now=NOW)

    assert [(e["manager"], e.get("subresource"), e["fieldsV1"]) for e in for_status] == [
        ("me", None, {"f:spec": {"f:env": {"f:A": {}}}}),
        ("you", "status", {"f:status": {"f:phase": {}}}),
    ]
    assert [(e["manager"], e["fieldsV1"]) for e in for_main] == [
        ("you", {"f:spec": {"f:env": {"f:A": {}}}})
    ]


@pytest.mark.parametrize("reset", [[], [{}]])
def test_owners_can_be_forgotten(reset: list[Any]) -> None:
    """`[]` and `[{}]` forget everybody; the write itself is not noted then."""
    live = applied(None, sandbox({"env": {"A": "1"}}))
    new = changed(live, env={"A": "2"})
    new["metadata"] = {**new["metadata"], "managedFields": reset}

    assert fields.update(live, new, manager="you", now=NOW) == []


def test_owners_that_are_left_out_are_kept() -> None:
    """A client that knows no managedFields does not delete them."""
    live = applied(None, sandbox({"env": {"A": "1"}}))
    new = copy.deepcopy(live)
    del new["metadata"]["managedFields"]

    assert managers(written(live, new, "you")) == [("me", "Apply")]


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([{"manager": "x"}], id="no-operation"),
        pytest.param([{"manager": "x", "operation": "Take", "apiVersion": "v1"}], id="operation"),
        pytest.param(
            [{"manager": "x", "operation": "Apply", "apiVersion": "v1", "fieldsV1": {"spec": {}}}],
            id="no-step",
        ),
        pytest.param(["x"], id="no-entry"),
        pytest.param("x", id="no-list"),
        pytest.param(
            [{"manager": [], "operation": "Apply", "apiVersion": "v1", "fieldsV1": {}}],
            id="no-text",
        ),
    ],
)
def test_owners_that_cannot_be_read_are_kept(entries: Any) -> None:
    """Nonsense in managedFields means what is stored, as in Kubernetes."""
    live = applied(None, sandbox({"env": {"A": "1"}}))
    new = {**live, "metadata": {**live["metadata"], "managedFields": entries}}

    assert [e["manager"] for e in fields.update(live, new, manager="you", now=NOW)] == ["me"]


def test_owners_can_be_edited() -> None:
    """Kubectl turns its client-side entry into a server-side one by a JSON patch."""
    live = written(None, sandbox({"env": {"A": "1"}}), "kubectl-client-side-apply")
    (entry,) = live["metadata"]["managedFields"]
    moved = [{**entry, "manager": "kubectl", "operation": "Apply"}]
    new = {**live, "metadata": {**live["metadata"], "managedFields": moved}}

    after = written(live, new, "kubectl")

    assert managers(after) == [("kubectl", "Apply")]
    assert owned(after, "kubectl") == owned(live, "kubectl-client-side-apply")


def test_objects_nobody_noted_owners_of_stay_so() -> None:
    """A single changed field would say nothing about all the others."""
    live = stored(sandbox({"env": {"A": "1"}}))

    assert fields.update(live, changed(live, env={"A": "2"}), manager="you", now=NOW) == []


def test_at_most_ten_writers_are_kept_apart() -> None:
    """The oldest are put together, with everything they owned; appliers are not counted."""
    live = applied(None, sandbox({"driftPolicy": "Report"}))
    for number in range(15):
        env = {**live["spec"]["env"], f"V{number}": "1"}
        at = NOW + timedelta(seconds=number)
        live = written(live, changed(live, env=env), f"writer-{number:02}", now=at)

    names = [name for name, operation in managers(live) if operation == "Update"]
    assert names == ["ancient-changes", *(f"writer-{number:02}" for number in range(6, 15))]
    assert owned(live, "ancient-changes") == {f".spec.env.V{number}" for number in range(6)}
    assert owned(live) == {".spec.driftPolicy"}
