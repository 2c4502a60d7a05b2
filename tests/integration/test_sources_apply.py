"""Applying manifests to a real store: what is set, what is kept, what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sandboxer.clock import SystemClock
from sandboxer.errors import InvalidSpecError
from sandboxer.kinds.meta import API_VERSION
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.sources.apply import (
    LABEL_SOURCE,
    LAST_APPLIED,
    Applied,
    ApplyError,
    apply_resources,
    diff_resources,
)
from sandboxer.store import Store
from sandboxer.testing import builders

SOURCE = "specs-12345678"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "store.db", clock=SystemClock())
    yield opened
    await opened.close()


def manifest(
    name: str = "a", *, labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None, **spec: Any,
) -> Sandbox:  # fmt: skip
    metadata = {"name": name, "labels": labels or {}, "annotations": annotations or {}}
    return Sandbox.parse(
        {"apiVersion": API_VERSION, "kind": "Sandbox", "metadata": metadata, "spec": spec}
    )


def stored(store: Store, name: str = "a") -> Sandbox:
    found = store.get(Sandbox, name, "default")
    assert found is not None
    return found


def own(mapping: dict[str, str]) -> dict[str, str]:
    """Return what is not ours of labels or annotations."""
    return {key: value for key, value in mapping.items() if key not in (LAST_APPLIED, LABEL_SOURCE)}


async def apply(store: Store, *manifests: Sandbox, source: str = "") -> list[Applied]:
    return await apply_resources(store, manifests, source=source)


async def changed_by_hand(store: Store, **update: Any) -> Sandbox:
    """Change metadata of the stored object as somebody else would."""
    obj = stored(store)
    return await store.update(
        obj.model_copy(update={"metadata": obj.metadata.model_copy(update=update)})
    )


async def test_created_then_unchanged_then_configured(store: Store) -> None:
    """An apply says what it did, and a repeated one writes nothing."""
    created = await apply(store, manifest(env={"X": "1"}))
    revision = store.revision
    again = await apply(store, manifest(env={"X": "1"}))
    unchanged_revision = store.revision
    changed = await apply(store, manifest(env={"X": "2"}))

    assert [one[0].result for one in (created, again, changed)] == [
        "created",
        "unchanged",
        "configured",
    ]
    assert unchanged_revision == revision
    assert stored(store).spec.env == {"X": "2"}
    assert stored(store).metadata.generation == 2


async def test_numbers_and_truth_values_are_told_apart(store: Store) -> None:
    """`1`, `1.0` and `true` are equal in Python and different in a manifest."""
    for value in (1, True, 1.0):
        await apply(store, manifest(inputs={"x": value}))

        found = stored(store).spec.inputs["x"]
        assert (found, type(found)) == (value, type(value))


async def test_spec_is_replaced_not_merged(store: Store) -> None:
    """What the manifest no longer says is not said by the object either."""
    await apply(store, manifest(env={"X": "1"}, driftPolicy="Report"))

    await apply(store, manifest(env={"Y": "2"}))

    assert stored(store).spec == manifest(env={"Y": "2"}).spec


async def test_labels_are_merged_three_ways(store: Store) -> None:
    """Ours are set and removed with the manifest; those of others stay."""
    await apply(store, manifest(labels={"ours": "1", "dropped": "1"}, annotations={"note": "1"}))
    meta = stored(store).metadata
    await changed_by_hand(
        store,
        labels={**meta.labels, "theirs": "1", "ours": "by-hand"},
        annotations={**meta.annotations, "theirs": "1"},
    )

    await apply(store, manifest(labels={"ours": "2"}))

    assert own(stored(store).metadata.labels) == {"ours": "2", "theirs": "1"}
    assert own(stored(store).metadata.annotations) == {"theirs": "1"}


async def test_a_label_somebody_else_set_is_not_removed_with_ours(store: Store) -> None:
    """Only what an apply set before can an apply take away."""
    await apply(store, manifest())
    await changed_by_hand(store, labels={"theirs": "1"})

    await apply(store, manifest(labels={"ours": "1"}))
    await apply(store, manifest())

    assert own(stored(store).metadata.labels) == {"theirs": "1"}


@pytest.mark.parametrize("note", ["", "[", "[]", "7", '{"labels": {"a": 1}}', '{"labels": [[1]]}'])
async def test_a_note_that_was_tampered_with_removes_nothing(store: Store, note: str) -> None:
    """The annotation is anybody's text; nonsense in it means nothing was noted."""
    await apply(store, manifest(labels={"ours": "1"}))
    await changed_by_hand(store, annotations={LAST_APPLIED: note})

    await apply(store, manifest())

    assert own(stored(store).metadata.labels) == {"ours": "1"}


async def test_a_printed_object_can_be_applied_again(store: Store) -> None:
    """`get -o yaml` into `apply -f` changes nothing: bookkeeping and status are not the author's."""
    await apply(store, manifest(labels={"ours": "1"}), source=SOURCE)
    before = stored(store)

    (applied,) = await apply(store, Sandbox.parse(before.to_document()))

    assert applied.result == "unchanged"
    assert stored(store) == before


async def test_an_object_that_is_being_deleted_is_refused(store: Store) -> None:
    """It cannot come back before it is gone; the others are applied."""
    await apply(store, manifest("a"))
    await changed_by_hand(store, finalizers=("sandboxer.dev/teardown",))
    await store.delete(Sandbox, "a", "default")

    with pytest.raises(ApplyError) as caught:
        await apply(store, manifest("a"), manifest("b"))

    assert [error.reason for error in caught.value.refused.values()] == ["BeingDeleted"]
    assert [applied.key.name for applied in caught.value.applied] == ["b"]


async def test_two_sources_do_not_fight(store: Store) -> None:
    """The first source keeps the object, the second one is told."""
    await apply(store, manifest(env={"X": "1"}), source=SOURCE)

    with pytest.raises(ApplyError) as caught:
        await apply(store, manifest(env={"X": "2"}), source="other-1")

    assert [error.reason for error in caught.value.refused.values()] == ["OtherSource"]
    assert stored(store).spec.env == {"X": "1"}


async def test_an_apply_by_hand_does_not_take_an_object_from_its_source(store: Store) -> None:
    """A person may edit what a directory holds, and it stays the directory's."""
    await apply(store, manifest(), source=SOURCE)

    await apply(store, manifest(env={"X": "2"}))

    assert stored(store).metadata.labels[LABEL_SOURCE] == SOURCE


async def test_an_object_made_by_hand_is_adopted_once(store: Store) -> None:
    """A source that describes what is there already takes it over and says so."""
    await apply(store, manifest())

    (adopted,) = await apply(store, manifest(), source=SOURCE)
    (again,) = await apply(store, manifest(), source=SOURCE)

    assert (adopted.result, adopted.adopted) == ("configured", True)
    assert (again.result, again.adopted) == ("unchanged", False)
    assert stored(store).metadata.generation == 1


async def test_a_manifest_cannot_claim_a_source(store: Store) -> None:
    """Our marks in a manifest are not its author's to set."""
    await apply(store, manifest(labels={LABEL_SOURCE: "other-1"}))

    assert LABEL_SOURCE not in stored(store).metadata.labels


async def test_described_twice_applies_nothing(store: Store) -> None:
    """Neither of two manifests of one object wins, with or without its default namespace."""
    placed = manifest().model_copy(
        update={"metadata": manifest().metadata.model_copy(update={"namespace": "default"})}
    )

    with pytest.raises(InvalidSpecError):
        await apply(store, manifest(), placed, manifest("b"))

    assert store.list(Sandbox) == []


async def test_a_write_in_between_is_read_and_applied_over(store: Store, tmp_path: Path) -> None:
    """Another process writes between our read and our write; the manifest holds all the same."""
    await apply(store, manifest(env={"X": "1"}))
    other = await Store.open(tmp_path / "store.db", clock=SystemClock())
    for number in range(5):
        obj = stored(other)
        labels = {"theirs": str(number)}
        await other.update(
            obj.model_copy(update={"metadata": obj.metadata.model_copy(update={"labels": labels})})
        )

        await apply(store, manifest(env={"X": f"by us {number}"}))

        assert stored(store).metadata.labels == labels
        assert stored(store).spec.env == {"X": f"by us {number}"}
        await apply(other, manifest(env={"X": f"by them {number}"}))
    await other.close()


async def test_what_others_need_is_applied_first(store: Store) -> None:
    """A profile and a host stand in the store before the sandbox that names them."""
    resources = [builders.sandbox("s"), builders.profile("p"), builders.host("h")]

    applied = await apply_resources(store, resources)

    revisions = [int(entry.resource.metadata.resource_version) for entry in applied]
    assert [entry.key.name for entry in applied] == ["s", "p", "h"]
    assert revisions[2] < revisions[1] < revisions[0]


async def test_a_diff_shows_what_an_apply_does_and_writes_nothing(store: Store) -> None:
    """Nothing to change is no difference; bookkeeping is not shown."""
    await apply(store, manifest("a", labels={"x": "1"}, env={"X": "1"}))
    revision = store.revision

    same = diff_resources(store, [manifest("a", labels={"x": "1"}, env={"X": "1"})])
    differences = diff_resources(store, [manifest("a", env={"X": "2"}), manifest("b")])

    assert same == []
    assert store.revision == revision
    changed, created = (difference.text.splitlines() for difference in differences)
    assert {"-    x: '1'", "-    X: '1'", "+    X: '2'"} <= set(changed)
    assert created[0] == "--- /dev/null"
    assert not any("resourceVersion" in line or LAST_APPLIED in line for line in changed)
