"""A host on which actions keep failing is left in peace, and tried again by one at a time."""

from __future__ import annotations

from contextlib import ExitStack, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxer.engine.breaker import (
    COUNTED_FOR_S,
    FIRST_PAUSE_S,
    MAX_PAUSE_S,
    TRIAL_DELAY_S,
    Breakers,
    Way,
)
from sandboxer.errors import (
    InvalidSpecError,
    TerminalError,
    TransientError,
    UnreachableError,
    Waiting,
)
from sandboxer.testing.clock import ManualClock

WAY = Way("h1", "ext.fake")
FULL = TransientError("No space left on device.")


class Bench:
    """Breakers on a clock that stands still, and what they told."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.told: list[str] = []
        self.breakers = Breakers(clock=self.clock, on_change=self.told.append)

    def act(self, uid: str, error: BaseException | None = None, way: Way = WAY) -> None:
        """Let a sandbox act; it succeeds or fails."""
        self.breakers.enter(way, uid)
        try:
            with self.breakers.judging(way, uid):
                if error is not None:
                    raise error
        except type(error or FULL):
            return

    def open(self) -> None:
        """Let five actions of three sandboxes fail."""
        for uid in ("a", "b", "c", "a", "b"):
            self.act(uid, FULL)

    def delay_s(self, uid: str) -> float:
        """Return how long a sandbox is held back; an act it may begin is claimed."""
        try:
            self.breakers.enter(WAY, uid)
        except Waiting as held:
            return held.retry_after_s
        return 0.0

    @property
    def is_open(self) -> bool:
        return bool(self.breakers.objections("h1"))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_failures_in_a_row_of_several_sandboxes_open_it(bench: Bench) -> None:
    """The fifth failure opens it; what it says has the numbers, the evidence and the time."""
    for uid in ("a", "b", "c", "a"):
        bench.act(uid, FULL)
    before = bench.is_open
    bench.act("b", TimeoutError())

    assert not before
    assert bench.told == ["h1"]
    assert bench.breakers.objections("h1") == {
        "ext.fake": "the host fails: the last 5 actions failed, of 3 sandboxes. "
        "The last said: It did not return in time. One is tried again at 12:00:10 UTC."
    }


@pytest.mark.parametrize(
    "error", [FULL, UnreachableError("The link broke."), TimeoutError()], ids=repr
)
def test_what_may_pass_speaks_of_the_host(bench: Bench, error: Exception) -> None:
    """Whatever may work later counts."""
    for uid in "abcde":
        bench.act(uid, error)

    assert bench.is_open


@pytest.mark.parametrize(
    "error",
    [
        InvalidSpecError("No such file."),
        TerminalError("No compose."),
        Waiting("An earlier command runs.", retry_after_s=2),
        ZeroDivisionError("a bug"),
    ],
    ids=repr,
)
def test_what_a_manifest_is_to_blame_for_does_not(bench: Bench, error: Exception) -> None:
    """Refusals, waiting and bugs are neither failures of the host nor proofs that it is well."""
    for uid in "abcdefghi":
        bench.act(uid, error)
    for uid in "abcd":
        bench.act(uid, FULL)
    bench.act("e", error)
    before = bench.is_open
    bench.act("e", FULL)

    assert not before
    assert bench.is_open


@pytest.mark.parametrize("uids", ["aaaaaaaaaa", "ababababab"])
def test_few_sandboxes_never_open_it(bench: Bench, uids: str) -> None:
    """One or two sandboxes that always fail may be to blame themselves."""
    for uid in uids:
        bench.act(uid, FULL)

    assert not bench.is_open


def test_a_success_begins_the_row_anew(bench: Bench) -> None:
    """Four failures, a success and four failures are no reason."""
    for uid in "abcd":
        bench.act(uid, FULL)
    bench.act("e")
    for uid in "abcd":
        bench.act(uid, FULL)

    assert not bench.is_open
    assert bench.told == []


def test_old_failures_do_not_count(bench: Bench) -> None:
    """What failed long ago says nothing of now."""
    for uid in "abcd":
        bench.act(uid, FULL)
    bench.clock.advance(COUNTED_FOR_S)
    bench.act("e", FULL)

    assert not bench.is_open


def test_hosts_and_extensions_are_apart(bench: Bench) -> None:
    """Another host, and another extension on the same host, go on."""
    bench.open()

    bench.act("d", way=Way("h2", "ext.fake"))
    bench.act("d", way=Way("h1", "ext.other"))

    assert bench.breakers.objections("h2") == {}
    assert list(bench.breakers.objections("h1")) == ["ext.fake"]


def test_one_tries_at_a_time(bench: Bench) -> None:
    """After the pause the first may act, and the others wait for what becomes of it."""
    bench.open()
    held_s = bench.delay_s("a")
    bench.clock.advance(FIRST_PAUSE_S)
    first_s, again_s, other_s = bench.delay_s("a"), bench.delay_s("a"), bench.delay_s("b")

    assert held_s == FIRST_PAUSE_S
    assert (first_s, again_s, other_s) == (0, 0, TRIAL_DELAY_S)


def test_pauses_grow_to_a_bound(bench: Bench) -> None:
    """Each trial in vain doubles the pause, up to five minutes."""
    bench.open()
    pauses_s = []
    for _ in range(7):
        pauses_s.append(bench.delay_s("a"))
        bench.clock.advance(pauses_s[-1])
        bench.act("a", FULL)

    assert pauses_s == [10, 20, 40, 80, 160, MAX_PAUSE_S, MAX_PAUSE_S]
    assert len(bench.told) == 8


def test_newcomer_waits_for_the_first_pause_only(bench: Bench) -> None:
    """Who has not failed there yet may try soon, and in vain changes nothing for the others."""
    bench.open()
    for _ in range(4):
        bench.clock.advance(bench.delay_s("a"))
        bench.act("a", FULL)
    newcomer_s, others_s = bench.delay_s("new"), bench.delay_s("a")
    bench.clock.advance(FIRST_PAUSE_S)
    bench.act("new", FULL)

    assert (newcomer_s, others_s) == (10, 160)
    assert (bench.delay_s("new"), bench.delay_s("newer")) == (160, 10)


def test_success_closes_it_for_all(bench: Bench) -> None:
    """The first success, of a trial or of what had begun before, lets everybody act."""
    bench.open()
    bench.clock.advance(FIRST_PAUSE_S)
    bench.act("a")

    assert not bench.is_open
    assert [bench.delay_s(uid) for uid in "abc"] == [0, 0, 0]
    assert bench.told == ["h1", "h1"]


def test_trial_without_a_verdict_is_given_on(bench: Bench) -> None:
    """A trial that ends as invalid says nothing of the host, and the next one tries at once."""
    bench.open()
    bench.clock.advance(FIRST_PAUSE_S)
    bench.act("a", InvalidSpecError("No such file."))

    assert bench.is_open
    assert bench.delay_s("b") == 0


def test_claim_that_is_not_used_lapses(bench: Bench) -> None:
    """Who was let in and never came back does not keep the others out for ever."""
    bench.open()
    bench.clock.advance(FIRST_PAUSE_S)
    claimed_s = bench.delay_s("a")
    bench.clock.advance(30)

    assert claimed_s == 0
    assert bench.delay_s("b") == 0


def test_failures_of_what_had_begun_before_do_not_lengthen_the_pause(bench: Bench) -> None:
    """Ten that were under way when it opened fail after it: the pause stays the first one."""
    bench.open()
    for uid in "defghijklm":
        with pytest.raises(TransientError), bench.breakers.judging(WAY, uid):
            raise FULL

    assert bench.delay_s("a") == FIRST_PAUSE_S
    assert bench.told == ["h1"]


def test_routing_is_told_who_may_try(bench: Bench) -> None:
    """A sandbox is sent there as a last resort when its turn has come, and told when otherwise."""
    bench.open()
    before = bench.breakers.open_to("h1", "new"), bench.breakers.next_trial_s("new")
    bench.clock.advance(FIRST_PAUSE_S)
    after = bench.breakers.open_to("h1", "new"), bench.breakers.next_trial_s("new")

    assert before == (frozenset(), FIRST_PAUSE_S)
    assert after == (frozenset({"ext.fake"}), None)


def test_host_that_is_back_is_tried_at_once(bench: Bench) -> None:
    """Whoever mended it, or changed its document, need not wait for the end of the pause."""
    bench.open()
    bench.breakers.try_now("h1")

    assert (bench.delay_s("a"), bench.delay_s("b")) == (0, TRIAL_DELAY_S)


def test_host_that_is_gone_is_forgotten(bench: Bench) -> None:
    """Another host of the same name begins with no failure."""
    bench.open()
    bench.breakers.forget("h1")

    assert not bench.is_open


def test_endless_evidence_is_cut(bench: Bench) -> None:
    """What a backend prints is repeated to every sandbox, so it is bounded."""
    for uid in "abcde":
        bench.act(uid, TransientError("x" * 10_000))

    assert len(bench.breakers.objections("h1")["ext.fake"]) < 500


_MOVES = st.one_of(
    st.tuples(st.just("begin"), st.sampled_from("abcdef")),
    st.tuples(st.just("fail"), st.sampled_from("abcdef")),
    st.tuples(st.just("succeed"), st.sampled_from("abcdef")),
    st.tuples(st.just("refuse"), st.sampled_from("abcdef")),
    st.tuples(st.just("wait"), st.sampled_from(["1", "10", "60", "300"])),
)


@given(st.lists(_MOVES, max_size=60))
def test_whatever_happens_at_most_one_tries_and_nobody_waits_for_ever(
    moves: list[tuple[str, str]],
) -> None:
    """While it is open one trial is under way at most, and after the longest pause all may try."""
    bench = Bench()
    begun: dict[str, ExitStack] = {}
    trials: set[str] = set()
    ends = {"fail": FULL, "succeed": None, "refuse": InvalidSpecError("No such file.")}
    for move, word in moves:
        if move == "wait":
            bench.clock.advance(float(word))
        elif move == "begin" and word not in begun and bench.delay_s(word) == 0:
            trials |= {word} if bench.is_open else set()
            begun[word] = ExitStack()
            begun[word].enter_context(bench.breakers.judging(WAY, word))
        elif move in ends and word in begun:
            end(begun.pop(word), ends[move])
            trials.discard(word)
        trials &= begun.keys() if bench.is_open else set()
        assert len(trials) <= 1
    for stack in begun.values():
        end(stack, InvalidSpecError("It ended."))
    bench.clock.advance(MAX_PAUSE_S)

    assert bench.delay_s("a") == 0


def end(action: ExitStack, error: Exception | None) -> None:
    """End an action that had begun, as a raise inside it would."""
    if error is None:
        action.close()
        return
    with suppress(type(error)), action:
        raise error
