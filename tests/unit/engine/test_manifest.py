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
ENVIRONMENT = "00000000-0000-4000-8000-00000000000e"

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
    text = manifest_of(given_, KEY, ENVIRONMENT)

    read, is_ours = read_manifest(text, KEY, ENVIRONMENT)

    assert is_ours
    assert text.isascii()
    assert "\n" not in text
    assert (read.spec, read.key) == (given_.spec, given_.key)
    assert (read.metadata.uid, read.metadata.labels) == (UID, {"a": "b"})
    assert (read.status.extension, read.status.ports) == ("ext.fake", {"web": 30000})
    assert (read.status.handle, read.metadata.annotations) == ({}, {})


def test_too_long_is_not_kept() -> None:
    """A manifest is whole or not there."""
    long, longest = (placed(env={"BIG": "x" * size}) for size in (MAX_BYTES // 2, MAX_BYTES))

    assert 0 < len(manifest_of(long, KEY, ENVIRONMENT)) <= MAX_BYTES
    assert manifest_of(longest, KEY, ENVIRONMENT) == ""


def test_every_change_breaks_the_signature() -> None:
    """Whoever does not have the key cannot ask for anything else, nor for another installation."""
    text = manifest_of(placed(), KEY, ENVIRONMENT)
    told = json.loads(text)
    told["sandbox"]["spec"]["secretRefs"] = [{"name": "A", "fromFile": "/etc/shadow"}]

    assert not read_manifest(json.dumps(told), KEY, ENVIRONMENT).is_ours
    assert not read_manifest(text, b"o" * 32, ENVIRONMENT).is_ours
    assert not read_manifest(text, KEY, UID).is_ours


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
        read_manifest(text, KEY, ENVIRONMENT)


@pytest.mark.parametrize("offset", ["9999-12-31T23:59:59-01:00", "1000-01-01T00:00:00+01:00"])
def test_a_time_off_the_calendar_is_refused(offset: str) -> None:
    """What has no form in UTC is a mistake where it is read, not where it is used."""
    told = json.loads(manifest_of(placed(), KEY, ENVIRONMENT))
    told["sandbox"]["spec"]["lifetime"] = {"expiresAt": offset}

    with pytest.raises(TerminalError, match=r"lifetime\.expiresAt"):
        read_manifest(json.dumps(told), KEY, ENVIRONMENT)


@given(
    st.recursive(VALUES | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner))
)
def test_any_json_is_refused_in_the_same_way(document: Any) -> None:
    """No JSON whatever raises anything else."""
    for told in (document, {"sandbox": document, "signature": document}):
        with pytest.raises(TerminalError):
            read_manifest(json.dumps(told), KEY, ENVIRONMENT)
