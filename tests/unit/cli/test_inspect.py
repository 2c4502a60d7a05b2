"""What `inspect host` prints."""

from __future__ import annotations

from sandboxer.cli.inspect import facts_text, inventory_text
from sandboxer.kinds.host import HostFacts, HostLoad


def test_an_empty_machine_keeps_the_columns() -> None:
    """That nothing of ours is there stands below the facts, in their column."""
    facts = facts_text(HostFacts(), HostLoad()).splitlines()

    nothing = inventory_text([]).rstrip()

    assert nothing.index("nothing") == next(
        line.index("none") for line in facts if "engine" in line
    )
