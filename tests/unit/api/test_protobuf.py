"""Bodies in protobuf."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandboxer.api.answers import StatusError
from sandboxer.api.protobuf import decode_body


def varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def text(field: int, value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(raw)) + raw


def body(api_version: str, kind: str, raw: bytes) -> bytes:
    return b"k8s\x00" + text(1, text(1, api_version) + text(2, kind)) + text(2, raw)


REVIEW = body(
    "authorization.k8s.io/v1",
    "SelfSubjectAccessReview",
    text(1, text(1, ""))
    + text(2, text(1, text(1, "default") + text(2, "delete") + text(5, "pods"))),
)


def test_a_review_names_what_is_asked_about() -> None:
    """Nested messages become nested objects, and empty text is left out as in JSON."""
    decoded = decode_body(REVIEW)

    assert (decoded.api_version, decoded.kind) == (
        "authorization.k8s.io/v1",
        "SelfSubjectAccessReview",
    )
    assert decoded.document["spec"] == {
        "resourceAttributes": {"namespace": "default", "verb": "delete", "resource": "pods"}
    }
    assert decoded.document["metadata"] == {}


def test_a_namespace_has_its_labels_and_finalizers() -> None:
    """Maps and lists are read entry by entry; a later entry of a map wins."""
    meta = (
        text(1, "team")
        + text(11, text(1, "a") + text(2, "1"))
        + text(11, text(1, "a") + text(2, "2"))
        + text(11, text(1, "b"))
        + text(14, "one")
        + text(14, "two")
    )

    assert decode_body(body("v1", "Namespace", text(1, meta))).document == {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": "team",
            "labels": {"a": "2", "b": ""},
            "finalizers": ["one", "two"],
        },
    }


def test_an_event_has_its_times_and_its_count() -> None:
    """Times are RFC 3339, to the microsecond where Kubernetes says so; no time is no field."""
    raw = (
        text(2, text(1, "Sandbox") + text(3, "a"))
        + text(6, number(1, 1_700_000_000))
        + text(7, b"")
        + number(8, 3)
        + text(10, number(1, 1_700_000_000) + number(2, 5_000))
    )

    document = decode_body(body("v1", "Event", raw)).document

    assert document["involvedObject"] == {"kind": "Sandbox", "name": "a"}
    assert document["firstTimestamp"] == "2023-11-14T22:13:20Z"
    assert document["eventTime"] == "2023-11-14T22:13:20.000005Z"
    assert document["count"] == 3
    assert "lastTimestamp" not in document


def test_delete_options_come_in_any_version() -> None:
    """A typed client sends the options with the version of what it deletes."""
    raw = number(1, (1 << 64) - 1) + text(2, text(1, "u-1")) + number(3, 0) + text(5, "All")

    document = decode_body(body("apps/v1", "DeleteOptions", raw)).document

    assert document["gracePeriodSeconds"] == -1
    assert document["preconditions"] == {"uid": "u-1"}
    assert document["orphanDependents"] is False
    assert document["dryRun"] == ["All"]


def test_unknown_fields_are_skipped() -> None:
    """A newer client may send fields of every wire type that nobody here knows."""
    unknown = number(90, 7) + text(91, "x") + varint(92 << 3 | 5) + b"1234" + varint(93 << 3 | 1)
    raw = unknown + b"12345678" + text(2, text(1, "default"))

    decoded = decode_body(body("authorization.k8s.io/v1", "SelfSubjectRulesReview", raw))

    assert decoded.document["spec"] == {"namespace": "default"}


def test_another_kind_is_an_unsupported_media_type() -> None:
    """What is not known is refused with the form to send instead."""
    with pytest.raises(StatusError) as caught:
        decode_body(body("v1", "Pod", b""))

    assert caught.value.code == 415
    assert "application/json" in caught.value.message


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(REVIEW[:-1], id="cut-short"),
        pytest.param(b'{"kind": "Namespace"}', id="json"),
        pytest.param(b"", id="empty"),
        pytest.param(b"k8s\x00" + b"\xff" * 11, id="endless-number"),
        pytest.param(b"k8s\x00\x0a\xff\xff\xff\xff\x0f", id="lying-length"),
        pytest.param(b"k8s\x00\x0b", id="group"),
        pytest.param(body("v1", "Event", text(8, "three")), id="wrong-wire-type"),
        pytest.param(body("v1", "Namespace", text(1, text(1, b"\xff"))), id="not-utf-8"),
        pytest.param(body("v1", "Event", text(6, number(1, 1 << 62))), id="time-out-of-range"),
    ],
)
def test_malformed_bytes_are_a_bad_request(raw: bytes) -> None:
    """What is not protobuf, or lies about its lengths, is the client's mistake."""
    with pytest.raises(StatusError) as caught:
        decode_body(raw)

    assert caught.value.code == 400


def outcome(raw: bytes) -> str | int:
    try:
        return decode_body(raw).kind
    except StatusError as error:
        return error.code


@given(st.binary(max_size=200), st.sampled_from(["Namespace", "Event", "DeleteOptions"]))
@example(b"", "Namespace")
def test_hostile_bytes_are_decoded_or_refused(raw: bytes, kind: str) -> None:
    """Whatever is sent, the answer is a document or a refusal."""
    assert outcome(body("v1", kind, raw)) in (kind, 400)
