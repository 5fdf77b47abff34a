"""What becomes of a message whose handling failed: one pure decision."""

import random
from dataclasses import dataclass
from typing import Final

from poise.contracts.topics import RETRY_DELAYS
from poise.errors import (
    CallError,
    DeadlineExceededError,
    NewerVersionError,
    PoiseError,
    RateLimitedError,
    RetryableError,
    TerminalError,
    TransportError,
)

OVERLOAD_RETRY_AFTER: Final = 5.0
"""Seconds after which a message that was turned away is worth another try."""
_MAX_DOUBLINGS: Final = 30
"""Of a delay: far beyond any limit, and a number that a float can hold."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Handle it again, in place, after a delay in seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Put it on the delayed-retry topic of a delay in seconds, where it holds up nobody."""

    delay: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It cannot be handled: keep it whole, tell the caller."""


@dataclass(frozen=True, slots=True)
class Expire:
    """Nobody wants the answer any more: tell the caller, keep nothing."""


@dataclass(frozen=True, slots=True)
class ReturnFault:
    """Nothing can be learnt from it, and whoever waits decides what to do instead: tell the caller, keep nothing."""


Decision = Retry | RetryLater | GiveUp | Expire | ReturnFault


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """How often and how patiently a message is tried again."""

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
    """What is known of an attempt that failed."""

    number: int
    """From 1, over all deliveries."""
    remaining: float
    """Seconds until the message's deadline."""
    has_caller: bool
    """Whether somebody waits for the reply."""
    delayed_retries: int = 0
    """How often it has been on a delayed-retry topic."""
    in_budget: bool = True
    """Whether the worker's retry budget has room."""
    waited: float = 0.0
    """Seconds between its attempts so far."""


class RetryBudget:
    """How many retries in place a worker may make, so that a part which is down is not hit harder than one that is up.

    A token bucket: each message puts in `ratio` of a retry, each second puts in `per_second`, each retry takes one out.
    (Finagle's RetryBudget; Google, "Site Reliability Engineering", 2016, ch. 21.)

    Args:
        ratio: Retries per message, on the average.
        per_second: Retries per second that are always allowed.
        most: Retries that can be saved up.
    """

    def __init__(self, *, ratio: float = 0.2, per_second: float = 10.0, most: float = 100.0) -> None:
        self._ratio = ratio
        self._per_second = per_second
        self._most = most
        self._saved = most
        self._at: float | None = None

    def deposit(self) -> None:
        """Note that a message came."""
        self._saved = min(self._most, self._saved + self._ratio)

    def has_room(self, now: float) -> bool:
        """Whether a retry may be made.

        Args:
            now: Seconds on any clock that does not go back.
        """
        if self._at is not None:
            self._saved = min(self._most, self._saved + (now - self._at) * self._per_second)
        self._at = now
        return self._saved >= 1

    def withdraw(self) -> None:
        """Note that a retry is made."""
        self._saved -= 1


def decide(
    error: Exception, attempt: FailedAttempt, jitter: random.Random, limits: RetryLimits | None = None
) -> Decision:
    """Decide on a failed attempt.

    Delays in place have full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). A retry
    has one owner: an error that came back from a call is final here, for the tier that answered has done the retrying.

    Args:
        error: What the handler raised, or why the message could not be read.
        attempt: What is known of the attempt.
        jitter: The source of randomness.
        limits: How often and how patiently.
    """
    limits = limits or RetryLimits()
    if isinstance(error, DeadlineExceededError):
        return Expire()
    if isinstance(error, NewerVersionError):
        return _retry_later_or_give_up(attempt)
    if isinstance(error, TerminalError | TransportError | CallError):
        return _give_up_or_return_fault(error, attempt)
    if attempt.remaining <= 0:
        return Expire()
    if isinstance(error, RateLimitedError) and attempt.has_caller:
        return _retry_or_return_fault(error, attempt, jitter, limits)
    return _retry_now_or_later(error, attempt, jitter, limits)


def _retry_now_or_later(
    error: Exception, attempt: FailedAttempt, jitter: random.Random, limits: RetryLimits
) -> Retry | RetryLater | GiveUp | ReturnFault:
    retryable = isinstance(error, RetryableError)
    wait = (error.retry_after or 0.0) if isinstance(error, RetryableError) else 0.0
    often = limits.max_attempts if retryable else limits.max_attempts_after_bug
    if attempt.number < often and not attempt.delayed_retries and attempt.in_budget:
        delay = max(wait, _backoff(attempt.number, jitter, limits))
        if delay < attempt.remaining and (attempt.has_caller or delay <= limits.max_delay):
            return Retry(delay)
    return (
        _retry_later_or_give_up(attempt, wait)
        if retryable and not attempt.has_caller
        else _give_up_or_return_fault(error, attempt)
    )


def _give_up_or_return_fault(error: Exception, attempt: FailedAttempt) -> GiveUp | ReturnFault:
    told = attempt.has_caller and isinstance(error, PoiseError) and not error.dead_letter
    return ReturnFault() if told else GiveUp()


def _retry_or_return_fault(
    error: RateLimitedError, attempt: FailedAttempt, jitter: random.Random, limits: RetryLimits
) -> Retry | ReturnFault:
    """A rate limit is waited for by time, not by a number of attempts: the server says when it is worth another."""
    delay = max(error.retry_after or 0.0, _backoff(attempt.number, jitter, limits))
    patient = error.max_wait is None or attempt.waited + delay <= error.max_wait
    return Retry(delay) if patient and attempt.in_budget and delay < attempt.remaining else ReturnFault()


def _backoff(number: int, jitter: random.Random, limits: RetryLimits) -> float:
    return jitter.uniform(0, min(limits.max_delay, limits.base_delay * 2.0 ** min(number - 1, _MAX_DOUBLINGS)))


def _retry_later_or_give_up(attempt: FailedAttempt, wait: float = 0.0) -> RetryLater | GiveUp:
    later = RETRY_DELAYS[attempt.delayed_retries :]
    if not later:
        return GiveUp()
    delay = next((delay for delay in later if delay >= wait), later[-1])
    return RetryLater(delay) if delay < attempt.remaining else GiveUp()


def overload_error(worker: str, topic: str) -> RetryableError:
    """What the sender of a message is told that a worker turns away."""
    told = f"worker {worker} has as many messages of {topic} that wait as it may: ask again later"
    return RetryableError(told, retry_after=OVERLOAD_RETRY_AFTER)
