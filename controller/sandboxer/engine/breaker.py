"""
Circuit breakers: a host that answers, and on which actions keep failing, is left in peace.

A full disk, an engine that hangs, a registry out of reach: each sandbox would find that out for
itself, and each retry would find it out again. So failures are counted by host and extension.
While a breaker is open, routing goes elsewhere, and what must act there waits, but for one sandbox
at a time that tries. One success closes it. Taking away is never held back.

Design notes:

* **In memory.** It is about now. A controller that starts anew finds out with a few failures what
  the old one knew; a stored breaker would cost a write per failure, and outlive the mend.
* **Of the host, not of a manifest.** Only failures that may pass count, in a row, of different
  sandboxes; one success shows that the host is well. Three broken manifests can still open one,
  so who has not failed there yet waits for the first pause only, not for one that has grown.
* **Nobody sleeps here.** Who is held back is told by `Waiting` when to come again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from sandboxer.clock import Clock
from sandboxer.errors import TransientError, Waiting

ACTIONS_FAIL = "ActionsFail"
"""Reason of a Host's condition Ready: it answers, and a breaker is open."""

HOST_FAILS = "HostFails"
"""Reason of a sandbox that a breaker holds back."""

# Failures in a row that open a breaker, and the different sandboxes they must be of. One sandbox
# alone may fail for a reason of its own however often, and its retries are few.
OPENS_AFTER = 5
MIN_SANDBOXES = 3

# Seconds after which a failure no longer counts: three of the longest pauses between retries.
COUNTED_FOR_S = 900.0

# Seconds until one sandbox tries again; doubled with each trial that fails.
FIRST_PAUSE_S = 10.0
MAX_PAUSE_S = 300.0

# Seconds a trial is kept for who was let in and has not begun: a write or two lie in between.
CLAIM_S = 30.0

# Seconds until those come again who wait for the outcome of a trial; it also wakes them.
TRIAL_DELAY_S = 15.0

# Characters of the last failure, which is repeated to every sandbox that is held back.
MAX_FAILURE = 300


class Way(NamedTuple):
    """What a breaker is for."""

    host: str
    extension: str


class _Failure(NamedTuple):
    uid: str
    at_s: float
    """Monotonic."""


class _Trial(NamedTuple):
    uid: str
    claimed_until_s: float | None
    """Monotonic; None once it has begun."""


@dataclass(slots=True)
class _Breaker:
    failures: list[_Failure] = field(default_factory=list)
    """In a row, oldest first; of each sandbox only the newest once it is open."""
    count: int = 0
    last: str = ""
    """What failed last, as a sentence."""
    pause_s: float = 0.0
    """0 while it is closed."""
    paused_at_s: float = 0.0
    """Monotonic."""
    tried_again_at: datetime | None = None
    trial: _Trial | None = None

    @property
    def is_open(self) -> bool:
        return self.pause_s > 0

    @property
    def uids(self) -> set[str]:
        return {failure.uid for failure in self.failures}

    def count_failure(self, failure: _Failure, message: str) -> None:
        if self.is_open:
            kept = [each for each in self.failures if each.uid != failure.uid]
        else:
            kept = [each for each in self.failures if failure.at_s - each.at_s < COUNTED_FOR_S]
        self.failures = [*kept, failure]
        self.count = self.count + 1 if self.is_open else len(self.failures)
        self.last = message[:MAX_FAILURE]

    def is_due(self) -> bool:
        """Tell whether the failures are enough to open it."""
        return self.count >= OPENS_AFTER and len(self.uids) >= MIN_SANDBOXES

    def delay_s(self, uid: str, now_s: float) -> float:
        """Return the seconds until a sandbox may try."""
        trial = self.trial
        if trial is not None and trial.uid == uid:
            return 0.0
        if trial is not None and (trial.claimed_until_s is None or now_s < trial.claimed_until_s):
            return TRIAL_DELAY_S
        pause_s = self.pause_s if uid in self.uids else min(FIRST_PAUSE_S, self.pause_s)
        return max(0.0, self.paused_at_s + pause_s - now_s)

    def told(self) -> str:
        assert self.tried_again_at is not None, "it is open"
        return (
            f"the host fails: the last {self.count} actions failed, of {len(self.uids)} sandboxes. "
            f"The last said: {self.last} One is tried again at {self.tried_again_at:%H:%M:%S} UTC."
        )


@dataclass(kw_only=True)
class Breakers:
    """The breakers of all hosts, as this process has seen them."""

    clock: Clock
    on_change: Callable[[str], None] = lambda _host: None
    """Called with the name of a host where a breaker opened, was tried in vain, or closed."""
    _breakers: dict[Way, _Breaker] = field(default_factory=dict)

    def objections(self, host: str) -> dict[str, str]:
        """Return by extension why nothing new is sent to a host now, as a sentence."""
        return {way.extension: breaker.told() for way, breaker in self._open_on(host)}

    def open_to(self, host: str, uid: str) -> frozenset[str]:
        """Return the extensions for which this sandbox may try now although they fail there."""
        now_s = self.clock.monotonic_s()
        return frozenset(
            way.extension for way, breaker in self._open_on(host) if not breaker.delay_s(uid, now_s)
        )

    def next_trial_s(self, uid: str) -> float | None:
        """Return the seconds until this sandbox may try somewhere where it may not now, if any."""
        now_s = self.clock.monotonic_s()
        delays = [each.delay_s(uid, now_s) for each in self._breakers.values() if each.is_open]
        # NOTE: where it may try now it does not fit, or it would have been sent there.
        return min((delay_s for delay_s in delays if delay_s > 0), default=None)

    def enter(self, way: Way, uid: str) -> None:
        """
        Let a sandbox act there next, or hold it back.

        Raises:
            Waiting: The breaker is open, and it is not this one's turn to try.
        """
        breaker = self._breakers.get(way)
        if breaker is None or not breaker.is_open:
            return
        now_s = self.clock.monotonic_s()
        delay_s = breaker.delay_s(uid, now_s)
        if delay_s > 0:
            message = f"{way.extension} on {way.host}: {breaker.told()}"
            raise Waiting(message, retry_after_s=delay_s, reason=HOST_FAILS)
        breaker.trial = _Trial(uid, now_s + CLAIM_S)

    @contextmanager
    def judging(self, way: Way, uid: str) -> Iterator[None]:
        """Count how an action ends that was let in; an end that says nothing of the host is none."""
        breaker = self._breakers.get(way)
        if breaker is not None and breaker.trial is not None and breaker.trial.uid == uid:
            breaker.trial = _Trial(uid, None)
        try:
            yield
        except (TransientError, TimeoutError) as error:
            self._failed(way, uid, str(error) or "It did not return in time.")
            raise
        except BaseException:
            self._end_trial(way, uid)
            raise
        self._succeeded(way)

    def try_now(self, host: str) -> None:
        """End the pauses on a host: it is back, or somebody changed its document."""
        for _way, breaker in self._open_on(host):
            breaker.paused_at_s = self.clock.monotonic_s() - breaker.pause_s
            breaker.tried_again_at = self.clock.now()

    def forget(self, host: str) -> None:
        """Drop what is known of a host that is gone."""
        self._breakers = {way: each for way, each in self._breakers.items() if way.host != host}

    def _open_on(self, host: str) -> list[tuple[Way, _Breaker]]:
        return [
            (way, each) for way, each in self._breakers.items() if way.host == host and each.is_open
        ]

    def _failed(self, way: Way, uid: str, message: str) -> None:
        breaker = self._breakers.setdefault(way, _Breaker())
        now_s = self.clock.monotonic_s()
        breaker.count_failure(_Failure(uid, now_s), message)
        was_trial = self._end_trial(way, uid)
        # NOTE: what had begun before it opened tells nothing new when it fails after that.
        if was_trial or (not breaker.is_open and breaker.is_due()):
            self._pause(breaker, now_s)
            self.on_change(way.host)

    def _pause(self, breaker: _Breaker, now_s: float) -> None:
        was_full = now_s >= breaker.paused_at_s + breaker.pause_s
        if was_full:
            # Who tried for the first time came before the end of the pause, which stays as long.
            breaker.pause_s = min(MAX_PAUSE_S, max(FIRST_PAUSE_S, 2 * breaker.pause_s))
        breaker.paused_at_s = now_s
        breaker.tried_again_at = self.clock.now() + timedelta(seconds=breaker.pause_s)

    def _succeeded(self, way: Way) -> None:
        breaker = self._breakers.pop(way, None)
        if breaker is not None and breaker.is_open:
            self.on_change(way.host)

    def _end_trial(self, way: Way, uid: str) -> bool:
        breaker = self._breakers.get(way)
        if breaker is None or breaker.trial is None or breaker.trial.uid != uid:
            return False
        breaker.trial = None
        return True
