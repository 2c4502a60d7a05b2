"""What is said when the host of a sandbox does not answer."""

from __future__ import annotations

from datetime import timedelta

from sandboxer.api.entering import with_age
from sandboxer.engine.conditions import Fact, stated
from sandboxer.errors import TransientError, UnreachableError
from sandboxer.kinds.host import Host
from sandboxer.testing.builders import host
from sandboxer.testing.clock import EPOCH

SILENT = UnreachableError("Host h1 does not answer: no route.", remedy="Look at its cable.")


def seen(reachable: str) -> Host:
    """Return a Host that was last seen a minute before the epoch of tests."""
    found = host()
    facts = {"Reachable": Fact("True" if reachable == "True" else "False", "Given", "Given.")}
    status = stated(found.status, facts, generation=1, now=EPOCH)
    heard_at = EPOCH - timedelta(seconds=60)
    return found.model_copy(
        update={"status": status.model_copy(update={"last_probe_time": heard_at})}
    )


def test_silence_is_dated() -> None:
    """The error has why, since when, and when the host last answered, before what to do."""
    error = with_age(SILENT, seen("False"))

    assert str(error) == (
        "Host h1 does not answer: no route. Host h1 has not answered since 2026-01-01T12:00:00Z. "
        "It answered at 2026-01-01T11:59:00Z. Look at its cable."
    )


def test_silence_that_is_news() -> None:
    """Of a host that counts as reachable only the last answer is known."""
    error = with_age(SILENT, seen("True"))

    assert error.message == (
        "Host h1 does not answer: no route. It answered at 2026-01-01T11:59:00Z."
    )


def test_other_errors_pass() -> None:
    """An error that is not about the host, or of a host that is gone, stays as it is."""
    other = TransientError("No.")

    assert with_age(other, seen("False")) is other
    assert with_age(SILENT, None) is SILENT
