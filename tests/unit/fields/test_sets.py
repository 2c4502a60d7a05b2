"""FieldsV1, and the names of managers."""

from __future__ import annotations

from typing import Any

import pytest

from sandboxer.errors import InvalidSpecError
from sandboxer.fields import FieldSet, manager_name
from sandboxer.fields.sets import MAX_DEPTH


def test_fields_v1_round_trip() -> None:
    """What Kubernetes wrote comes back in the same form, with its order of steps."""
    tree = {
        "f:metadata": {"f:labels": {".": {}, "f:a": {}}, "f:finalizers": {'v:"x"': {}}},
        "f:spec": {
            "f:ports": {'k:{"name":"web","port":80}': {".": {}, "f:service": {}}},
            "f:old": {"i:0": {}},
        },
    }

    fields = FieldSet.from_json(tree)

    assert fields.to_json() == tree
    assert list(fields.texts()) == [
        '.metadata.finalizers[="x"]',
        ".metadata.labels",
        ".metadata.labels.a",
        ".spec.old[0]",
        '.spec.ports[name="web",port=80]',
        '.spec.ports[name="web",port=80].service',
    ]


def test_keys_are_one_however_they_are_written() -> None:
    """The order of keys and blanks in a step do not make another path."""
    one = FieldSet.from_json({'k:{"a":1,"b":"ü"}': {}})
    other = FieldSet.from_json({'k:{ "b": "\\u00fc", "a": 1 }': {}})

    assert one == other


@pytest.mark.parametrize(
    "tree",
    [
        [],
        {"spec": {}},
        {"x:spec": {}},
        {"f:spec": 1},
        {"k:[1]": {}},
        {"k:{": {}},
        {"i:a": {}},
        {"": {}},
        {"v:" + "[" * 100_000: {}},
    ],
)
def test_what_is_no_field_set_is_refused(tree: Any) -> None:
    """Anybody may send FieldsV1."""
    with pytest.raises(ValueError):  # noqa: PT011 - many different messages
        FieldSet.from_json(tree)


def test_depth_is_bounded() -> None:
    """Each level is a level of recursion."""
    tree: dict[str, Any] = {}
    for _ in range(MAX_DEPTH + 2):
        tree = {"f:a": tree}

    with pytest.raises(ValueError, match="deeper"):
        FieldSet.from_json(tree)


def test_paths_are_told_apart_from_what_is_below() -> None:
    """Who owns an entry does not own the map, and only `.` says that somebody does."""
    entry = FieldSet.from_json({"f:env": {"f:A": {}}})
    both = FieldSet.from_json({"f:env": {".": {}, "f:A": {}}})

    assert not entry.has(["f:env"])
    assert both.has(["f:env"])
    assert list((both - entry).texts()) == [".env"]
    assert list((both & entry).texts()) == [".env.A"]
    assert not both.without(both - entry)


def test_names_in_paths_cannot_command_a_terminal() -> None:
    """An annotation's name may hold anything; a conflict is printed."""
    assert list(FieldSet.from_json({"f:\x1b[2J": {}}).texts()) == [".?[2J"]


@pytest.mark.parametrize(
    ("given", "agent", "name"),
    [
        ("mine", "kubectl/v1.32.0 (linux/amd64)", "mine"),
        ("", "kubectl/v1.32.0 (linux/amd64)", "kubectl"),
        ("", "Mozilla\x1b/5.0", "Mozilla"),
        ("", "ä" * 100, "ä" * 64),
        ("", "", "unknown"),
        ("", "/x", "unknown"),
    ],
)
def test_a_manager_has_a_name(given: str, agent: str, name: str) -> None:
    """The client's own word, or its User-Agent up to the first slash; at most 128 bytes."""
    assert manager_name(given, agent) == name


@pytest.mark.parametrize("given", ["a" * 129, "ä" * 65, "a\nb"])
def test_a_name_that_cannot_be_kept_is_refused(given: str) -> None:
    """Too long, or not to be printed."""
    with pytest.raises(InvalidSpecError) as caught:
        manager_name(given, "kubectl/v1")

    assert caught.value.field == "fieldManager"
