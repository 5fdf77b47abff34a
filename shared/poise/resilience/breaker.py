"""Breaker: a part that keeps failing is left alone for a while, then tried with one request at a time."""

from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

BreakerState = Literal["closed", "open", "half-open"]
MAX_ERROR_CHARS: Final = 300
"""Characters that are kept of an error."""


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When a breaker opens, and for how long."""

    window: int = 20
    """The last calls that count."""
    min_calls: int = 5
    """Calls below which nothing is concluded."""
    failure_rate: float = 0.5
    """The share of failures among them from which on it is open."""
    open_for: float = 2.0
    """Seconds for which it is open; twice as long each time that the probe fails."""
    max_open_for: float = 60.0
    """Seconds for which it is open at most, unless the part itself asked to be left alone for longer."""


class Breaker:
    """A circuit breaker (Nygard, "Release It!", 2007) over a window of calls. Pure: told the time, seconds.

    closed → open when too many of the last calls failed → half-open when `open_for` has passed → closed when the probe
    succeeds, open again when it fails. While it is half-open, one call at a time is a probe.

    Each admitted call ends with one of `record_success`, `record_failure` and `release`. `admitted_at` is the time that
    was passed to `allow`. A call that was admitted while the breaker was closed may end while it is half-open: it does
    not count as the probe. Without `admitted_at` a call counts as the probe.
    """

    def __init__(self, limits: BreakerLimits | None = None) -> None:
        self._limits = limits or BreakerLimits()
        self._failures: deque[bool] = deque(maxlen=self._limits.window)
        self._open_until: float | None = None
        self._open_for = self._limits.open_for
        self._probe: float | None = None
        """When the probe that is under way was admitted."""
        self._error = ""

    def state(self, now: float) -> BreakerState:
        """How it stands."""
        if self._open_until is None:
            return "closed"
        return "open" if now < self._open_until else "half-open"

    def allow(self, now: float) -> bool:
        """Whether a call may be made; one that may while it is half-open is the probe."""
        match self.state(now):
            case "closed":
                return True
            case "open":
                return False
        if self._probe is not None and now - self._probe < self._limits.max_open_for:
            return False
        self._probe = now  # one of which nothing was heard for so long is not waited for: its caller may be gone
        return True

    def retry_at(self) -> float | None:
        """When a probe may be made; None = it is closed."""
        return self._open_until

    def error_suffix(self) -> str:
        """The last error, to be put behind what is said of its being open: `: error`; nothing where none is known."""
        return f": {self._error}" if self._error else ""

    def record_success(self, *, admitted_at: float | None = None) -> None:
        """A call was answered."""
        if self._open_until is None:
            self._failures.append(False)
        elif self._is_probe(admitted_at):  # a call from before it opened, which ends well after, says nothing of now
            self._close()

    def record_failure(
        self, now: float, *, open_for: float | None = None, admitted_at: float | None = None, error: str = ""
    ) -> None:
        """A call failed.

        Args:
            now: Seconds.
            open_for: Seconds for which the part asked to be left alone: it is open at once, and for as long.
            admitted_at: When it was admitted.
            error: What it failed with.
        """
        self._error = error[:MAX_ERROR_CHARS] or self._error
        if self._is_probe(admitted_at):
            self._probe = None
            self._open_for = min(2 * self._open_for, self._limits.max_open_for)
            # A call from before it opened may have brought a wish to be left alone for longer meanwhile.
            self._open_until = max(self._open_until or 0.0, now + max(self._open_for, open_for or 0.0))
            return
        self._failures.append(True)
        if open_for is not None:
            self._open_until = max(self._open_until or 0.0, now + open_for)
        elif self._open_until is None and self._tripped():
            self._open_until = now + self._open_for

    def release(self, *, admitted_at: float | None = None) -> None:
        """A call was given up by its caller: that says nothing."""
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
