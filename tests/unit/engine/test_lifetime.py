"""When the end of a lifetime is announced."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sandboxer.engine import lifetime
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.testing.builders import sandbox
from sandboxer.testing.clock import EPOCH


@pytest.mark.parametrize(
    ("ttl_s", "before_s"),
    [
        pytest.param(7 * 86400, 600, id="a-week"),
        pytest.param(6000, 600, id="most"),
        pytest.param(3600, 360, id="a-tenth"),
        pytest.param(60, 10, id="least"),
        pytest.param(8, 4, id="half"),
    ],
)
def test_announced_in_time(ttl_s: int, before_s: int) -> None:
    """A tenth before the end, between ten seconds and ten minutes, never in the first half."""
    end = EPOCH + timedelta(seconds=ttl_s)

    assert end - lifetime.warns_at(EPOCH, end) == timedelta(seconds=before_s)


def living(reason: str, *, deleting: bool = False) -> Sandbox:
    condition: dict[str, Any] = {"type": "Expired", "status": "False", "reason": reason}
    condition["lastTransitionTime"] = EPOCH.isoformat()
    end = (EPOCH + timedelta(hours=1)).isoformat()
    made = sandbox(status={"expiresAt": end, "conditions": [condition]})
    deleted_at = EPOCH if deleting else None
    times = {"creation_timestamp": EPOCH, "deletion_timestamp": deleted_at}
    return made.model_copy(update={"metadata": made.metadata.model_copy(update=times)})


@pytest.mark.parametrize(
    ("found", "left_s"),
    [
        pytest.param(living("Alive"), 3240, id="announcement"),
        pytest.param(living("ExpiresSoon"), 3600, id="announced"),
        pytest.param(living("Alive", deleting=True), None, id="going"),
        pytest.param(sandbox(), None, id="for-ever"),
    ],
)
def test_next_moment(found: Sandbox, left_s: int | None) -> None:
    """The next moment is that of the announcement, then that of the end; the document says so too."""
    moment = None if left_s is None else EPOCH + timedelta(seconds=left_s)

    assert lifetime.next_moment(found) == moment
    assert lifetime.next_moment_in(found.to_document()) == moment
