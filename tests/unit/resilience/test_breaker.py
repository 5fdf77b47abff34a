"""The breaker: by example, and against a model of it that keeps every call."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from poise.resilience.breaker import Breaker, BreakerLimits

LIMITS = BreakerLimits(window=6, least=3, rate=0.5, rest=2.0, longest=10.0)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(LIMITS)
    for _ in range(3):
        assert breaker.admits(now)
        breaker.failed(now, since=now)
    return breaker


def test_it_opens_at_the_share_of_failures_and_not_before_enough_calls() -> None:
    breaker = Breaker(LIMITS)
    breaker.failed(0)
    breaker.failed(0)
    assert breaker.state(0) == "closed"
    breaker.failed(0)
    assert (breaker.state(0), breaker.state(1.9), breaker.state(2)) == ("open", "open", "half-open")


def test_it_says_with_what_the_part_failed_until_the_part_is_back() -> None:
    breaker = Breaker(LIMITS)
    assert breaker.because() == ""
    for number in range(3):
        breaker.failed(0, error=f"error {number}")
    assert breaker.because() == ": error 2"
    assert breaker.admits(2)
    breaker.failed(2, since=2)
    assert breaker.because() == ": error 2", "of a failure without words the one before stands"
    assert breaker.admits(6)
    breaker.succeeded(since=6)
    assert breaker.because() == ""
    breaker.failed(7, error="x" * 10_000)
    assert len(breaker.because()) == len(": ") + 300


def test_failures_that_are_few_do_not_open_it() -> None:
    breaker = Breaker(LIMITS)
    for _ in range(50):
        breaker.succeeded()
        breaker.succeeded()
        breaker.failed(0)
    assert breaker.state(0) == "closed"


def test_it_rests_longer_each_time_that_the_probe_fails_up_to_a_limit() -> None:
    breaker, now, rests = opened(), 2.0, []
    for _ in range(4):
        assert breaker.admits(now)
        breaker.failed(now, since=now)
        until = breaker.opens_at()
        assert until is not None
        rests.append(until - now)
        now = until
    assert rests == [4.0, 8.0, 10.0, 10.0]
    assert breaker.admits(now)
    breaker.succeeded(since=now)
    assert breaker.state(now) == "closed"
    for _ in range(3):
        breaker.failed(now)
    assert breaker.opens_at() == now + 2.0, "what was is forgotten"


def test_a_part_that_asks_to_be_left_alone_is_at_once_and_as_long() -> None:
    breaker = Breaker(LIMITS)
    breaker.failed(0, rest=60.0)
    assert (breaker.state(59.9), breaker.state(60)) == ("open", "half-open")
    breaker.failed(1, rest=5.0)
    assert breaker.state(59.9) == "open", "a shorter wish does not cut a longer one short"


@pytest.mark.parametrize("end", ["succeeded", "failed", "abandoned"])
def test_a_call_from_before_it_opened_is_no_word_of_the_probes(end: str) -> None:
    """A slow call is admitted; others fail, and it opens; it rests, and a probe goes out; then the slow call ends."""
    breaker = opened(1.0)
    assert breaker.admits(3.0)
    if end == "failed":
        breaker.failed(3.5, since=0.5)
    else:
        getattr(breaker, end)(since=0.5)
    assert breaker.state(3.5) == "half-open"
    assert not breaker.admits(3.5), "the probe is still out"
    breaker.succeeded(since=3.0)
    assert breaker.state(3.5) == "closed"


def test_a_probe_that_fails_does_not_cut_short_a_rest_that_was_asked_for_meanwhile() -> None:
    """A slow call is out; it opens; a probe goes out; the slow call ends with "leave me alone for a minute"."""
    breaker = opened(1.0)
    assert breaker.admits(3.0)
    breaker.failed(3.5, rest=60.0, since=0.5)
    breaker.failed(4.0, since=3.0)
    assert breaker.opens_at() == 63.5


def test_a_probe_of_which_nothing_is_ever_heard_does_not_keep_it_shut_for_good() -> None:
    breaker = opened()
    assert breaker.admits(2.0)
    assert not breaker.admits(2.0 + LIMITS.longest - 0.1)
    assert breaker.admits(2.0 + LIMITS.longest)


class Calls(RuleBasedStateMachine):
    """Calls that begin and end in any order, while time goes by."""

    admitted = Bundle("admitted")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = Breaker(LIMITS)
        self.probe: float | None = None

    @rule(seconds=st.sampled_from([0.001, 0.5, 2.0, 5.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=admitted)
    def call(self) -> float | None:
        self.now += 0.001  # no two calls at one moment, so that each is known by its own
        before, admits = self.breaker.state(self.now), self.breaker.admits(self.now)
        lost = self.probe is not None and self.now - self.probe >= LIMITS.longest
        match before:
            case "closed":
                assert admits
            case "open":
                assert not admits
            case "half-open":
                assert admits == (self.probe is None or lost), "one probe at a time"
        if before == "half-open" and admits:
            self.probe = self.now
        return self.now if admits else None

    @rule(since=consumes(admitted))
    def succeed(self, since: float | None) -> None:
        if since is None:
            return
        before = self.breaker.state(self.now)
        self.breaker.succeeded(since=since)
        if since == self.probe:
            assert self.breaker.state(self.now) == "closed"
            self.probe = None
        else:
            assert self.breaker.state(self.now) == before

    @rule(since=consumes(admitted), rest=st.none() | st.sampled_from([0.5, 7.0, 60.0]))
    def fail(self, since: float | None, rest: float | None) -> None:
        if since is None:
            return
        until = self.breaker.opens_at()
        self.breaker.failed(self.now, rest=rest, since=since)
        after = self.breaker.opens_at()
        if since == self.probe:
            self.probe = None
            assert self.breaker.state(self.now) == "open"
        if rest is not None:
            assert after is not None
            assert after >= self.now + rest
        if until is not None:
            assert after is not None
            assert after >= until, "no failure makes it rest less"

    @rule(since=consumes(admitted))
    def give_up(self, since: float | None) -> None:
        if since is None:
            return
        before = self.breaker.opens_at()
        self.breaker.abandoned(since=since)
        assert self.breaker.opens_at() == before
        if since == self.probe:
            self.probe = None

    @invariant()
    def a_rest_has_an_end(self) -> None:
        until = self.breaker.opens_at()
        assert until is None or until <= self.now + max(LIMITS.longest, 60.0)


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
