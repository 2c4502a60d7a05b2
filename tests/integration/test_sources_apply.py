"""Applying manifests to a real store: what is set, what is kept, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandboxer.clock import SystemClock
from sandboxer.errors import InvalidSpecError
from sandboxer.fields import FieldSet
from sandboxer.kinds.meta import API_VERSION
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.sources.apply import (
    LABEL_SOURCE,
    Applied,
    ApplyError,
    apply_resources,
    diff_resources,
)
from sandboxer.store import Store
from sandboxer.testing import builders

SOURCE = "specs-12345678"


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


def owned(store: Store, manager: str = "sandboxer", name: str = "a") -> set[str]:
    """Return the paths that a manager owns of the stored object."""
    entries = stored(store, name).metadata.managed_fields
    return {
        path
        for entry in entries
        if entry.manager == manager
        for path in FieldSet.from_json(entry.fields_v1).texts()
    }


async def apply(
    store: Store, *manifests: Sandbox, source: str = "", **options: Any
) -> list[Applied]:
    """Apply as a person, or as the directory *source* does."""
    as_source = {"manager": f"source:{source}", "force": True} if source else {}
    return await apply_resources(store, manifests, source=source, **{**as_source, **options})


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


async def test_what_a_manifest_drops_goes_away(store: Store) -> None:
    """What the manifest no longer says is not said by the object either; a default comes back."""
    await apply(store, manifest(env={"X": "1"}, driftPolicy="Report"))

    await apply(store, manifest(env={"Y": "2"}))

    assert stored(store).spec == manifest(env={"Y": "2"}).spec


async def test_only_what_is_written_is_owned(store: Store) -> None:
    """Defaults of a model are nobody's, also inside of maps and lists."""
    placed = {"hostSelector": {"matchLabels": {"gpu": "yes"}}}
    port = {"name": "web", "containerPort": 80}
    await apply(
        store,
        manifest(labels={"x": "1"}, env={"A": "1"}, inputs={}, placement=placed, ports=[port]),
    )

    assert owned(store) == {
        ".metadata.labels.x",
        ".spec.env.A",
        ".spec.inputs",
        ".spec.placement.hostSelector.matchLabels.gpu",
        '.spec.ports[name="web"]',
        '.spec.ports[name="web"].name',
        '.spec.ports[name="web"].containerPort',
    }


async def test_a_written_null_is_not_written(store: Store) -> None:
    """`ttl:` with nothing behind it, as YAML has it, says nothing and owns nothing."""
    await apply(store, manifest(lifetime={"ttl": "1h"}))

    await apply(store, manifest(lifetime={"ttl": None}))

    assert stored(store).spec.lifetime.ttl is None
    assert owned(store) == {".spec.lifetime"}


async def test_what_others_added_stays(store: Store) -> None:
    """A label, an entry of a map and an item of a list that a manifest does not name are kept."""
    ours = {"name": "web", "containerPort": 80}
    await apply(store, manifest(labels={"ours": "1"}, env={"OURS": "1"}, ports=[ours]))
    theirs = {"name": "debug", "containerPort": 90}
    await apply(
        store, manifest(labels={"x": "1"}, env={"X": "1"}, ports=[theirs]), manager="somebody"
    )

    await apply(store, manifest(env={"OURS": "2"}))

    assert stored(store).metadata.labels == {"x": "1"}
    assert stored(store).spec.env == {"OURS": "2", "X": "1"}
    assert [port.name for port in stored(store).spec.ports] == ["debug"]


async def test_what_nobody_owns_stays(store: Store) -> None:
    """The controller notes no owner for what it writes; a manifest takes away its own only."""
    await apply(store, manifest(labels={"ours": "1"}, annotations={"ours": "1"}))
    meta = stored(store).metadata
    await changed_by_hand(
        store,
        labels={**meta.labels, "theirs": "1"},
        annotations={**meta.annotations, "theirs": "1"},
    )

    await apply(store, manifest())

    assert stored(store).metadata.labels == {"theirs": "1"}
    assert stored(store).metadata.annotations == {"theirs": "1"}


async def test_two_people_do_not_overwrite_each_other(store: Store) -> None:
    """A field of another manager is refused with its name and owner, the other manifests apply."""
    await apply(store, manifest(env={"A": "1"}), manifest("b"), manager="somebody")

    with pytest.raises(ApplyError) as caught:
        await apply(store, manifest(env={"A": "2"}), manifest("b", env={"A": "2"}))

    (refusal,) = caught.value.refused.values()
    assert refusal.reason == "FieldConflict"
    assert 'conflict with "somebody": .spec.env.A' in refusal.message
    assert stored(store).spec.env == {"A": "1"}
    assert stored(store, "b").spec.env == {"A": "2"}


async def test_force_takes_a_field_for_good(store: Store) -> None:
    """Who forced it owns it alone, so that the loser's next apply is the one that is refused."""
    await apply(store, manifest(env={"A": "1"}), manager="somebody")

    await apply(store, manifest(env={"A": "2"}), force=True)

    assert stored(store).spec.env == {"A": "2"}
    assert owned(store, "somebody") == set()
    with pytest.raises(ApplyError):
        await apply(store, manifest(env={"A": "1"}), manager="somebody")


async def test_a_dry_run_tells_and_writes_nothing(store: Store) -> None:
    """The answer is that of the apply, the store stays as it is."""
    await apply(store, manifest("a", env={"X": "1"}))
    revision = store.revision

    told = await apply(store, manifest("a", env={"X": "2"}), manifest("b"), dry_run=True)

    assert [one.result for one in told] == ["configured", "created"]
    would_be = told[0].resource
    assert isinstance(would_be, Sandbox)
    assert would_be.spec.env == {"X": "2"}
    assert (store.revision, stored(store).spec.env) == (revision, {"X": "1"})


async def test_an_object_without_owners_is_replaced_once(store: Store) -> None:
    """What an earlier version or the controller made has no owners; the first apply takes its spec."""
    note = {"sandboxer.dev/last-applied": '{"labels": ["x"]}', "kept": "1"}
    old = manifest(labels={"x": "1"}, annotations=note, env={"OLD": "1"})
    await store.create(old)

    (first,) = await apply(store, manifest(env={"NEW": "1"}))
    (again,) = await apply(store, manifest(env={"NEW": "1"}))

    assert (first.result, again.result) == ("configured", "unchanged")
    assert stored(store).spec.env == {"NEW": "1"}
    assert stored(store).metadata.annotations == {"kept": "1"}
    assert stored(store).metadata.labels == {"x": "1"}
    assert owned(store) == {".spec.env.NEW"}


async def test_a_printed_object_can_be_applied_again(store: Store) -> None:
    """`get -o yaml` into `apply -f` changes nothing but who owns what."""
    await apply(store, manifest(labels={"ours": "1"}), source=SOURCE)
    before = stored(store)

    (applied,) = await apply(store, Sandbox.parse(before.to_document()))
    revision = store.revision
    await apply(store, Sandbox.parse(before.to_document()))

    after = stored(store)
    assert applied.result == "unchanged"
    assert (after.spec, after.metadata.labels) == (before.spec, before.metadata.labels)
    assert store.revision == revision


async def test_an_apply_never_touches_finalizers(store: Store) -> None:
    """A printed object names the controller's finalizer; leaving it out later must not remove it."""
    await apply(store, manifest())
    await changed_by_hand(store, finalizers=("sandboxer.dev/teardown",))
    await apply(store, Sandbox.parse(stored(store).to_document()))

    await apply(store, manifest())

    assert stored(store).metadata.finalizers == ("sandboxer.dev/teardown",)


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
    """A person may set what the directory does not name, and the object stays the directory's."""
    await apply(store, manifest(env={"X": "1"}), source=SOURCE)

    await apply(store, manifest(env={"Y": "2"}))
    (again,) = await apply(store, manifest(env={"X": "1"}), source=SOURCE)

    assert again.result == "unchanged"
    assert stored(store).spec.env == {"X": "1", "Y": "2"}
    assert stored(store).metadata.labels[LABEL_SOURCE] == SOURCE


async def test_a_directory_wins_over_hand_edits_of_what_it_names(store: Store) -> None:
    """A person is refused without force, and put back with it."""
    await apply(store, manifest(env={"X": "1"}), source=SOURCE)
    with pytest.raises(ApplyError):
        await apply(store, manifest(env={"X": "2"}))
    await apply(store, manifest(env={"X": "2", "Y": "2"}), force=True)
    forced = stored(store).spec.env

    await apply(store, manifest(env={"X": "1"}), source=SOURCE)

    assert forced == {"X": "2", "Y": "2"}
    assert stored(store).spec.env == {"X": "1", "Y": "2"}


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
    assert not any("resourceVersion" in line or "managedFields" in line for line in changed)
