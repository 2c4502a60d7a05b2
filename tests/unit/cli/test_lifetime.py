"""What `extend-ttl` makes of a lifetime, and what `expire` lists."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sandboxer.cli.lifetime import Ending, end_of, endings_text, lengthened
from sandboxer.errors import InvalidSpecError
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.testing.builders import profile, sandbox
from sandboxer.testing.clock import EPOCH
from sandboxer.units import Duration

HOUR = timedelta(hours=1)


def living(name: str = "hello", **lifetime: Any) -> Sandbox:
    made = sandbox(name, lifetime=lifetime)
    metadata = made.metadata.model_copy(update={"creation_timestamp": EPOCH})
    return made.model_copy(update={"metadata": metadata})


@pytest.mark.parametrize(
    ("found", "end"),
    [
        pytest.param(living(ttl="1h"), EPOCH + HOUR, id="ttl"),
        pytest.param(living(expiresAt="2026-01-01T15:00:00+01:00"), EPOCH + 2 * HOUR, id="moment"),
        pytest.param(living(), EPOCH + 8 * HOUR, id="profile"),
    ],
)
def test_end(found: Sandbox, end: object) -> None:
    """The sandbox's own lifetime counts, then its profile's."""
    assert end_of(found, {"fake": profile(lifetime={"ttl": "8h"})}) == end


def test_no_end() -> None:
    """Where neither says anything there is no end."""
    assert end_of(living(), {"fake": profile()}) is None
    assert end_of(living(), {}) is None


@pytest.mark.parametrize(
    ("found", "duration", "after", "lifetime"),
    [
        pytest.param(living(ttl="1h"), "90m", 0, {"ttl": "2h30m"}, id="ttl"),
        pytest.param(living(ttl="2d"), "1s", 0, {"ttl": "48h1s"}, id="ttl-long"),
        pytest.param(living(ttl="1h"), "1h", 90, {"ttl": "2h30m"}, id="ttl-over"),
        pytest.param(
            living(expiresAt="2026-01-01T14:00:00Z"), "1h", 0,
            {"expiresAt": "2026-01-01T15:00:00Z"}, id="moment",
        ),
    ],
)  # fmt: skip
def test_more_time(found: Sandbox, duration: str, after: int, lifetime: dict[str, str]) -> None:
    """It has what it had and more, in the form it had it; after its end it counts from now."""
    old, now = end_of(found, {}), EPOCH + timedelta(minutes=after)
    assert old is not None

    new, changed = lengthened(found, old, Duration(duration), now)

    assert changed == lifetime
    assert new == max(old, now) + timedelta(seconds=Duration(duration).seconds)


def test_too_long() -> None:
    """A ttl has at most ten years."""
    with pytest.raises(InvalidSpecError, match="live too long"):
        lengthened(living(ttl="3650d"), EPOCH + timedelta(days=3650), Duration("1d"), EPOCH)


def test_list() -> None:
    """First what is over the longest; how far away each end is."""
    soon, over = Ending(living("soon"), EPOCH + HOUR), Ending(living("over"), EPOCH - HOUR)

    lines = endings_text([soon, over], EPOCH).splitlines()

    assert [line.split()[1] for line in lines] == ["NAME", "over", "soon"]
    assert lines[1].endswith("60m ago")
    assert lines[2].endswith("in 60m")
