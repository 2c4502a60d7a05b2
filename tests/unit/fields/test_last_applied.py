"""kubectl from client-side to server-side apply."""

from __future__ import annotations

import json

import pytest

from sandboxer.fields import FieldConflictError
from sandboxer.fields.last_applied import ANNOTATION
from tests.unit.fields.documents import Document, applied, owned, sandbox, written


def client_side(config: Document) -> Document:
    """Return what is stored after `kubectl apply` without --server-side."""
    noted = {**config["metadata"], "annotations": {ANNOTATION: json.dumps(config)}}
    return written(None, {**config, "metadata": noted}, "kubectl-client-side-apply")


def test_the_first_server_side_apply_takes_what_was_applied_client_side() -> None:
    """The same person changes a field it applied before: no conflict, and the note follows."""
    live = client_side(sandbox({"env": {"A": "1"}}))

    after = applied(live, sandbox({"env": {"A": "2"}}), "kubectl")

    assert after["spec"]["env"] == {"A": "2"}
    assert owned(after, "kubectl") == {".spec.env.A"}
    assert json.loads(after["metadata"]["annotations"][ANNOTATION])["spec"] == {"env": {"A": "2"}}


def test_what_somebody_changed_since_is_a_conflict() -> None:
    """Only what still is as the note says was applied client-side."""
    live = client_side(sandbox({"env": {"A": "1", "B": "1"}}))
    edited = {**live, "spec": {**live["spec"], "env": {"A": "9", "B": "1"}}}
    live = written(live, edited, "kubectl-edit")

    with pytest.raises(FieldConflictError) as caught:
        applied(live, sandbox({"env": {"A": "2", "B": "2"}}), "kubectl")

    assert [(c.manager, c.field) for c in caught.value.causes] == [("kubectl-edit", ".spec.env.A")]


def test_other_managers_do_not_profit() -> None:
    """Who is not kubectl has never applied client-side."""
    live = client_side(sandbox({"env": {"A": "1"}}))

    with pytest.raises(FieldConflictError):
        applied(live, sandbox({"env": {"A": "2"}}), "other")


@pytest.mark.parametrize("note", ["", "[", "[]", "7", "[" * 100_000, '{"apiVersion": "v1"}'])
def test_a_note_that_was_tampered_with_allows_nothing(note: str) -> None:
    """The annotation is anybody's text."""
    live = client_side(sandbox({"env": {"A": "1"}}))
    live["metadata"]["annotations"][ANNOTATION] = note

    with pytest.raises(FieldConflictError):
        applied(live, sandbox({"env": {"A": "2"}}), "kubectl")


def test_a_config_too_long_to_note_is_not_noted() -> None:
    """Annotations have a limit; an empty note is better than an object that cannot be stored."""
    live = client_side(sandbox({"env": {"A": "1"}}))

    after = applied(live, sandbox({"env": {"A": "1", "B": "x" * 200_000}}), "kubectl")

    assert after["metadata"]["annotations"][ANNOTATION] == ""
