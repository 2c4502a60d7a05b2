"""The objects in memory."""

from __future__ import annotations

import gc

import pytest

from sandboxer.kinds.meta import Key
from sandboxer.store.cache import Cache
from sandboxer.store.entries import Change, Entry


def entry(name: str, revision: int, labels: dict[str, str] | None = None) -> Entry:
    key = Key("Sandbox", "default", name)
    return Entry(key, f"uid-{name}", revision, 1, labels or {}, deleting=False, body=b"{}")


def test_entries_come_back_equal() -> None:
    """What is packed comes out as it went in."""
    known = entry("a", 3, {"x": "1", "y": "2"})

    cache = Cache(3, [known])

    assert cache.get(known.key) == known
    assert list(cache.entries("Sandbox")) == [known]
    assert list(cache.entries("Sandbox", "elsewhere")) == []
    assert list(cache.entries("Host")) == []


def test_changes_are_followed() -> None:
    """Additions, modifications and deletions are followed, and the revision with them."""
    cache = Cache(1, [entry("a", 1)])

    cache.apply(Change("ADDED", entry("b", 2), 2))
    cache.apply(Change("MODIFIED", entry("a", 3), 3))
    cache.apply(Change("DELETED", entry("b", 4), 4))

    assert cache.revision == 4
    assert list(cache) == [entry("a", 3)]


def test_order_is_kept() -> None:
    """A change that comes out of order is a bug and is not swallowed."""
    cache = Cache(5, [])

    with pytest.raises(AssertionError):
        cache.apply(Change("ADDED", entry("a", 5), 5))


def test_replacement_tells_older_changes_first() -> None:
    """Who resumes from the last version it was told has missed nothing before it."""
    cache = Cache(1, [])

    changes = cache.replace(Cache(9, [entry("c", 9), entry("a", 7), entry("b", 8)]))

    assert [change.entry.revision for change in changes] == [7, 8, 9]


def test_replacement_tells_the_difference() -> None:
    """Replacing everything tells exactly what was added, changed and removed."""
    cache = Cache(3, [entry("kept", 1), entry("changed", 2), entry("gone", 3)])

    changes = cache.replace(Cache(9, [entry("kept", 1), entry("changed", 8), entry("new", 9)]))

    assert sorted((change.type, change.entry.key.name, change.revision) for change in changes) == [
        ("ADDED", "new", 9),
        ("DELETED", "gone", 9),
        ("MODIFIED", "changed", 9),
    ]
    assert {known.key.name for known in cache} == {"kept", "changed", "new"}


def test_changing_while_iterating() -> None:
    """Somebody who iterates sees the objects as they were when they began."""
    cache = Cache(2, [entry("a", 1), entry("b", 2)])

    seen = []
    for known in cache.entries("Sandbox"):
        cache.apply(Change("DELETED", known, cache.revision + 1))
        seen.append(known.key.name)

    assert sorted(seen) == ["a", "b"]


def test_collector_ignores_objects() -> None:
    """Held objects are left alone by the garbage collector once it has seen them."""
    cache = Cache(1, [entry(f"s{number}", 1, {"x": "1"}) for number in range(100)])

    packed = cache._kinds["Sandbox"].values()
    # A tuple is let go once all it holds has been, so it takes a collection for each level at
    # least; the order in which the collector meets them may ask for more.
    for _ in range(20):
        gc.collect()
        if not any(gc.is_tracked(values) for values in packed):
            return
    pytest.fail("the collector still looks at held objects")
