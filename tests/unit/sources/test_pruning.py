"""The rules of safe pruning, one by one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sandboxer.kinds.host import Host, HostSpec
from sandboxer.kinds.meta import Key, ObjectMeta, Resource
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.sources.apply import LABEL_SOURCE
from sandboxer.sources.pruning import PRUNE_ANNOTATION, PrunePlan, plan_prune
from sandboxer.store import InventoryEntry

SOURCE = "specs-12345678"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def entry(name: str = "a") -> InventoryEntry:
    return InventoryEntry(Key("Sandbox", "default", name), f"uid-{name}", "0123456789abcdef")


def applied(name: str = "a", **metadata: Any) -> Sandbox:
    """Return a stored object as this source applied it, with some of its metadata otherwise."""
    fields = {"uid": f"uid-{name}", "labels": {LABEL_SOURCE: SOURCE}, **metadata}
    return Sandbox(
        metadata=ObjectMeta.model_validate({"name": name, "namespace": "default", **fields})
    )


def plan(*live: Resource, applied_count: int = 10, waited: bool = True, approved: bool = False,
         missing: list[InventoryEntry] | None = None) -> PrunePlan:  # fmt: skip
    """Return the plan when the manifests of these objects are gone."""
    missing = missing if missing is not None else [entry(obj.metadata.name) for obj in live]
    return plan_prune(
        missing=missing,
        live={obj.key: obj for obj in live},
        source=SOURCE,
        applied_count=applied_count,
        confirmed=frozenset(e.key for e in missing) if waited else frozenset(),
        approved=approved,
    )


def host_entry() -> InventoryEntry:
    return InventoryEntry(Key("Host", "", "h"), "uid-h", "0123456789abcdef")


def applied_host() -> Host:
    metadata = {"name": "h", "uid": "uid-h", "labels": {LABEL_SOURCE: SOURCE}}
    return Host(metadata=ObjectMeta.model_validate(metadata), spec=HostSpec(transport="local"))


def many(count: int) -> list[Sandbox]:
    return [applied(f"a{number}") for number in range(count)]


def test_nothing_missing_is_nothing_to_do() -> None:
    """A directory that holds everything takes nothing away."""
    assert plan() == PrunePlan()


def test_what_we_applied_and_is_gone_long_enough_goes() -> None:
    """The plain case: ours, the same object, missing twice."""
    assert plan(applied()) == PrunePlan(delete=(entry(),))


def test_what_is_missing_for_the_first_time_waits() -> None:
    """Once is not enough: an editor or a checkout may be at work."""
    assert plan(applied(), waited=False) == PrunePlan(wait=(entry(),))


def test_what_is_gone_already_is_released() -> None:
    """An object somebody else deleted needs no deletion."""
    assert plan(missing=[entry()]) == PrunePlan(release=(entry(),))


def test_a_namesake_is_not_ours() -> None:
    """An object made anew under the same name has another uid and is left alone."""
    assert plan(applied(uid="uid-of-another")) == PrunePlan(release=(entry(),))


def test_an_object_without_our_label_is_not_ours() -> None:
    """Whoever takes the label off takes the object over."""
    assert plan(applied(labels={})) == PrunePlan(release=(entry(),))
    assert plan(applied(labels={LABEL_SOURCE: "other-1"})) == PrunePlan(release=(entry(),))


def test_an_object_may_forbid_to_be_pruned() -> None:
    """`prune: disabled` keeps an object when its manifest goes; another value does not."""
    kept = plan(applied(annotations={PRUNE_ANNOTATION: "disabled"}))
    other = plan(applied(annotations={PRUNE_ANNOTATION: "enabled"}))

    assert kept == PrunePlan(release=(entry(),))
    assert other.delete == (entry(),)


def test_an_object_on_its_way_out_is_waited_for() -> None:
    """What is being deleted stays in the inventory until it is gone."""
    leaving = applied(deletion_timestamp=NOW, finalizers=("x",))

    assert plan(leaving) == PrunePlan(wait=(entry(),))


def test_five_may_go_unasked_and_six_may_not() -> None:
    """The brake holds everything, not only what is too much."""
    five, six = plan(*many(5)), plan(*many(6))

    assert len(five.delete) == 5
    assert (six.delete, len(six.wait)) == ((), 6)
    assert "6 of 10" in six.blocked


def test_of_many_a_share_may_go() -> None:
    """Of a large directory thirty percent is no accident."""
    assert len(plan(*many(30), applied_count=100).delete) == 30
    assert plan(*many(31), applied_count=100).delete == ()


def test_an_approval_lifts_the_brake_but_not_the_wait() -> None:
    """A person may say that many go, not that they go at once."""
    assert len(plan(*many(10), approved=True).delete) == 10
    assert len(plan(*many(10), approved=True, waited=False).wait) == 10


def test_only_what_would_be_deleted_counts_for_the_brake() -> None:
    """Objects that are kept, gone or on their way out do not use up what may go unasked."""
    kept = [applied(f"k{n}", annotations={PRUNE_ANNOTATION: "disabled"}) for n in range(9)]
    leaving = [applied(f"l{n}", deletion_timestamp=NOW, finalizers=("x",)) for n in range(9)]

    found = plan(applied(), *kept, *leaving, applied_count=19)

    assert found.delete == (entry(),)
    assert (len(found.wait), len(found.release), found.blocked) == (9, 9, "")


def test_a_brake_does_not_hold_what_is_no_longer_ours() -> None:
    """Released entries leave the inventory also while deletions are held."""
    found = plan(*many(6), missing=[*(entry(f"a{n}") for n in range(6)), entry("gone")])

    assert found.release == (entry("gone"),)
    assert found.blocked


def test_a_host_stays_while_a_sandbox_of_the_directory_is_going() -> None:
    """A sandbox is torn down through its host, so the host is the last to go."""
    missing = [host_entry(), entry()]

    together = plan(applied_host(), applied(), missing=missing)
    leaving = plan(
        applied_host(), applied(deletion_timestamp=NOW, finalizers=("x",)), missing=missing
    )
    alone = plan(applied_host(), missing=missing)

    assert (together.delete, together.wait) == ((entry(),), (host_entry(),))
    assert (leaving.delete, leaving.wait) == ((), (entry(), host_entry()))
    assert (alone.delete, alone.release) == ((host_entry(),), (entry(),))
