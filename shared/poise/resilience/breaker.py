"""Breaker: a circuit breaker that stops calls to a failing backend, then probes it with one call at a time."""

from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

BreakerState = Literal["closed", "open", "half-open"]
MAX_ERROR_CHARS: Final = 300
"""Characters of the last error that are stored."""


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When a breaker opens, and for how long."""

    window: int = 20
    """Number of recent calls that count."""
    min_calls: int = 5
    """The breaker does not open below this number of calls."""
    failure_rate: float = 0.5
    """The breaker opens at this share of failures among them."""
    open_for: float = 2.0
    """Seconds for which it is open; doubled after each failed probe."""
    max_open_for: float = 60.0
    """Maximum seconds for which it is open, unless the backend itself asked for longer."""


class Breaker:
    """A circuit breaker (Nygard, "Release It!", 2007) over a window of calls. Pure: times are parameters.

    closed → open when too many of the last calls failed → half-open when `open_for` has passed → closed when the probe
    succeeds, open again when it fails. While it is half-open, one call at a time is a probe.

    Each allowed call ends with one of `record_success`, `record_failure` and `release`. `admitted_at` is the time that
    was passed to `allow`. A call that was allowed while the breaker was closed may end while it is half-open: it does
    not count as the probe. Without `admitted_at` a call counts as the probe.
    """

    def __init__(self, limits: BreakerLimits | None = None) -> None:
        self._limits = limits or BreakerLimits()
        self._failures: deque[bool] = deque(maxlen=self._limits.window)
        self._open_until: float | None = None
        self._open_for = self._limits.open_for
        self._probe: float | None = None
        """When the probe in flight was allowed."""
        self._error = ""

    def state(self, now: float) -> BreakerState:
        """Return the state."""
        if self._open_until is None:
            return "closed"
        return "open" if now < self._open_until else "half-open"

    def allow(self, now: float) -> bool:
        """Return whether a call may be made. A call that is allowed while the breaker is half-open is the probe."""
        match self.state(now):
            case "closed":
                return True
            case "open":
                return False
        if self._probe is not None and now - self._probe < self._limits.max_open_for:
            return False
        self._probe = now  # a probe without a result for `max_open_for` is replaced: its caller may be gone
        return True

    def retry_at(self) -> float | None:
        """Return when a probe may be made; None = the breaker is closed."""
        return self._open_until

    def error_suffix(self) -> str:
        """Return the last error as a suffix for messages, `: error`; empty if there is none."""
        return f": {self._error}" if self._error else ""

    def record_success(self, *, admitted_at: float | None = None) -> None:
        """Record a successful call."""
        if self._open_until is None:
            self._failures.append(False)
        elif self._is_probe(admitted_at):  # a call allowed before it opened proves nothing
            self._close()

    def record_failure(
        self, now: float, *, open_for: float | None = None, admitted_at: float | None = None, error: str = ""
    ) -> None:
        """Record a failed call.

        Args:
            now: Seconds.
            open_for: Seconds for which the backend asked not to be called: the breaker opens at once, for at least as
                long.
            admitted_at: The time that was passed to `allow`.
            error: The error message.
        """
        self._error = error[:MAX_ERROR_CHARS] or self._error
        if self._is_probe(admitted_at):
            self._probe = None
            self._open_for = min(2 * self._open_for, self._limits.max_open_for)
            # A call allowed before it opened may have reported a longer Retry-After meanwhile.
            self._open_until = max(self._open_until or 0.0, now + max(self._open_for, open_for or 0.0))
            return
        self._failures.append(True)
        if open_for is not None:
            self._open_until = max(self._open_until or 0.0, now + open_for)
        elif self._open_until is None and self._tripped():
            self._open_until = now + self._open_for

    def release(self, *, admitted_at: float | None = None) -> None:
        """Record that the caller abandoned a call, which counts neither as success nor as failure."""
        if self._is_probe(admitted_at):
            self._probe = None

    def _is_probe(self, admitted_at: float | None) -> bool:
        return self._probe is not None and admitted_at in {None, self._probe}

    def _tripped(self) -> bool:
        failures = sum(self._failures)
        return len(self._failures) >= self._limits.min_calls and failures >= self._limits.failure_rate * len(
            self._failures
        )

    def _close(self) -> None:
        self._failures.clear()
        self._open_until, self._open_for, self._probe, self._error = None, self._limits.open_for, None, ""
