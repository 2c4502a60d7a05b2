"""What counts as known of one extension on one host."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sandboxer.extension import Observation, State, absent
from sandboxer.telemetry.inventory import Inventory


class StillClock:
    """Time that moves only when a test moves it."""

    now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def inventory() -> Inventory:
    return Inventory(StillClock())


def seen(uid: str, state: State = "Running") -> Observation:
    return Observation(uid=uid, state=state)


def test_nothing_is_known_at_first(inventory: Inventory) -> None:
    """Before the first look a sandbox is unknown, not absent."""
    view = inventory.view("a")

    assert view.observation is None
    assert view.unknown_reason


def test_not_listed_is_absent(inventory: Inventory) -> None:
    """After a complete look what is not listed is gone."""
    inventory.replace([seen("a")], inventory.begin())

    assert inventory.view("a").observation == seen("a")
    assert inventory.view("b").observation == absent("b")


def test_only_changes_are_told(inventory: Inventory) -> None:
    """A look that finds the same tells nobody; a change and a loss are told."""
    inventory.replace([seen("a"), seen("b"), seen("c")], inventory.begin())

    assert inventory.replace([seen("a"), seen("b"), seen("c")], inventory.begin()) == set()
    assert inventory.replace([seen("a", "Stopped"), seen("b")], inventory.begin()) == {"a", "c"}


def test_older_look_does_not_overwrite_a_younger(inventory: Inventory) -> None:
    """A look at the host that began first does not undo what a look at one sandbox saw since."""
    inventory.replace([seen("gone")], inventory.begin())
    whole = inventory.begin()
    inventory.put(seen("new"), inventory.begin())
    inventory.put(absent("gone"), inventory.begin())

    changed = inventory.replace([seen("gone")], whole)

    assert changed == set()
    assert inventory.view("new").observation == seen("new")
    assert inventory.view("gone").observation == absent("gone")


def test_later_look_wins_again(inventory: Inventory) -> None:
    """The next look at the host takes over."""
    inventory.put(seen("new"), inventory.begin())
    inventory.replace([], inventory.begin())

    assert inventory.view("new").observation == absent("new")


def test_older_look_at_one_sandbox_is_dropped(inventory: Inventory) -> None:
    """A look that began before the newest complete one says nothing new."""
    stamp = inventory.begin()
    inventory.replace([seen("a")], inventory.begin())

    assert not inventory.put(absent("a"), stamp)
    assert inventory.view("a").observation == seen("a")


def test_loss_makes_everything_unknown(inventory: Inventory) -> None:
    """While the host does not answer nothing is known, and everybody concerned is told."""
    inventory.replace([seen("a")], inventory.begin())

    assert inventory.lose("no answer") == {"a"}
    assert inventory.view("a").observation is None
    assert inventory.view("a").unknown_reason == "no answer"


def test_look_from_before_the_loss_is_dropped(inventory: Inventory) -> None:
    """An answer that was on its way when the host was lost does not count."""
    stamp = inventory.begin()
    inventory.lose("no answer")

    inventory.replace([seen("a")], stamp)

    assert inventory.view("a").observation is None


def test_who_asked_in_vain_is_told(inventory: Inventory) -> None:
    """Once it is known again, all who asked meanwhile are told, absent ones too."""
    inventory.view("absent-one")

    assert inventory.replace([seen("a")], inventory.begin()) == {"a", "absent-one"}


def test_doubt_concerns_one_sandbox(inventory: Inventory) -> None:
    """A failed look makes one sandbox unknown and leaves the others."""
    inventory.replace([seen("a"), seen("b")], inventory.begin())

    assert inventory.doubt("a", "timeout", inventory.begin())
    assert inventory.view("a").unknown_reason == "timeout"
    assert inventory.view("b").observation == seen("b")


def test_age_is_told() -> None:
    """A view says how old it is."""
    clock = StillClock()
    inventory = Inventory(clock)
    inventory.replace([seen("a")], inventory.begin())
    clock.now_s = 4.0

    assert inventory.view("a").age_s == 4.0


def test_short_ids_mean_what_was_seen(inventory: Inventory) -> None:
    """A hint by short id finds its sandbox once that was seen; a uid means itself in any case."""
    uid = "12345678-9abc-4def-8000-000000000000"
    before = inventory.named({"sbx-123456789abc", "u"})
    inventory.replace([seen(uid), seen("other")], inventory.begin())

    after = inventory.named({"sbx-123456789abc", "sbx-ffffffffffff", "u"})

    assert before == {"u"}
    assert after == {uid, "u"}
