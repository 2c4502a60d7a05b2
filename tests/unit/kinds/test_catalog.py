"""Kinds by the words people type, and the small parts every kind shares."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from sandboxer.kinds.catalog import DECLARABLE_KINDS, KINDS, find_kind, kind_words
from sandboxer.kinds.meta import Condition, Key, ObjectMeta, Status, is_label_value
from sandboxer.kinds.sandbox import Sandbox

NOON = datetime(2026, 1, 1, 12, 0, 0, 500_000, tzinfo=UTC)


@pytest.mark.parametrize("word", ["sbx", "sandbox", "sandboxes", "Sandbox", "SANDBOXES"])
def test_a_kind_has_several_names(word: str) -> None:
    """Singular, plural, short and in any case."""
    assert find_kind(word) is Sandbox


def test_an_unknown_word_is_no_kind() -> None:
    """Nothing is guessed here."""
    assert find_kind("sandbo") is None
    assert find_kind("") is None


def test_no_word_means_two_kinds() -> None:
    """Every name leads to one kind, and a model is registered under its own name."""
    words = kind_words()

    assert len(words) == len(set(words))
    assert all(model.model_fields["kind"].default == kind for kind, model in KINDS.items())
    assert set(DECLARABLE_KINDS) == set(KINDS) - {"Event", "Namespace", "Secret"}


def test_a_key_reads_with_its_namespace_if_it_has_one() -> None:
    """What messages call an object."""
    assert str(Key("Sandbox", "default", "a")) == "Sandbox default/a"
    assert str(Key("Host", "", "h1")) == "Host h1"


def test_a_document_has_what_is_set_in_the_words_of_the_schema() -> None:
    """camelCase, times in UTC with whole seconds, nothing that is absent."""
    moment = NOON.astimezone(timezone(timedelta(hours=2)))
    sandbox = Sandbox(metadata=ObjectMeta(name="a", creation_timestamp=moment))

    document = sandbox.to_document()

    assert document["metadata"]["creationTimestamp"] == "2026-01-01T12:00:00Z"
    assert "deletionTimestamp" not in document["metadata"]
    assert document["spec"]["driftPolicy"] == "Repair"
    assert Sandbox.parse(document).to_document() == document


def test_a_condition_holds_only_when_it_was_stated_true() -> None:
    """Never stated is not false, and unknown is not true."""
    status = Status(
        conditions=(
            Condition(type="Ready", status="True", reason="Running", last_transition_time=NOON),
            Condition(type="Drifted", status="Unknown", reason="Lost", last_transition_time=NOON),
        )
    )

    assert (status.is_true("Ready"), status.is_true("Drifted"), status.is_true("Other")) == (
        True, False, False,
    )  # fmt: skip
    assert status.condition("Other") is None


@pytest.mark.parametrize(
    ("text", "fits"),
    [("", True), ("a.b-c_D", True), ("a" * 63, True), ("a" * 64, False), ("-a", False), ("a\n", False)],
)  # fmt: skip
def test_a_label_value_is_what_kubernetes_says(text: str, fits: bool) -> None:  # noqa: FBT001 - an expected value
    """Letters, digits and three signs, at most 63."""
    assert is_label_value(text) is fits
