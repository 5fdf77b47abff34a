"""The decision on a failed attempt, by class of error, deadline, retry budget, and whether a caller waits."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.contracts import Fault
from poise.contracts.topics import RETRY_DELAYS
from poise.errors import (
    DeadlineExceededError,
    FaultError,
    InvalidMessageError,
    NewerVersionError,
    NonDeterminismError,
    NotAcknowledgedError,
    RateLimitedError,
    RetryableError,
    TerminalError,
)
from poise.worker.retry_policy import (
    DeadLetterIt,
    Expire,
    FailedAttempt,
    Retry,
    RetryBudget,
    RetryLater,
    RetryLimits,
    ReturnFault,
    decide,
)


class NothingToLearnError(TerminalError):
    dead_letter = False


class NothingToLearnForNowError(RetryableError):
    dead_letter = False


JITTER = random.Random(7)
FAULT = Fault(type="urn:poise:x", title="x", status=500, detail="x", retryable=True)
LATER = RetryLater(RETRY_DELAYS[0])


def awaited(
    number: int = 1, remaining: float = 10.0, *, in_budget: bool = True, delayed_retries: int = 0
) -> FailedAttempt:
    return FailedAttempt(number, remaining, has_caller=True, in_budget=in_budget, delayed_retries=delayed_retries)


def unawaited(
    number: int = 1, remaining: float = 1_000.0, *, in_budget: bool = True, delayed_retries: int = 0
) -> FailedAttempt:
    return FailedAttempt(number, remaining, has_caller=False, in_budget=in_budget, delayed_retries=delayed_retries)


@pytest.mark.parametrize(
    ("error", "attempt", "decision"),
    [
        (TerminalError("x"), awaited(), DeadLetterIt()),
        (InvalidMessageError("x"), awaited(remaining=-1), DeadLetterIt()),
        (FaultError(FAULT), unawaited(), DeadLetterIt()),
        (DeadlineExceededError("x"), awaited(), Expire()),
        (NotAcknowledgedError("x"), awaited(), Expire()),
        (DeadlineExceededError("a call of the handler"), unawaited(), DeadLetterIt()),
        (NotAcknowledgedError("a call of the handler"), unawaited(), DeadLetterIt()),
        (DeadlineExceededError("the message"), unawaited(remaining=0), Expire()),
        (NonDeterminismError("x"), awaited(), DeadLetterIt()),
        (NonDeterminismError("x"), unawaited(), DeadLetterIt()),
        (TimeoutError(), awaited(remaining=0), Expire()),
        (RetryableError("x"), awaited(remaining=0), Expire()),
        (RetryableError("x"), unawaited(remaining=0), Expire()),
        (RetryableError("x"), awaited(4), DeadLetterIt()),
        (RetryableError("x"), awaited(in_budget=False), DeadLetterIt()),
        (KeyError("a bug"), awaited(2), DeadLetterIt()),
        (KeyError("a bug"), unawaited(2), DeadLetterIt()),
        (RetryableError("x", retry_after=11), awaited(), DeadLetterIt()),
        # a message without a caller is delayed once retries in place failed or are not allowed
        (RetryableError("x"), unawaited(4), LATER),
        (RetryableError("x"), unawaited(in_budget=False), LATER),
        (RetryableError("x"), unawaited(5, delayed_retries=1), RetryLater(RETRY_DELAYS[1])),
        (RetryableError("x"), unawaited(6, delayed_retries=2), RetryLater(RETRY_DELAYS[2])),
        (RetryableError("x"), unawaited(7, delayed_retries=3), DeadLetterIt()),
        (RetryableError("x"), unawaited(4, remaining=5), DeadLetterIt()),
        (RetryableError("x", retry_after=30), unawaited(4), RetryLater(60.0)),
        (RetryableError("x", retry_after=30), unawaited(), RetryLater(60.0)),
        (RetryableError("x", retry_after=9_999), unawaited(4), RetryLater(600.0)),
        # a rate limit is retried within max_wait and the deadline; then the caller gets the fault, no dead letter
        (RateLimitedError("x", retry_after=6), awaited(9), Retry(6)),
        (RateLimitedError("x", retry_after=6, max_wait=6), awaited(), Retry(6)),
        (RateLimitedError("x", retry_after=3, max_wait=2.9), awaited(), ReturnFault()),
        (
            RateLimitedError("x", retry_after=3, max_wait=4),
            FailedAttempt(2, 10.0, has_caller=True, waited=1.5),
            ReturnFault(),
        ),
        (RateLimitedError("x", retry_after=11), awaited(), ReturnFault()),
        (RateLimitedError("x", max_wait=0), awaited(), ReturnFault()),
        (RateLimitedError("x", retry_after=3), awaited(in_budget=False), ReturnFault()),
        (RateLimitedError("x"), awaited(remaining=0), Expire()),
        (RateLimitedError("x", retry_after=30, max_wait=0), unawaited(), RetryLater(60.0)),
        (RateLimitedError("x"), unawaited(7, delayed_retries=3), DeadLetterIt()),
        # an error with dead_letter = False is returned to the caller; without a caller it is dead-lettered
        (NothingToLearnError("x"), awaited(), ReturnFault()),
        (NothingToLearnError("x"), unawaited(), DeadLetterIt()),
        (NothingToLearnForNowError("x"), awaited(4), ReturnFault()),
        (NothingToLearnForNowError("x"), unawaited(7, delayed_retries=3), DeadLetterIt()),
        # a newer worker may decode it, with a caller or without
        (NewerVersionError("x"), awaited(remaining=20), LATER),
        (NewerVersionError("x"), awaited(remaining=9), DeadLetterIt()),
        (NewerVersionError("x"), unawaited(2, delayed_retries=3), DeadLetterIt()),
    ],
)
def test_each_error_has_one_decision(error: Exception, attempt: FailedAttempt, decision: object) -> None:
    assert decide(error, attempt, JITTER) == decision


@given(st.integers(1, 100_000), st.integers())
def test_rate_limit_without_retry_after_is_retried_with_backoff(number: int, seed: int) -> None:
    decision = decide(RateLimitedError("x"), awaited(number, remaining=1e6), random.Random(seed))
    assert isinstance(decision, Retry)
    assert 0 <= decision.delay <= RetryLimits().max_delay


@pytest.mark.parametrize("attempt", [awaited(), unawaited()])
@pytest.mark.parametrize("error", [RetryableError("x"), KeyError("a bug")])
def test_first_failure_is_retried_in_place(error: Exception, attempt: FailedAttempt) -> None:
    assert isinstance(decide(error, attempt, JITTER), Retry)


@given(st.integers(1, 3), st.floats(0.001, 100), st.integers())
def test_delay_never_exceeds_the_deadline_or_the_limit(number: int, remaining: float, seed: int) -> None:
    limits = RetryLimits()
    match decide(RetryableError("x"), awaited(number, remaining), random.Random(seed), limits):
        case Retry(delay):
            assert 0 <= delay < remaining
            assert delay <= limits.max_delay
        case other:
            assert isinstance(other, DeadLetterIt)


@given(st.floats(0, 3), st.integers())
def test_retry_after_is_respected(retry_after: float, seed: int) -> None:
    decision = decide(RetryableError("x", retry_after=retry_after), awaited(remaining=100), random.Random(seed))
    assert isinstance(decision, Retry)
    assert decision.delay >= retry_after


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=300))
def test_retries_stay_within_the_budget_of_messages_and_time(events: list[tuple[float, bool]]) -> None:
    budget = RetryBudget(ratio=0.2, per_second=10.0, max_balance=5.0)
    now = made = came = 0.0
    for passed, is_message in events:
        now += passed
        if is_message:
            budget.deposit()
            came += 1
        elif budget.has_room(now):
            budget.withdraw()
            made += 1
    assert made <= 5.0 + 0.2 * came + 10.0 * now


def test_spent_budget_refills_with_time() -> None:
    budget = RetryBudget(ratio=0.0, per_second=10.0, max_balance=2.0)
    for _ in range(2):
        assert budget.has_room(0.0)
        budget.withdraw()
    assert not budget.has_room(0.0)
    assert budget.has_room(0.1)
