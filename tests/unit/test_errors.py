"""The errors: what each one carries."""

from __future__ import annotations

import pytest

from sandboxer import errors


def test_the_remedy_is_part_of_what_a_person_reads() -> None:
    """Message and remedy make one text; the message alone is kept, too."""
    error = errors.TerminalError("It is broken.", remedy="Mend it.")

    assert (str(error), error.message) == ("It is broken. Mend it.", "It is broken.")
    assert str(errors.TerminalError("It is broken.")) == "It is broken."


@pytest.mark.parametrize(
    ("class_", "parent", "reason"),
    [
        (errors.InvalidSpecError, errors.SandboxerError, "InvalidSpec"),
        (errors.TerminalError, errors.SandboxerError, "Terminal"),
        (errors.TransientError, errors.SandboxerError, "Transient"),
        (errors.UnreachableError, errors.TransientError, "HostUnreachable"),
        (errors.ConflictError, errors.SandboxerError, "Conflict"),
        (errors.NotFoundError, errors.SandboxerError, "NotFound"),
    ],
)
def test_a_class_says_what_is_to_be_done(
    class_: type[errors.SandboxerError], parent: type[errors.SandboxerError], reason: str
) -> None:
    """Each has its reason, unless one is given; an unreachable host is tried again."""
    assert issubclass(class_, parent)
    assert class_("x").reason == reason
    assert class_("x", reason="Own").reason == "Own"


def test_waiting_is_not_a_failure() -> None:
    """Whoever catches failures does not catch a planned wait."""
    waiting = errors.Waiting("It starts.", retry_after_s=2)

    assert not isinstance(waiting, errors.SandboxerError)
    assert (waiting.retry_after_s, waiting.reason) == (2, "Waiting")
