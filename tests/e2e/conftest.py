"""An installation for each end-to-end test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import Installation


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """An empty installation without a controller; at the end its sandboxes are taken away."""
    made = Installation(tmp_path)
    yield made
    made.kill()
    # NOTE: sandboxes on this machine outlive the test's directory, and nobody else would remove them.
    made.run("delete", "sandboxes", "--all", "--ignore-not-found")
