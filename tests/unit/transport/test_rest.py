"""Reading an engine's event stream."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sandboxer.transport.rest import decode_objects

objects = st.lists(
    st.dictionaries(st.text(max_size=5), st.text(max_size=8) | st.integers(), max_size=3),
    max_size=5,
)


@given(objects, st.sampled_from(["", "\n", "\r\n"]), st.integers(1, 7))
def test_objects_survive_any_cutting(sent: list[dict[str, Any]], separator: str, size: int) -> None:
    """However the stream is cut into chunks, every object comes out once and in order."""
    text = "".join(json.dumps(one) + separator for one in sent)
    received, rest = [], ""
    for start in range(0, len(text), size):
        found, rest = decode_objects(rest + text[start : start + size])
        received += found

    assert received == sent
    assert not rest.strip()


def test_incomplete_object_is_kept() -> None:
    """Half an object waits for its other half."""
    assert decode_objects('{"a": 1}{"b"') == ([{"a": 1}], '{"b"')
