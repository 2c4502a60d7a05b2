"""What holds for every object, config and manager."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sandboxer import fields
from sandboxer.fields import FieldConflictError, FieldSet
from tests.unit.fields.documents import (
    LATER,
    Document,
    applied,
    owned,
    sandbox,
    stored,
    written,
)

# No deadline: a busy machine is no mistake of ours.
law = settings(max_examples=40, deadline=None)

NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.sampled_from(["1", "2"])
TEXTS = st.dictionaries(NAMES, VALUES, max_size=3)
ENV = st.dictionaries(st.sampled_from(["A", "B", "C"]), VALUES, max_size=3)


def ports(names: st.SearchStrategy[str]) -> st.SearchStrategy[list[Document]]:
    port = st.builds(
        lambda name, number, service: {"name": name, "containerPort": number, **service},
        names,
        st.integers(1, 2),
        st.sampled_from([{}, {"service": "s"}, {"service": None}]),
    )
    return st.lists(port, max_size=3, unique_by=lambda item: str(item["name"]))


SPECS = st.fixed_dictionaries(
    {},
    optional={
        "env": ENV,
        "inputs": st.dictionaries(NAMES, st.sampled_from(["1", 1, 1.0, True]), max_size=2),
        "ports": ports(NAMES),
        "driftPolicy": st.sampled_from(["Repair", "Report"]),
        "lifetime": st.sampled_from([{}, {"ttl": "1h"}, {"ttl": None}]),
        "placement": st.fixed_dictionaries(
            {},
            optional={
                "host": st.sampled_from(["h1", "h2"]),
                "hostSelector": st.one_of(
                    st.just({}), st.fixed_dictionaries({"matchLabels": TEXTS})
                ),
            },
        ),
    },
)
METADATA = st.fixed_dictionaries(
    {},
    optional={
        "labels": TEXTS,
        "annotations": TEXTS,
        "finalizers": st.lists(NAMES, unique=True, max_size=2),
        "uid": st.just("u"),
        "generation": st.just(7),
    },
)
CONFIGS = st.builds(lambda spec, metadata: sandbox(spec, **metadata), SPECS, METADATA)
STEPS = st.lists(
    st.tuples(st.sampled_from(["apply", "write"]), st.sampled_from(["x", "y"]), CONFIGS), max_size=4
)

NEVER_OWNED = {
    "f:apiVersion", "f:kind", "f:metadata.f:name", "f:metadata.f:namespace", "f:metadata.f:uid",
    "f:metadata.f:generation", "f:metadata.f:managedFields", "f:metadata.f:resourceVersion",
}  # fmt: skip


def history(steps: list[tuple[str, str, Document]]) -> Document | None:
    """Return what is stored after these writes, the first of which makes the object."""
    live: Document | None = None
    for kind, manager, document in steps:
        if kind == "apply":
            live = applied(live, document, manager, force=True)
        else:
            live = written(live, document, manager)
    return live


def owners(document: Document) -> dict[tuple[str, str], set[str]]:
    entries = document["metadata"].get("managedFields", [])
    return {
        (entry["manager"], entry["operation"]): set(FieldSet.from_json(entry["fieldsV1"]).texts())
        for entry in entries
    }


@law
@given(STEPS, CONFIGS)
def test_applying_twice_is_applying_once(steps: list[Any], config: Document) -> None:
    """The second time neither content nor owners nor times change."""
    once = applied(history(steps), config, force=True)

    again = fields.apply(once, config, manager="me", force=False, now=LATER)

    assert stored(again.document) == once
    assert not again.changed


@law
@given(STEPS, CONFIGS)
def test_what_is_applied_is_there_and_owned(steps: list[Any], config: Document) -> None:
    """Applying the result of a forced apply as somebody else meets no conflict."""
    after = applied(history(steps), config, force=True)

    agreed = applied(after, config, "other")

    assert agreed["spec"] == after["spec"]
    assert owned(agreed, "other", "Apply") == owned(agreed, "me", "Apply")


@law
@given(STEPS, CONFIGS, CONFIGS)
def test_applying_less_takes_away_own_fields_only(
    steps: list[Any], config: Document, smaller: Document
) -> None:
    """What anybody else owned before is there with its value, unless the new config says other."""
    live = applied(history(steps), config, force=True)

    try:
        after = applied(live, smaller)
    except FieldConflictError:
        return

    before, now = owners(live), owners(after)
    for owner, paths in before.items():
        if owner != ("me", "Apply"):
            # An item goes with all that is in it; only who owns the item itself keeps it.
            lost = paths - now.get(owner, set())
            items = {path.partition("]")[0] for path in lost}
            assert all("[" in item and f"{item}]" not in paths for item in items)


@law
@given(STEPS, ENV, TEXTS)
def test_disjoint_managers_never_conflict(steps: list[Any], env: Any, labels: Any) -> None:
    """Each sets its own, again and again, and both survive."""
    one = sandbox({"env": {f"ONE_{name}": value for name, value in env.items()}})
    two = sandbox(labels={f"two-{name}": value for name, value in labels.items()})
    live = history(steps)

    live = applied(live, one, "one")
    live = applied(live, two, "two")
    live = applied(live, one, "one")

    assert one["spec"]["env"].items() <= live["spec"]["env"].items()
    assert two["metadata"]["labels"].items() <= live["metadata"]["labels"].items()


@law
@given(STEPS, CONFIGS, CONFIGS)
def test_the_loser_of_a_forced_apply_owns_it_no_more(
    steps: list[Any], config: Document, other: Document
) -> None:
    """Where the values differ, only who forced owns the field afterwards."""
    live = applied(history(steps), config, "loser", force=True)
    try:
        applied(live, other, "winner")
    except FieldConflictError as conflict:
        fought = {(cause.manager, cause.operation, cause.field) for cause in conflict.causes}

        after = applied(live, other, "winner", force=True)

        assert all(
            path not in owned(after, manager, operation) for manager, operation, path in fought
        )
        assert {path for _, _, path in fought} <= owned(after, "winner", "Apply")


@law
@given(STEPS, CONFIGS)
def test_owners_are_what_may_be_owned(steps: list[Any], config: Document) -> None:
    """No entry is empty, names what the server owns, or what is status."""
    after = applied(history(steps), config, force=True)

    for entry in after["metadata"].get("managedFields", []):
        paths = {".".join(path) for path in FieldSet.from_json(entry["fieldsV1"]).paths()}
        assert paths
        assert not paths & NEVER_OWNED
        assert not any(path.startswith("f:status") for path in paths)


@law
@given(STEPS, CONFIGS)
def test_field_sets_survive_json(steps: list[Any], config: Document) -> None:
    """What is written is what is read, in the same text."""
    after = applied(history(steps), config, force=True)

    for entry in after["metadata"].get("managedFields", []):
        tree = json.loads(json.dumps(entry["fieldsV1"]))
        assert json.dumps(FieldSet.from_json(tree).to_json()) == json.dumps(tree)


@law
@given(STEPS, CONFIGS)
def test_a_write_of_what_is_there_changes_no_owner(steps: list[Any], config: Document) -> None:
    """Whoever writes it."""
    live = applied(history(steps), config, force=True)

    assert written(live, live, "somebody", now=LATER) == live


_SETS: st.SearchStrategy[Any] = st.recursive(
    st.just({}), lambda inner: st.dictionaries(st.sampled_from([".", "f:a", "f:b", "f:c"]), inner)
)


@law
@given(_SETS, _SETS)
def test_sets_are_sets(one: Any, other: Any) -> None:
    """Union, intersection and difference are those of the paths."""
    left, right = ({**tree} for tree in (one, other))
    a, b = FieldSet.from_json(left), FieldSet.from_json(right)
    paths_a, paths_b = set(a.paths()), set(b.paths())

    assert set((a | b).paths()) == paths_a | paths_b
    assert set((a & b).paths()) == paths_a & paths_b
    assert set((a - b).paths()) == paths_a - paths_b
    assert set(a.without(b).paths()) == {
        path for path in paths_a if not any(path[:n] in paths_b for n in range(len(path) + 1))
    }
    assert all(a.has(path) for path in paths_a)
