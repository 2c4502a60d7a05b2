"""The manifest: an object comes back whole from it, and hostile text harms nobody."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxer.engine.manifest import MAX_BYTES, manifest_of, read_manifest
from sandboxer.errors import TerminalError
from sandboxer.kinds.sandbox import Sandbox
from sandboxer.testing.builders import sandbox

KEY = b"k" * 32
UID = "00000000-0000-4000-8000-000000000001"

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
VALUES = (
    TEXT
    | st.integers(-(10**12), 10**12)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
)


def placed(**spec: Any) -> Sandbox:
    """Return a sandbox as it is when it is provisioned."""
    status = {"extension": "ext.fake", "host": "h1", "ports": {"web": 30000}, "handle": {"a": "b"}}
    document = sandbox(status=status, **spec).to_document()
    document["metadata"] |= {
        "uid": UID, "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"a": "b"},
        "annotations": {"note": "n" * 20_000}, "resourceVersion": "7",
    }  # fmt: skip
    return Sandbox.parse(document)


@given(st.dictionaries(TEXT, VALUES, max_size=5), st.dictionaries(st.sampled_from("ABC"), TEXT))
def test_what_was_asked_for_comes_back(inputs: dict[str, Any], env: dict[str, str]) -> None:
    """Spec, identity, labels, extension and ports are read as they were written; nothing else is."""
    given_ = placed(inputs=inputs, env=env)
    text = manifest_of(given_, KEY)

    read, is_ours = read_manifest(text, KEY)

    assert is_ours
    assert text.isascii()
    assert "\n" not in text
    assert (read.spec, read.key) == (given_.spec, given_.key)
    assert (read.metadata.uid, read.metadata.labels) == (UID, {"a": "b"})
    assert (read.status.extension, read.status.ports) == ("ext.fake", {"web": 30000})
    assert (read.status.handle, read.metadata.annotations) == ({}, {})


def test_too_long_is_not_kept() -> None:
    """A manifest is whole or not there."""
    assert manifest_of(placed(env={"BIG": "x" * MAX_BYTES}), KEY) == ""
    assert len(manifest_of(placed(env={"BIG": "x" * (MAX_BYTES // 2)}), KEY)) <= MAX_BYTES


def test_every_change_breaks_the_signature() -> None:
    """Whoever does not have the key cannot ask for anything else."""
    told = json.loads(manifest_of(placed(), KEY))
    told["sandbox"]["spec"]["secretRefs"] = [{"name": "A", "fromFile": "/etc/shadow"}]

    assert not read_manifest(json.dumps(told), KEY).is_ours
    assert not read_manifest(manifest_of(placed(), KEY), b"o" * 32).is_ours


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "7", '"x"', "{}", "[" * 16_000, '{"sandbox":{},"signature":"x"}',
        '{"sandbox":null,"signature":null}', '{"sandbox":{"kind":"Host"},"signature":"é"}',
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(text: str) -> None:
    """Anything may lie on a host."""
    with pytest.raises(TerminalError):
        read_manifest(text, KEY)


@given(
    st.recursive(VALUES | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner))
)
def test_any_json_is_refused_in_the_same_way(document: Any) -> None:
    """No JSON whatever raises anything else."""
    for told in (document, {"sandbox": document, "signature": document}):
        with pytest.raises(TerminalError):
            read_manifest(json.dumps(told), KEY)
