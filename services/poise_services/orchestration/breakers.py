"""Circuit breakers of this worker: one per variant, and one per step that calls a tier."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final, Self

from poise.errors import DeadlineExceededError, NotAcknowledgedError, PoiseError, UnavailableError
from poise.resilience.breaker import Breaker, BreakerLimits, BreakerState
from poise.telemetry import observe, semconv
from poise.telemetry.metrics import Measurement
from poise_services.orchestration.fault_rules import MIN_CONCLUSIVE_BUDGET, BreakerSignal
from poise_services.orchestration.settings import Variant

MAX_OPEN_SECONDS: Final = 3_600.0
"""Maximum seconds for which a variant's breaker stays open because its backend asked for it."""


class Breakers:
    """The circuit breakers of a worker; entered (`with`), they are exported as metrics.

    Args:
        variants: The variants.
        limits: When a breaker opens; None = the defaults.
        clock: Returns the time, seconds.
    """

    def __init__(
        self,
        variants: Sequence[Variant],
        limits: BreakerLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._breakers = {variant.name: Breaker(limits) for variant in variants}
        self._unresponsive: dict[str, Breaker] = {}
        self._limits = limits
        self._clock = clock
        self._gauges = ExitStack()

    def __enter__(self) -> Self:
        self._gauges.callback(observe(semconv.VARIANT_OPEN, self._open_gauge))
        self._gauges.callback(observe(semconv.STEP_OPEN, self._unresponsive_gauge))
        return self

    def __exit__(self, *_: object) -> None:
        self._gauges.close()

    def states(self) -> dict[str, BreakerState]:
        """Return the state of each variant's breaker."""
        now = self._clock()
        return {name: breaker.state(now) for name, breaker in self._breakers.items()}

    def admit(self, name: str) -> float | None:
        """Admit a call of a variant; return the time of admission, for `record`, or None if its breaker is open."""
        now = self._clock()
        return now if self._breakers[name].allow(now) else None

    def error_suffix(self, name: str) -> str:
        """Return the last error of a variant as a suffix for a message: `: error`."""
        return self._breakers[name].error_suffix()

    def record(
        self,
        name: str,
        admitted_at: float | None,
        signal: BreakerSignal,
        open_for: float | None = None,
        *,
        error: str = "",
    ) -> None:
        """Record how an admitted call ended.

        Args:
            name: The variant's name.
            admitted_at: When the call was admitted; None = by another worker, before a crash: not recorded.
            signal: What the outcome means for the breaker.
            open_for: Seconds for which the backend asked not to be called, if it did.
            error: The error, if it failed.
        """
        if admitted_at is None:
            return
        breaker = self._breakers[name]
        match signal:
            case "answered":
                breaker.record_success(admitted_at=admitted_at)
            case "inconclusive":
                breaker.release(admitted_at=admitted_at)
            case "open_as_asked" if open_for is not None:
                breaker.record_failure(
                    self._clock(), open_for=min(open_for, MAX_OPEN_SECONDS), admitted_at=admitted_at, error=error
                )
            case _:
                breaker.record_failure(self._clock(), admitted_at=admitted_at, error=error)

    @contextmanager
    def guarded(self, step: str, budget: float) -> Iterator[None]:
        """Guard a call: fail fast if the step's tier has been unresponsive lately.

        Only a timeout counts as unresponsive; a fault is a response.

        Args:
            step: The id of the step, which has a breaker of its own.
            budget: Seconds that the call has.

        Raises:
            UnavailableError: The breaker is open.
        """
        breaker = self._unresponsive.setdefault(step, Breaker(self._limits))
        admitted_at = self._clock()
        if not breaker.allow(admitted_at):
            message = "its tier did not respond lately and is skipped for a while"
            raise UnavailableError(f"{message}{breaker.error_suffix()}")
        try:
            yield
        except DeadlineExceededError as error:
            if budget < MIN_CONCLUSIVE_BUDGET:  # it says nothing about the tier
                breaker.release(admitted_at=admitted_at)
            else:
                breaker.record_failure(self._clock(), admitted_at=admitted_at, error=str(error))
            raise
        except NotAcknowledgedError:  # the tier did not receive it
            breaker.release(admitted_at=admitted_at)
            raise
        except PoiseError:
            breaker.record_success(admitted_at=admitted_at)
            raise
        except BaseException:
            breaker.release(admitted_at=admitted_at)
            raise
        breaker.record_success(admitted_at=admitted_at)

    def _unresponsive_gauge(self) -> list[Measurement]:
        now = self._clock()
        return [
            (float(breaker.state(now) != "closed"), {semconv.STEP: step})
            for step, breaker in self._unresponsive.items()
        ]

    def _open_gauge(self) -> list[Measurement]:
        return [(float(state != "closed"), {semconv.VARIANT: name}) for name, state in self.states().items()]
