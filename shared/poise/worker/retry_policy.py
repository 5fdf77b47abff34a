"""The retry policy: one pure decision on a message whose handling failed."""

import random
from dataclasses import dataclass
from typing import Final

from poise.contracts.topics import RETRY_DELAYS
from poise.errors import (
    CallError,
    DeadlineExceededError,
    NewerVersionError,
    NonDeterminismError,
    NotAcknowledgedError,
    PoiseError,
    RateLimitedError,
    RetryableError,
    TerminalError,
    TransportError,
)

OVERLOAD_RETRY_AFTER: Final = 5.0
"""`retry_after` of the fault for a message that an overloaded worker rejects, seconds."""
_MAX_DOUBLINGS: Final = 30
"""Caps the exponent so that the float cannot overflow."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Handle the message again in place, after a delay in seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Write the message to the delayed-retry topic of a delay in seconds, where it blocks no other message."""

    delay: float


@dataclass(frozen=True, slots=True)
class DeadLetterIt:
    """Dead-letter the message, and return the fault to the caller."""


@dataclass(frozen=True, slots=True)
class Expire:
    """The time is over: return the fault to the caller, without a dead letter.

    The deadline of the message has passed, or a call that the handler made got no answer in time and a caller waits.
    """


@dataclass(frozen=True, slots=True)
class ReturnFault:
    """Return the fault to the caller, which decides what to do instead, without a dead letter."""


RetryDecision = Retry | RetryLater | DeadLetterIt | Expire | ReturnFault


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """The limits of retries in place."""

    max_attempts: int = 4
    """Attempts in place, the first one included, for a RetryableError."""
    max_attempts_after_bug: int = 2
    """The same for an error that no handler should raise."""
    base_delay: float = 0.1
    """Seconds; the first delay is drawn from 0 to this, the next from 0 to twice this, and so on."""
    max_delay: float = 5.0
    """Seconds; no delay is longer, unless the error asks for it by `retry_after`."""


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A failed attempt to handle a message."""

    number: int
    """From 1, over attempts in place and delayed retries; a redelivery by Kafka starts at 1 again."""
    remaining: float
    """Seconds until the message's deadline."""
    has_caller: bool
    """Whether a caller waits for the reply."""
    delayed_retries: int = 0
    """How often the message was on a delayed-retry topic."""
    in_budget: bool = True
    """Whether the retry budget of the worker permits a retry."""
    waited: float = 0.0
    """Seconds between its attempts so far."""


class RetryBudget:
    """Limits the retries in place of a worker, so that a failing dependency does not get more load than a healthy one.

    A token bucket: each message adds `ratio` of a retry, each second adds `per_second`, each retry removes one.
    (Finagle's RetryBudget; Google, "Site Reliability Engineering", 2016, ch. 21.)

    Args:
        ratio: Retries per message, on average.
        per_second: Retries per second that are always permitted.
        max_balance: Retries that can be saved.
    """

    def __init__(self, *, ratio: float = 0.2, per_second: float = 10.0, max_balance: float = 100.0) -> None:
        self._ratio = ratio
        self._per_second = per_second
        self._max = max_balance
        self._balance = max_balance
        self._at: float | None = None

    def deposit(self) -> None:
        """Add the share of one message."""
        self._balance = min(self._max, self._balance + self._ratio)

    def has_room(self, now: float) -> bool:
        """Return whether the budget permits a retry.

        Args:
            now: Seconds on a monotonic clock.
        """
        if self._at is not None:
            self._balance = min(self._max, self._balance + (now - self._at) * self._per_second)
        self._at = now
        return self._balance >= 1

    def withdraw(self) -> None:
        """Remove one retry."""
        self._balance -= 1


def decide(
    error: Exception, attempt: FailedAttempt, jitter: random.Random, limits: RetryLimits | None = None
) -> RetryDecision:
    """Decide on a failed attempt.

    Delays in place have full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). A retry
    has one owner: a `CallError` is final here, because the called tier has retried, and so is a `TransportError`,
    because the producer has retried for its whole timeout.

    Args:
        error: The error of the handler or the decoder.
        attempt: The failed attempt.
        jitter: The source of randomness.
        limits: The limits of retries in place.
    """
    limits = limits or RetryLimits()
    if isinstance(error, DeadlineExceededError | NotAcknowledgedError):
        # A call that the handler made can time out before the message's deadline: without a caller, it would be lost.
        return Expire() if attempt.has_caller or attempt.remaining <= 0 else DeadLetterIt()
    if isinstance(error, NewerVersionError):
        return _retry_later_or_dead_letter(attempt)
    if isinstance(error, TerminalError | TransportError | CallError | NonDeterminismError):
        return _dead_letter_or_return_fault(error, attempt)
    if attempt.remaining <= 0:
        return Expire()
    if isinstance(error, RateLimitedError) and attempt.has_caller:
        return _retry_or_return_fault(error, attempt, jitter, limits)
    return _retry_now_or_later(error, attempt, jitter, limits)


def _retry_now_or_later(
    error: Exception, attempt: FailedAttempt, jitter: random.Random, limits: RetryLimits
) -> Retry | RetryLater | DeadLetterIt | ReturnFault:
    retryable = isinstance(error, RetryableError)
    wait = (error.retry_after or 0.0) if isinstance(error, RetryableError) else 0.0
    max_attempts = limits.max_attempts if retryable else limits.max_attempts_after_bug
    if attempt.number < max_attempts and not attempt.delayed_retries and attempt.in_budget:
        delay = max(wait, _backoff(attempt.number, jitter, limits))
        if delay < attempt.remaining and (attempt.has_caller or delay <= limits.max_delay):
            return Retry(delay)
    return (
        _retry_later_or_dead_letter(attempt, wait)
        if retryable and not attempt.has_caller
        else _dead_letter_or_return_fault(error, attempt)
    )


def _dead_letter_or_return_fault(error: Exception, attempt: FailedAttempt) -> DeadLetterIt | ReturnFault:
    return_fault = attempt.has_caller and isinstance(error, PoiseError) and not error.dead_letter
    return ReturnFault() if return_fault else DeadLetterIt()


def _retry_or_return_fault(
    error: RateLimitedError, attempt: FailedAttempt, jitter: random.Random, limits: RetryLimits
) -> Retry | ReturnFault:
    """Limit the retries after a rate limit by time, not by their number: the server says when to retry."""
    delay = max(error.retry_after or 0.0, _backoff(attempt.number, jitter, limits))
    in_time = error.max_wait is None or attempt.waited + delay <= error.max_wait
    return Retry(delay) if in_time and attempt.in_budget and delay < attempt.remaining else ReturnFault()


def _backoff(number: int, jitter: random.Random, limits: RetryLimits) -> float:
    return jitter.uniform(0, min(limits.max_delay, limits.base_delay * 2.0 ** min(number - 1, _MAX_DOUBLINGS)))


def _retry_later_or_dead_letter(attempt: FailedAttempt, wait: float = 0.0) -> RetryLater | DeadLetterIt:
    later = RETRY_DELAYS[attempt.delayed_retries :]
    if not later:
        return DeadLetterIt()
    delay = next((delay for delay in later if delay >= wait), later[-1])
    return RetryLater(delay) if delay < attempt.remaining else DeadLetterIt()


def overload_error(worker: str, topic: str) -> RetryableError:
    """Return the error for the caller of a message that an overloaded worker rejects."""
    reason = f"worker {worker} is overloaded: too many messages of {topic} wait. Retry later"
    return RetryableError(reason, retry_after=OVERLOAD_RETRY_AFTER)
