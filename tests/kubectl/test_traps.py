"""Every trap of the README has a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROW = re.compile(r"^\| (\d+) \| .* \| (.*) \|$", re.MULTILINE)
COUNT = 20


def test_every_trap_has_its_tests() -> None:
    """The table has a row for each trap, and what it names is a function of that file."""
    rows = ROW.findall((Path(__file__).parent / "README.md").read_text())

    assert [int(number) for number, _ in rows] == list(range(1, COUNT + 1))
    for number, tests in rows:
        named = re.findall(r"`tests/(.*?\.py)::(\w+)`", tests)
        assert named, f"trap {number} has no test"
        for file, function in named:
            code = (TESTS / file).read_text()
            assert re.search(rf"^(async )?def {function}\(", code, re.MULTILINE), (file, function)
