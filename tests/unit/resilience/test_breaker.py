"""The breaker: by example, and against a model of it that keeps every call."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from poise.resilience.breaker import Breaker, BreakerLimits

LIMITS = BreakerLimits(window=6, min_calls=3, failure_rate=0.5, open_for=2.0, max_open_for=10.0)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(LIMITS)
    for _ in range(3):
        assert breaker.allow(now)
        breaker.record_failure(now, admitted_at=now)
    return breaker


def test_it_opens_at_the_share_of_failures_and_not_before_enough_calls() -> None:
    breaker = Breaker(LIMITS)
    breaker.record_failure(0)
    breaker.record_failure(0)
    assert breaker.state(0) == "closed"
    breaker.record_failure(0)
    assert (breaker.state(0), breaker.state(1.9), breaker.state(2)) == ("open", "open", "half-open")


def test_it_says_with_what_the_part_failed_until_the_part_is_back() -> None:
    breaker = Breaker(LIMITS)
    assert breaker.error_suffix() == ""
    for number in range(3):
        breaker.record_failure(0, error=f"error {number}")
    assert breaker.error_suffix() == ": error 2"
    assert breaker.allow(2)
    breaker.record_failure(2, admitted_at=2)
    assert breaker.error_suffix() == ": error 2", "of a failure without words the one before stands"
    assert breaker.allow(6)
    breaker.record_success(admitted_at=6)
    assert breaker.error_suffix() == ""
    breaker.record_failure(7, error="x" * 10_000)
    assert len(breaker.error_suffix()) == len(": ") + 300


def test_failures_that_are_few_do_not_open_it() -> None:
    breaker = Breaker(LIMITS)
    for _ in range(50):
        breaker.record_success()
        breaker.record_success()
        breaker.record_failure(0)
    assert breaker.state(0) == "closed"


def test_it_rests_longer_each_time_that_the_probe_fails_up_to_a_limit() -> None:
    breaker, now, rests = opened(), 2.0, []
    for _ in range(4):
        assert breaker.allow(now)
        breaker.record_failure(now, admitted_at=now)
        until = breaker.retry_at()
        assert until is not None
        rests.append(until - now)
        now = until
    assert rests == [4.0, 8.0, 10.0, 10.0]
    assert breaker.allow(now)
    breaker.record_success(admitted_at=now)
    assert breaker.state(now) == "closed"
    for _ in range(3):
        breaker.record_failure(now)
    assert breaker.retry_at() == now + 2.0, "what was is forgotten"


def test_a_part_that_asks_to_be_left_alone_is_at_once_and_as_long() -> None:
    breaker = Breaker(LIMITS)
    breaker.record_failure(0, open_for=60.0)
    assert (breaker.state(59.9), breaker.state(60)) == ("open", "half-open")
    breaker.record_failure(1, open_for=5.0)
    assert breaker.state(59.9) == "open", "a shorter wish does not cut a longer one short"


@pytest.mark.parametrize("end", ["record_success", "failed", "release"])
def test_a_call_from_before_it_opened_is_no_word_of_the_probes(end: str) -> None:
    """A slow call is admitted; others fail, and it opens; it rests, and a probe goes out; then the slow call ends."""
    breaker = opened(1.0)
    assert breaker.allow(3.0)
    if end == "failed":
        breaker.record_failure(3.5, admitted_at=0.5)
    else:
        getattr(breaker, end)(admitted_at=0.5)
    assert breaker.state(3.5) == "half-open"
    assert not breaker.allow(3.5), "the probe is still out"
    breaker.record_success(admitted_at=3.0)
    assert breaker.state(3.5) == "closed"


def test_a_probe_that_fails_does_not_cut_short_a_rest_that_was_asked_for_meanwhile() -> None:
    """A slow call is out; it opens; a probe goes out; the slow call ends with "leave me alone for a minute"."""
    breaker = opened(1.0)
    assert breaker.allow(3.0)
    breaker.record_failure(3.5, open_for=60.0, admitted_at=0.5)
    breaker.record_failure(4.0, admitted_at=3.0)
    assert breaker.retry_at() == 63.5


def test_a_probe_of_which_nothing_is_ever_heard_does_not_keep_it_shut_for_good() -> None:
    breaker = opened()
    assert breaker.allow(2.0)
    assert not breaker.allow(2.0 + LIMITS.max_open_for - 0.1)
    assert breaker.allow(2.0 + LIMITS.max_open_for)


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
        before, admits = self.breaker.state(self.now), self.breaker.allow(self.now)
        lost = self.probe is not None and self.now - self.probe >= LIMITS.max_open_for
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
        self.breaker.record_success(admitted_at=since)
        if since == self.probe:
            assert self.breaker.state(self.now) == "closed"
            self.probe = None
        else:
            assert self.breaker.state(self.now) == before

    @rule(since=consumes(admitted), rest=st.none() | st.sampled_from([0.5, 7.0, 60.0]))
    def fail(self, since: float | None, rest: float | None) -> None:
        if since is None:
            return
        until = self.breaker.retry_at()
        self.breaker.record_failure(self.now, open_for=rest, admitted_at=since)
        after = self.breaker.retry_at()
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
        before = self.breaker.retry_at()
        self.breaker.release(admitted_at=since)
        assert self.breaker.retry_at() == before
        if since == self.probe:
            self.probe = None

    @invariant()
    def a_rest_has_an_end(self) -> None:
        until = self.breaker.retry_at()
        assert until is None or until <= self.now + max(LIMITS.max_open_for, 60.0)


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
