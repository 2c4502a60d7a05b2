"""Server-side apply: what is set, pruned, kept and refused."""

from __future__ import annotations

import copy

import pytest

from sandboxer import fields
from sandboxer.errors import InvalidSpecError
from sandboxer.fields import FieldConflictError
from tests.unit.fields.documents import (
    DEBUG,
    LATER,
    NOW,
    WEB,
    applied,
    managers,
    owned,
    sandbox,
    stored,
    written,
)


def test_a_new_object_is_the_config_and_its_owner() -> None:
    """Nothing is stored yet: the config is the object, owned by who applied it."""
    config = sandbox({"env": {"A": "1"}}, labels={"x": "1"})

    document, changed = fields.apply(None, config, manager="me", force=False, now=NOW)

    entry = {
        "manager": "me",
        "operation": "Apply",
        "apiVersion": "sandboxer.dev/v1alpha1",
        "time": "2026-01-02T03:04:05Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:metadata": {"f:labels": {"f:x": {}}},
            "f:spec": {"f:env": {"f:A": {}}},
        },
    }
    assert changed
    assert document == sandbox({"env": {"A": "1"}}, labels={"x": "1"}, managedFields=[entry])


def test_the_same_apply_again_changes_nothing_and_keeps_the_time() -> None:
    """A no-op is a no-op, to the byte."""
    config = sandbox({"env": {"A": "1"}, "ports": [WEB]})
    live = applied(None, config)

    document, changed = fields.apply(live, config, manager="me", force=False, now=LATER)

    assert (document, changed) == (live, False)


def test_a_new_value_of_an_own_field_keeps_the_time_of_the_entry() -> None:
    """The time is that of the set of fields."""
    live = applied(None, sandbox({"env": {"A": "1"}}))

    after = applied(live, sandbox({"env": {"A": "2"}}), now=LATER)
    wider = applied(live, sandbox({"env": {"A": "2", "B": "2"}}), now=LATER)

    (entry,), (later,) = (d["metadata"]["managedFields"] for d in (after, wider))
    assert (entry["time"], later["time"]) == ("2026-01-02T03:04:05Z", "2026-01-02T03:04:06Z")


def test_arguments_are_not_changed() -> None:
    """Documents that come in stay as they are, whatever is made of them."""
    live = applied(None, sandbox({"env": {"A": "1"}, "ports": [WEB]}))
    config = sandbox({"ports": [DEBUG]}, labels={"x": "1"})
    before = copy.deepcopy((live, config))

    fields.apply(live, config, manager="me", force=True, now=NOW)
    fields.update(live, config, manager="me", now=NOW)

    assert (live, config) == before


def test_what_is_not_applied_any_more_goes() -> None:
    """A field, an entry of a map, an item of a list and a whole struct."""
    everything = sandbox(
        {
            "env": {"A": "1", "B": "2"},
            "ports": [WEB, DEBUG],
            "driftPolicy": "Report",
            "lifetime": {"ttl": "1h"},
        },
        labels={"x": "1"},
    )
    live = applied(None, everything)

    after = applied(live, sandbox({"env": {"B": "2"}, "ports": [DEBUG]}))

    expected = stored(sandbox({"env": {"B": "2"}, "ports": [DEBUG]}))
    assert after["spec"] == expected["spec"]
    assert after["metadata"]["labels"] == {}


def test_what_others_own_too_stays() -> None:
    """Who lets go of a shared field leaves it to the others."""
    live = applied(None, sandbox({"env": {"A": "1"}, "ports": [WEB]}))
    live = applied(live, sandbox({"env": {"A": "1"}, "ports": [WEB]}), "other")

    after = applied(live, sandbox({}))

    assert after["spec"]["env"] == {"A": "1"}
    assert [port["name"] for port in after["spec"]["ports"]] == ["web"]
    assert owned(after) == {".spec"}


def test_an_item_goes_with_the_fields_others_changed_in_it() -> None:
    """An item belongs to who put it there; half an item would not be valid."""
    live = applied(None, sandbox({"ports": [WEB]}))
    new = {**live, "spec": {**live["spec"], "ports": [{**WEB, "containerPort": 81}]}}
    live = written(live, new, "editor")

    after = applied(live, sandbox({}))

    assert after["spec"]["ports"] == []
    assert managers(after) == [("me", "Apply")]


def test_a_required_field_stays_with_its_item() -> None:
    """Who forced a port's number and lets go of it leaves the port whole for its other owner."""
    live = applied(None, sandbox({"ports": [WEB]}), "other")
    live = applied(live, sandbox({"ports": [{**WEB, "containerPort": 81}]}), force=True)

    after = applied(live, sandbox({}))

    (port,) = after["spec"]["ports"]
    assert (port["name"], port["containerPort"]) == ("web", 81)
    assert not any("containerPort" in path for path in owned(after) | owned(after, "other"))


def test_what_nobody_owns_survives_its_neighbours() -> None:
    """The controller's own label stays when the last applied one goes."""
    live = applied(None, sandbox({"env": {"A": "1"}}, labels={"x": "1"}))
    live["metadata"]["labels"]["controller"] = "1"
    live["spec"]["env"]["CONTROLLER"] = "1"

    after = applied(live, sandbox())

    assert after["metadata"]["labels"] == {"controller": "1"}
    assert after["spec"]["env"] == {"CONTROLLER": "1"}


def test_an_optional_struct_goes_with_its_defaults() -> None:
    """What is left of a struct is only what its defaults are, so the struct was not wanted."""
    live = applied(None, sandbox({"placement": {"hostSelector": {"matchLabels": {"a": "1"}}}}))

    after = applied(live, sandbox({"placement": {"host": "h1"}}))

    assert after["spec"]["placement"] == {"host": "h1"}


def test_an_empty_map_is_wanted_and_says_nothing_of_the_entries_of_others() -> None:
    """`hostSelector: {}` means every host; `ports: []` means none of mine."""
    config = sandbox({"placement": {"hostSelector": {}}, "ports": []})
    live = applied(None, config)
    live = applied(live, sandbox({"ports": [WEB]}), "other")

    again, without = applied(live, config), applied(live, sandbox({}))

    assert again == live
    assert owned(again) == {".spec.placement.hostSelector", ".spec.ports"}
    assert live["spec"]["placement"] == {"hostSelector": {"matchLabels": {}}}
    assert without["spec"]["placement"] == {}
    assert [port["name"] for port in without["spec"]["ports"]] == ["web"]


def test_keyed_items_are_merged_one_by_one() -> None:
    """Two managers fill one list; the order is that of who applied last."""
    live = applied(None, sandbox({"ports": [WEB, {**DEBUG, "service": "app"}]}), "other")

    after = applied(live, sandbox({"ports": [{"name": "new", "containerPort": 1}, WEB]}))

    assert [port["name"] for port in after["spec"]["ports"]] == ["new", "web", "debug"]
    assert after["spec"]["ports"][2]["service"] == "app"


def test_lists_without_keys_are_one_value() -> None:
    """Another list is another value, and a conflict."""
    host = {"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Host", "metadata": {"name": "h"}}
    config = {**host, "spec": {"transport": "local", "composeCommand": ["a", "b"]}}
    live = fields.apply(None, config, manager="me", force=False, now=NOW).document
    other = {**host, "spec": {"composeCommand": ["a"]}}

    with pytest.raises(FieldConflictError) as caught:
        fields.apply(live, other, manager="other", force=False, now=NOW)
    forced = fields.apply(live, other, manager="other", force=True, now=NOW).document

    assert [cause.field for cause in caught.value.causes] == [".spec.composeCommand"]
    assert forced["spec"]["composeCommand"] == ["a"]
    assert owned(forced) == {".spec.transport"}


def test_maps_without_schema_are_merged_entry_by_entry() -> None:
    """A profile's inputsSchema is anybody's JSON; a null in it is a value."""
    profile = {"apiVersion": "sandboxer.dev/v1alpha1", "kind": "Profile", "metadata": {"name": "p"}}
    one = {**profile, "spec": {"inputsSchema": {"properties": {"a": {"const": None}}}}}
    live = fields.apply(None, one, manager="me", force=False, now=NOW).document
    two = {**profile, "spec": {"inputsSchema": {"required": ["a"]}}}

    after = fields.apply(live, two, manager="other", force=False, now=NOW).document

    assert after["spec"]["inputsSchema"] == {
        "properties": {"a": {"const": None}},
        "required": ["a"],
    }


@pytest.mark.parametrize("value", [1, 1.0, True])
def test_numbers_and_truth_values_are_told_apart(value: object) -> None:
    """`1`, `1.0` and `true` are equal in Python and different in a document."""
    live = applied(None, sandbox({"inputs": {"x": value}}))

    for other in (1, 1.0, True):
        config = sandbox({"inputs": {"x": other}})
        if type(other) is type(value):
            fields.apply(live, config, manager="other", force=False, now=NOW)
        else:
            with pytest.raises(FieldConflictError):
                fields.apply(live, config, manager="other", force=False, now=NOW)


def test_the_same_value_makes_a_second_owner() -> None:
    """Who agrees is no enemy, and both keep it from then on."""
    live = applied(None, sandbox({"env": {"A": "1"}}))

    after = applied(live, sandbox({"env": {"A": "1"}}), "other")

    assert owned(after) == owned(after, "other") == {".spec.env.A"}


def test_another_value_is_refused_in_kubernetes_words() -> None:
    """One conflict is told in a line, several by owner; kubectl prints them as they are."""
    live = applied(None, sandbox({"env": {"A": "1"}, "ports": [WEB]}))
    new = {**live, "spec": {**live["spec"], "env": {"A": "1", "B": "1"}}}
    live = written(live, new, "kubectl-edit")

    with pytest.raises(FieldConflictError) as one:
        applied(live, sandbox({"env": {"B": "2"}}), "other")
    with pytest.raises(FieldConflictError) as many:
        applied(live, sandbox({"env": {"A": "2", "B": "2"}, "ports": [{**WEB, "containerPort": 1}]}), "other")  # fmt: skip

    assert one.value.message == (
        "Apply failed with 1 conflict: "
        'conflict with "kubectl-edit" using sandboxer.dev/v1alpha1: .spec.env.B'
    )
    assert [(c.message, c.field) for c in one.value.causes] == [
        ('conflict with "kubectl-edit" using sandboxer.dev/v1alpha1', ".spec.env.B")
    ]
    assert many.value.message == (
        "Apply failed with 3 conflicts: "
        'conflicts with "kubectl-edit" using sandboxer.dev/v1alpha1:\n'
        "- .spec.env.B\n"
        'conflicts with "me":\n'
        "- .spec.env.A\n"
        '- .spec.ports[name="web"].containerPort'
    )


def test_the_same_name_is_another_manager_in_another_operation() -> None:
    """`kubectl edit` and `kubectl apply --server-side` may both call themselves kubectl."""
    live = written(None, sandbox({"env": {"A": "1"}}))

    with pytest.raises(FieldConflictError):
        applied(live, sandbox({"env": {"A": "2"}}))


def test_what_the_server_owns_is_not_applied() -> None:
    """A printed object can be applied; its identity, version, status and times are the server's."""
    live = applied(None, sandbox({}))
    live["metadata"] |= {"uid": "u1", "resourceVersion": "7", "generation": 3}
    live["status"]["phase"] = "Ready"
    config = sandbox(
        {}, uid="other", resourceVersion="1", generation=1, creationTimestamp="2020-01-01T00:00:00Z",
        finalizers=["sandboxer.dev/teardown"], status={"phase": "Failed"},
    )  # fmt: skip

    document, _ = fields.apply(live, config, manager="me", force=False, now=NOW)

    metadata = document["metadata"]
    assert (metadata["uid"], metadata["resourceVersion"], metadata["generation"]) == ("u1", "7", 3)
    assert "creationTimestamp" not in metadata
    assert document["status"]["phase"] == "Ready"
    assert owned(document) == {".spec"}


def test_the_status_subresource_takes_status_only() -> None:
    """An apply to /status neither sets nor owns anything else."""
    live = applied(None, sandbox({"env": {"A": "1"}}))
    config = sandbox({"env": {"A": "2"}}, status={"phase": "Ready"}, labels={"x": "1"})

    after = applied(live, config, subresource="status")

    assert (after["spec"], after["metadata"]["labels"]) == (live["spec"], {})
    assert after["status"]["phase"] == "Ready"
    assert [
        (e.get("subresource", ""), e["fieldsV1"]) for e in after["metadata"]["managedFields"]
    ] == [
        ("", {"f:spec": {"f:env": {"f:A": {}}}}),
        ("status", {"f:status": {"f:phase": {}}}),
    ]


def test_conditions_of_status_are_keyed_by_type() -> None:
    """Two controllers keep a condition each."""

    def condition(type_: str) -> dict[str, str]:
        return {
            "type": type_, "status": "True", "reason": "Ok", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }  # fmt: skip

    live = applied(None, sandbox({}))
    live = applied(live, sandbox(status={"conditions": [condition("A")]}), subresource="status")
    live = applied(
        live, sandbox(status={"conditions": [condition("B")]}), "other", subresource="status"
    )

    after = applied(live, sandbox(status={"conditions": []}), subresource="status")

    assert [found["type"] for found in after["status"]["conditions"]] == ["B"]


def test_an_object_without_owners_belongs_to_before_first_apply() -> None:
    """What was there before anybody noted owners is not taken without force."""
    live = stored(sandbox({"env": {"A": "1"}}))

    with pytest.raises(FieldConflictError) as caught:
        applied(live, sandbox({"env": {"A": "2"}}))
    agreed = applied(live, sandbox({"env": {"A": "1"}}))

    assert [cause.manager for cause in caught.value.causes] == ["before-first-apply"]
    assert managers(agreed) == [("me", "Apply"), ("before-first-apply", "Update")]


def test_a_config_must_not_name_owners() -> None:
    """Kubernetes refuses managedFields in an apply; so does this."""
    with pytest.raises(InvalidSpecError) as caught:
        applied(None, sandbox({}, managedFields=[]))

    assert caught.value.message == "metadata.managedFields must be nil"


@pytest.mark.parametrize(
    ("ports", "field"),
    [
        pytest.param([WEB, WEB], "spec.ports", id="same-key-twice"),
        pytest.param([WEB, {"containerPort": 1}], "spec.ports[1]", id="no-key"),
        pytest.param(["web"], "spec.ports[0]", id="no-map"),
    ],
)
def test_items_that_cannot_be_told_apart_are_refused(ports: list[object], field: str) -> None:
    """Ownership of an item needs its key."""
    with pytest.raises(InvalidSpecError) as caught:
        applied(None, sandbox({"ports": ports}))

    assert caught.value.field == field


def test_annotations_only_is_a_config() -> None:
    """Kubectl keeps its own annotation with a second apply that has nothing else."""
    note = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    live = applied(None, sandbox({"env": {"A": "1"}}, annotations=note))

    after = applied(live, sandbox(annotations=note), "kubectl-last-applied")

    assert after["spec"] == live["spec"]
    assert owned(after, "kubectl-last-applied") == {
        ".metadata.annotations.kubectl.kubernetes.io/last-applied-configuration"
    }
