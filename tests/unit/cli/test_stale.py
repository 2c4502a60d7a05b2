"""What a person reads of things that should not be on a host."""

from __future__ import annotations

from typing import Literal

import pytest

from sandboxer.cli.stale import _evidence
from sandboxer.kinds.inventory import FoundSandbox


@pytest.mark.parametrize(
    ("stale", "remembered", "said"),
    [
        ("NoSandbox", False, "Nor does it remember one that had it."),
        ("PlacedElsewhere", False, "so this copy may be the newer one."),
        ("PlacedElsewhere", True, "Evidence."),
    ],
)
def test_the_evidence_says_what_the_store_cannot_explain(
    stale: Literal["NoSandbox", "PlacedElsewhere"], said: str, *, remembered: bool
) -> None:
    """A copy that may be newer than its sandbox is not taken for a remnant."""
    what = FoundSandbox(
        uid="u", namespace="default", name="hello", state="Running", owned=stale != "NoSandbox",
        stale=stale, evidence="Evidence.", remembered=remembered,
    )  # fmt: skip

    assert _evidence(what).endswith(said)
