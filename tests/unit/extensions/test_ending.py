"""A caller that goes is not held by what its command leaves behind."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest

from sandboxer.errors import SandboxerError, TerminalError, TransientError
from sandboxer.session import Completed, Session
from sandboxer_extensions.ending import ended_with_caller


class Machine:
    """A machine on which ending a command turns out in one way."""

    host = "machine"

    def __init__(self, outcome: Completed | SandboxerError) -> None:
        self.outcome = outcome

    async def script(self, text: str, *arguments: str, **options: Any) -> Completed:
        """Answer as given."""
        del text, arguments, options
        if isinstance(self.outcome, Completed):
            return self.outcome
        raise self.outcome


async def leave(outcome: Completed | SandboxerError) -> None:
    """Leave the body by a cancellation."""
    async with ended_with_caller(cast("Session", Machine(outcome)), "mark"):
        raise asyncio.CancelledError


@pytest.mark.parametrize("error", [TransientError("lost"), TerminalError("refused")])
async def test_a_cancellation_stays_one(error: SandboxerError) -> None:
    """Whatever becomes of the ending, the cancellation is what the caller gets."""
    with pytest.raises(asyncio.CancelledError):
        await leave(error)


async def test_what_may_still_run_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """An ending that failed is in the log."""
    failed = Completed(exit_status=1, stdout=b"", stderr=b"no grep")
    with caplog.at_level(logging.WARNING), pytest.raises(asyncio.CancelledError):
        await leave(failed)

    assert "machine may still run: no grep" in caplog.text
