"""What becomes of a message whose handling failed: one pure decision."""

import random
from dataclasses import dataclass

from poise.errors import DeadlineExceededError, RetryableError, TerminalError


@dataclass(frozen=True, slots=True)
class Retry:
    """Handle it again, in place, after a delay in seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """It cannot be handled: keep it whole, tell the caller."""


@dataclass(frozen=True, slots=True)
class Expire:
    """Nobody wants the answer any more: tell the caller, keep nothing."""


Decision = Retry | DeadLetter | Expire


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """How often and how patiently a message is tried again in place."""

    attempts: int = 4
    """Attempts in all for a RetryableError."""
    attempts_after_bug: int = 2
    """Attempts in all for an error that no handler should raise."""
    base: float = 0.1
    """Seconds; the first delay is drawn from 0 to this, the next from 0 to twice this, and so on."""
    longest: float = 5.0
    """Seconds; no delay is longer, unless the error asks for it by `retry_after`."""


def decide(
    error: Exception, attempt: int, remaining: float, jitter: random.Random, limits: RetryLimits | None = None
) -> Decision:
    """Decide on a failed attempt.

    Delays have full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

    Args:
        error: What the handler raised.
        attempt: Which attempt this was, from 1.
        remaining: Seconds until the message's deadline.
        jitter: The source of randomness.
        limits: How often and how patiently.
    """
    limits = limits or RetryLimits()
    if isinstance(error, TerminalError) and not isinstance(error, DeadlineExceededError):
        return DeadLetter()
    if isinstance(error, DeadlineExceededError) or remaining <= 0:
        return Expire()
    retryable = isinstance(error, RetryableError)
    if attempt >= (limits.attempts if retryable else limits.attempts_after_bug):
        return DeadLetter()
    delay = jitter.uniform(0, min(limits.longest, limits.base * 2 ** (attempt - 1)))
    if isinstance(error, RetryableError) and error.retry_after is not None:
        delay = max(delay, error.retry_after)
    return Retry(delay) if delay < remaining else DeadLetter()
