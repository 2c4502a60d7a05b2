"""The rules of writing, on documents in memory."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from sandboxer.errors import ConflictError, InvalidSpecError, NotFoundError
from sandboxer.kinds.event import Event, ObjectReference
from sandboxer.kinds.host import Host, HostSpec
from sandboxer.kinds.meta import FINALIZER, ManagedFieldsEntry, ObjectMeta
from sandboxer.kinds.sandbox import Sandbox, SandboxSpec, SandboxStatus
from sandboxer.store import rules
from sandboxer.store.operations import Adopt, Create, Delete, Operation, Update, UpdateStatus
from sandboxer.store.rules import Verdict

NOW = "2026-01-01T00:00:00Z"
LATER = "2026-01-01T00:00:05Z"


def judged(operation: Operation, stored: dict[str, Any] | None, now: str = LATER) -> Verdict:
    return rules.judge(rules.prepare(operation), stored, now)


def stored(**metadata: Any) -> dict[str, Any]:
    """A Sandbox as it is stored, at version 7."""
    created = judged(Create(Sandbox(metadata=ObjectMeta(name="a", **metadata))), None, NOW)
    created.document["metadata"]["resourceVersion"] = "7"
    return created.document


def read(document: dict[str, Any]) -> Sandbox:
    return Sandbox.parse(document)


def with_metadata(obj: Sandbox, **changes: Any) -> Sandbox:
    return obj.model_copy(update={"metadata": obj.metadata.model_copy(update=changes)})


def test_created_metadata() -> None:
    """The store gives uid, generation 1 and the time; what the author wrote there is ignored."""
    wanted = ObjectMeta(name="a", uid="mine", generation=9)

    verdict = judged(Create(Sandbox(metadata=wanted)), None, NOW)

    metadata = verdict.document["metadata"]
    assert verdict.change == "ADDED"
    assert len(metadata["uid"]) == 36
    assert (metadata["generation"], metadata["creationTimestamp"]) == (1, NOW)
    assert metadata["namespace"] == "default"


def test_created_status() -> None:
    """A status given at creation is ignored."""
    obj = Sandbox(metadata=ObjectMeta(name="a"), status=SandboxStatus(phase="Ready"))

    assert judged(Create(obj), None).document["status"]["phase"] == "Pending"


def lost(**metadata: Any) -> Sandbox:
    """Return a Sandbox as it is rebuilt after its store was lost."""
    known = {"uid": "u", "creation_timestamp": datetime(2025, 1, 1, tzinfo=UTC), **metadata}
    status = SandboxStatus(phase="Ready", host="h1")
    return Sandbox(metadata=ObjectMeta(name="a", finalizers=(FINALIZER,), **known), status=status)


def test_adopted_keeps_what_it_had() -> None:
    """Uid, age, finalizers and status of an adopted object are stored in one write."""
    verdict = judged(Adopt(lost(generation=9)), None)

    metadata = verdict.document["metadata"]
    assert verdict.change == "ADDED"
    assert (metadata["uid"], metadata["generation"]) == ("u", 1)
    assert metadata["creationTimestamp"] == "2025-01-01T00:00:00Z"
    assert (metadata["finalizers"], metadata["namespace"]) == ([FINALIZER], "default")
    assert verdict.document["status"]["host"] == "h1"


def test_adopt_existing() -> None:
    """What has the name by now keeps it."""
    with pytest.raises(ConflictError) as caught:
        judged(Adopt(lost()), stored())

    assert caught.value.reason == "AlreadyExists"


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"uid": ""}, id="no uid"),
        pytest.param({"creation_timestamp": None}, id="no age"),
        pytest.param({"resource_version": "1"}, id="stored elsewhere"),
    ],
)
def test_adopt_needs_an_identity(metadata: dict[str, Any]) -> None:
    """An object without identity is created, not adopted."""
    with pytest.raises(InvalidSpecError):
        judged(Adopt(lost(**metadata)), None)


def test_create_existing() -> None:
    """An object that exists cannot be created again."""
    with pytest.raises(ConflictError) as caught:
        judged(Create(Sandbox(metadata=ObjectMeta(name="a"))), stored())

    assert caught.value.reason == "AlreadyExists"
    assert "Sandbox default/a" in caught.value.message


@pytest.mark.parametrize(
    ("operation", "field"),
    [
        pytest.param(
            Create(Sandbox(metadata=ObjectMeta(name="a", resource_version="1"))),
            "metadata.resourceVersion",
            id="create-with-version",
        ),
        pytest.param(
            Update(Sandbox(metadata=ObjectMeta(name="a"))),
            "metadata.resourceVersion",
            id="update-without-version",
        ),
        pytest.param(
            UpdateStatus(Sandbox(metadata=ObjectMeta(name="a"))),
            "metadata.resourceVersion",
            id="status-without-version",
        ),
        pytest.param(
            Create(Host(metadata=ObjectMeta(name="h", namespace="x"), spec=HostSpec(address="h"))),
            "metadata.namespace",
            id="cluster-scoped-with-namespace",
        ),
        pytest.param(
            Create(Sandbox(metadata=ObjectMeta(name="a", annotations={"a": "x" * 2**18}))),
            "metadata.annotations",
            id="annotations-too-big",
        ),
        pytest.param(
            UpdateStatus(
                Event(
                    metadata=ObjectMeta(name="a", resource_version="1"),
                    involved_object=ObjectReference(kind="Sandbox", name="a"),
                    reason="Made",
                )
            ),
            "status",
            id="status-of-a-kind-without",
        ),
    ],
)
def test_refused_form(operation: Operation, field: str) -> None:
    """A write of the wrong form is refused with the field that is wrong."""
    with pytest.raises(InvalidSpecError) as caught:
        rules.prepare(operation)

    assert caught.value.field == field


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(
            Update(Sandbox(metadata=ObjectMeta(name="a", resource_version="1"))), id="update"
        ),
        pytest.param(Delete(Sandbox, "a"), id="delete"),
    ],
)
def test_missing_object(operation: Operation) -> None:
    """What is not there cannot be changed."""
    with pytest.raises(NotFoundError):
        judged(operation, None)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"resource_version": "6"}, id="older-version"),
        pytest.param({"uid": "00000000-0000-4000-8000-000000000000"}, id="namesake"),
    ],
)
@pytest.mark.parametrize("operation", [Update, UpdateStatus])
def test_lost_race(operation: type[Update | UpdateStatus], changes: dict[str, str]) -> None:
    """An object that was changed or replaced since it was read is not overwritten."""
    document = stored()

    with pytest.raises(ConflictError) as caught:
        judged(operation(with_metadata(read(document), **changes)), document)

    assert caught.value.reason == "Conflict"
    assert "Sandbox default/a" in caught.value.message


def test_update_leaves_status_alone() -> None:
    """An update takes spec, labels, annotations and finalizers, and nothing of the status."""
    document = stored()
    obj = with_metadata(read(document), labels={"l": "1"}, generation=55)
    obj = obj.model_copy(
        update={"spec": SandboxSpec(env={"A": "1"}), "status": SandboxStatus(phase="Ready")}
    )

    verdict = judged(Update(obj), document)

    assert verdict.document["status"] == document["status"]
    assert verdict.document["spec"]["env"] == {"A": "1"}
    assert verdict.document["metadata"]["labels"] == {"l": "1"}
    assert verdict.document["metadata"]["generation"] == 2


def test_labels_keep_the_generation() -> None:
    """A change of labels alone does not move the generation."""
    document = stored()

    verdict = judged(Update(with_metadata(read(document), labels={"l": "1"})), document)

    assert verdict.change == "MODIFIED"
    assert verdict.document["metadata"]["generation"] == 1


def test_status_leaves_the_rest_alone() -> None:
    """A status write takes the status and nothing else."""
    document = stored()
    obj = with_metadata(read(document), labels={"l": "1"}, finalizers=("x/y",))
    obj = obj.model_copy(
        update={"spec": SandboxSpec(env={"A": "1"}), "status": SandboxStatus(phase="Ready")}
    )

    verdict = judged(UpdateStatus(obj), document)

    assert verdict.document == {**document, "status": obj.status.to_document()}


@pytest.mark.parametrize("operation", [Update, UpdateStatus])
def test_noop(operation: type[Update | UpdateStatus]) -> None:
    """Writing what is there already changes nothing."""
    document = stored(labels={"l": "1"}, finalizers=("x/y",))

    assert judged(operation(read(document)), document) == Verdict(None, document)


def test_delete_without_finalizers() -> None:
    """An object without finalizers goes at once, and its last document is told."""
    document = stored()

    assert judged(Delete(Sandbox, "a"), document) == Verdict("DELETED", document)


def test_delete_with_finalizers() -> None:
    """An object with finalizers is marked once, which moves its generation, and stays."""
    document = stored(finalizers=(FINALIZER,))

    first = judged(Delete(Sandbox, "a"), document)
    second = judged(Delete(Sandbox, "a"), first.document, "2026-01-01T00:00:09Z")

    metadata = first.document["metadata"]
    assert first.change == "MODIFIED"
    assert (metadata["deletionTimestamp"], metadata["generation"]) == (LATER, 2)
    assert second == Verdict(None, first.document)


def test_last_finalizer() -> None:
    """An update that empties the finalizers of a deleting object removes it."""
    document = judged(Delete(Sandbox, "a"), stored(finalizers=(FINALIZER,))).document

    assert (
        judged(Update(with_metadata(read(document), finalizers=())), document).change == "DELETED"
    )


def test_finalizer_added_while_deleting() -> None:
    """A deleting object takes no further finalizer, and its deletion cannot be undone."""
    document = judged(Delete(Sandbox, "a"), stored(finalizers=(FINALIZER,))).document

    undone = judged(
        Update(with_metadata(read(document), deletion_timestamp=None, labels={"l": "1"})), document
    )
    with pytest.raises(InvalidSpecError):
        judged(Update(with_metadata(read(document), finalizers=(FINALIZER, "x/y"))), document)

    assert undone.document["metadata"]["deletionTimestamp"] == LATER


def test_deletion_adds_finalizers() -> None:
    """Finalizers that come with a deletion hold the object, and are added once, even later."""
    orphaning = Delete(Sandbox, "a", finalizers=("orphan",))

    free = judged(orphaning, stored())
    held = judged(Delete(Sandbox, "a"), stored(finalizers=(FINALIZER,)))
    later = judged(orphaning, held.document)
    again = judged(orphaning, later.document)

    assert (free.change, free.document["metadata"]["finalizers"]) == ("MODIFIED", ["orphan"])
    assert free.document["metadata"]["deletionTimestamp"] == LATER
    assert later.document["metadata"]["finalizers"] == [FINALIZER, "orphan"]
    assert later.document["metadata"]["generation"] == 2
    assert again.change is None


def test_status_with_its_owners() -> None:
    """Who wrote a status is only noted when the writer says so, and nothing else of metadata is."""
    document = stored()
    entry = ManagedFieldsEntry(manager="m", operation="Update", api_version="v1")
    obj = with_metadata(read(document), managed_fields=(entry,), labels={"l": "1"})

    plain = judged(UpdateStatus(obj), document)
    noted = judged(UpdateStatus(obj, owners=True), document)
    bare = with_metadata(read(noted.document), managed_fields=())
    forgotten = judged(UpdateStatus(bare, owners=True), noted.document)
    kept = judged(UpdateStatus(bare), noted.document)

    assert (plain.change, kept.change) == (None, None)
    assert noted.document["metadata"]["managedFields"][0]["manager"] == "m"
    assert noted.document["metadata"]["labels"] == {}
    assert (forgotten.change, forgotten.document) == ("MODIFIED", document)


@pytest.mark.parametrize(
    "deletion",
    [
        pytest.param(Delete(Sandbox, "a", uid="00000000-0000-4000-8000-000000000000"), id="uid"),
        pytest.param(Delete(Sandbox, "a", resource_version="6"), id="version"),
    ],
)
def test_delete_preconditions(deletion: Delete) -> None:
    """A deletion meant for another object, or another version of it, is refused."""
    with pytest.raises(ConflictError):
        judged(deletion, stored())


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"phase": "Splendid"}, id="unknown-value"),
        pytest.param({"host": "\ud800"}, id="lone-surrogate"),
        pytest.param({"host": "x" * rules.MAX_DOCUMENT_BYTES}, id="too-big"),
    ],
)
def test_unreadable_is_not_encoded(change: dict[str, str]) -> None:
    """What could not be read back, or is too big, is refused before it is stored."""
    document = stored()
    key = read(document).key

    with pytest.raises(InvalidSpecError):  # noqa: PT012 - either may find it
        body = rules.encode(key, {**document, "status": {**document["status"], **change}})
        rules.read_back(Sandbox, key, body)
