"""Breaker: examples, and a stateful test against a model that records every call."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from poise.resilience.breaker import Breaker, BreakerLimits

LIMITS = BreakerLimits(window=6, min_calls=3, failure_rate=0.5, open_for=2.0, max_open_for=10.0)


def open_breaker(now: float = 0.0) -> Breaker:
    breaker = Breaker(LIMITS)
    for _ in range(3):
        assert breaker.allow(now)
        breaker.record_failure(now, admitted_at=now)
    return breaker


def test_it_opens_at_the_failure_rate_after_the_minimum_of_calls() -> None:
    breaker = Breaker(LIMITS)
    breaker.record_failure(0)
    breaker.record_failure(0)
    assert breaker.state(0) == "closed"
    breaker.record_failure(0)
    assert (breaker.state(0), breaker.state(1.9), breaker.state(2)) == ("open", "open", "half-open")


def test_the_last_error_is_available_until_the_breaker_closes() -> None:
    breaker = Breaker(LIMITS)
    assert breaker.error_suffix() == ""
    for number in range(3):
        breaker.record_failure(0, error=f"error {number}")
    assert breaker.error_suffix() == ": error 2"
    assert breaker.allow(2)
    breaker.record_failure(2, admitted_at=2)
    assert breaker.error_suffix() == ": error 2", "a failure without a message does not replace the last error"
    assert breaker.allow(6)
    breaker.record_success(admitted_at=6)
    assert breaker.error_suffix() == ""
    breaker.record_failure(7, error="x" * 10_000)
    assert len(breaker.error_suffix()) == len(": ") + 300


def test_few_failures_do_not_open_it() -> None:
    breaker = Breaker(LIMITS)
    for _ in range(50):
        breaker.record_success()
        breaker.record_success()
        breaker.record_failure(0)
    assert breaker.state(0) == "closed"


def test_open_time_doubles_with_each_failed_probe_up_to_a_limit() -> None:
    breaker, now, open_times = open_breaker(), 2.0, []
    for _ in range(4):
        assert breaker.allow(now)
        breaker.record_failure(now, admitted_at=now)
        until = breaker.retry_at()
        assert until is not None
        open_times.append(until - now)
        now = until
    assert open_times == [4.0, 8.0, 10.0, 10.0]
    assert breaker.allow(now)
    breaker.record_success(admitted_at=now)
    assert breaker.state(now) == "closed"
    for _ in range(3):
        breaker.record_failure(now)
    assert breaker.retry_at() == now + 2.0, "the open time is reset"


def test_a_retry_after_opens_it_at_once() -> None:
    breaker = Breaker(LIMITS)
    breaker.record_failure(0, open_for=60.0)
    assert (breaker.state(59.9), breaker.state(60)) == ("open", "half-open")
    breaker.record_failure(1, open_for=5.0)
    assert breaker.state(59.9) == "open", "a shorter Retry-After does not replace a longer one"


@pytest.mark.parametrize("end", ["record_success", "failed", "release"])
def test_a_call_from_before_it_opened_does_not_count_as_the_probe(end: str) -> None:
    """End a slow call while a probe is in flight.

    The call was allowed before others failed and the breaker opened.
    """
    breaker = open_breaker(1.0)
    assert breaker.allow(3.0)
    if end == "failed":
        breaker.record_failure(3.5, admitted_at=0.5)
    else:
        getattr(breaker, end)(admitted_at=0.5)
    assert breaker.state(3.5) == "half-open"
    assert not breaker.allow(3.5), "the probe is still in flight"
    breaker.record_success(admitted_at=3.0)
    assert breaker.state(3.5) == "closed"


def test_a_failed_probe_does_not_shorten_a_retry_after() -> None:
    """End a slow call with a Retry-After while a probe is in flight, and then let the probe fail."""
    breaker = open_breaker(1.0)
    assert breaker.allow(3.0)
    breaker.record_failure(3.5, open_for=60.0, admitted_at=0.5)
    breaker.record_failure(4.0, admitted_at=3.0)
    assert breaker.retry_at() == 63.5


def test_a_lost_probe_is_replaced() -> None:
    breaker = open_breaker()
    assert breaker.allow(2.0)
    assert not breaker.allow(2.0 + LIMITS.max_open_for - 0.1)
    assert breaker.allow(2.0 + LIMITS.max_open_for)


class Calls(RuleBasedStateMachine):
    """Calls that start and end in any order while time passes."""

    admitted = Bundle("admitted")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = Breaker(LIMITS)
        self.probe: float | None = None

    @rule(seconds=st.sampled_from([0.001, 0.5, 2.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=admitted)
    def call(self) -> float | None:
        self.now += 0.001  # distinct times, so that each call is identified by its own
        before, allowed = self.breaker.state(self.now), self.breaker.allow(self.now)
        lost = self.probe is not None and self.now - self.probe >= LIMITS.max_open_for
        match before:
            case "closed":
                assert allowed
            case "open":
                assert not allowed
            case "half-open":
                assert allowed == (self.probe is None or lost), "one probe at a time"
        if before == "half-open" and allowed:
            self.probe = self.now
        return self.now if allowed else None

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

    @rule(since=consumes(admitted), retry_after=st.none() | st.sampled_from([0.5, 7.0, 60.0]))
    def fail(self, since: float | None, retry_after: float | None) -> None:
        if since is None:
            return
        until = self.breaker.retry_at()
        self.breaker.record_failure(self.now, open_for=retry_after, admitted_at=since)
        after = self.breaker.retry_at()
        if since == self.probe:
            self.probe = None
            assert self.breaker.state(self.now) == "open"
        if retry_after is not None:
            assert after is not None
            assert after >= self.now + retry_after
        if until is not None:
            assert after is not None
            assert after >= until, "no failure shortens the open time"

    @rule(since=consumes(admitted))
    def abandon(self, since: float | None) -> None:
        if since is None:
            return
        before = self.breaker.retry_at()
        self.breaker.release(admitted_at=since)
        assert self.breaker.retry_at() == before
        if since == self.probe:
            self.probe = None

    @invariant()
    def open_time_is_bounded(self) -> None:
        until = self.breaker.retry_at()
        assert until is None or until <= self.now + max(LIMITS.max_open_for, 60.0)


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
