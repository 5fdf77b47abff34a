"""The decision on a failed attempt: every class of error, and what the deadline does to it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.contracts import Fault
from poise.errors import DeadlineExceededError, FaultError, InvalidMessageError, RetryableError, TerminalError
from poise.messaging.failures import DeadLetter, Expire, Retry, RetryLimits, decide

JITTER = random.Random(7)
FAULT = Fault(type="urn:poise:x", title="x", status=500, detail="x", retryable=True)


@pytest.mark.parametrize(
    ("error", "attempt", "remaining", "decision"),
    [
        (TerminalError("x"), 1, 10.0, DeadLetter),
        (InvalidMessageError("x"), 1, -1.0, DeadLetter),
        (FaultError(FAULT), 1, 10.0, DeadLetter),
        (DeadlineExceededError("x"), 1, 10.0, Expire),
        (TimeoutError(), 1, 0.0, Expire),
        (RetryableError("x"), 1, 0.0, Expire),
        (RetryableError("x"), 1, 10.0, Retry),
        (RetryableError("x"), 4, 10.0, DeadLetter),
        (KeyError("a bug"), 1, 10.0, Retry),
        (KeyError("a bug"), 2, 10.0, DeadLetter),
        (RetryableError("x", retry_after=11.0), 1, 10.0, DeadLetter),
    ],
)
def test_each_error_has_one_decision(error: Exception, attempt: int, remaining: float, decision: type) -> None:
    assert isinstance(decide(error, attempt, remaining, JITTER), decision)


@given(st.integers(1, 3), st.floats(0.001, 100), st.integers())
def test_a_delay_never_outlives_the_deadline_nor_the_limit(attempt: int, remaining: float, seed: int) -> None:
    limits = RetryLimits()
    match decide(RetryableError("x"), attempt, remaining, random.Random(seed), limits):
        case Retry(delay):
            assert 0 <= delay < remaining
            assert delay <= limits.longest
        case other:
            assert isinstance(other, DeadLetter)


@given(st.floats(0, 3), st.integers())
def test_a_server_that_asks_for_patience_gets_it(retry_after: float, seed: int) -> None:
    decision = decide(RetryableError("x", retry_after=retry_after), 1, 100.0, random.Random(seed))
    assert isinstance(decision, Retry)
    assert decision.delay >= retry_after
