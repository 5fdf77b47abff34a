"""Breakers: which variants this worker leaves alone, because they failed lately or asked for it, and which tiers."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final, Self

from poise.errors import DeadlineExceededError, NotTakenError, PoiseError, UnavailableError
from poise.resilience.breaker import Breaker, BreakerLimits, State
from poise.telemetry import observe, semconv
from poise.telemetry.metrics import Observation
from poise_services.orchestration.fault_rules import MIN_TELLING_BUDGET, BreakerSignal
from poise_services.orchestration.settings import Variant

MAX_OPEN_TIME: Final = 3_600.0
"""Seconds for which a variant is left alone at most, whatever its backend asked for."""


class Breakers:
    """One breaker for each variant, in this worker; `with` it to have them seen in the metrics.

    Args:
        variants: The variants.
        limits: When a breaker opens; None = the usual.
        clock: Tells the time, seconds.
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
        self._seen = ExitStack()

    def __enter__(self) -> Self:
        self._seen.callback(observe(semconv.VARIANT_OPEN, self._open))
        self._seen.callback(observe(semconv.STEP_RESTING, self._resting))
        return self

    def __exit__(self, *_: object) -> None:
        self._seen.close()

    def states(self) -> dict[str, State]:
        """How each stands."""
        now = self._clock()
        return {name: breaker.state(now) for name, breaker in self._breakers.items()}

    def admit(self, name: str) -> float | None:
        """When a call of this variant was admitted; None = it is to be left alone. The call must be judged."""
        now = self._clock()
        return now if self._breakers[name].admits(now) else None

    def because(self, name: str) -> str:
        """The last error of a variant that is left alone, to be put behind that: `: error`."""
        return self._breakers[name].because()

    def record(
        self, name: str, since: float | None, says: BreakerSignal, rest: float | None = None, *, error: str = ""
    ) -> None:
        """Take note of how a call ended.

        Args:
            name: The variant's.
            since: When it was admitted; None = in another worker, before a crash: that is no news of now.
            says: What it says of the variant.
            rest: Seconds for which the backend asked to be left alone, where it did.
            error: What it failed with, where it did.
        """
        if since is None:
            return
        breaker = self._breakers[name]
        match says:
            case "answered":
                breaker.succeeded(since=since)
            case "nothing":
                breaker.abandoned(since=since)
            case "rest" if rest is not None:
                breaker.failed(self._clock(), rest=min(rest, MAX_OPEN_TIME), since=since, error=error)
            case _:
                breaker.failed(self._clock(), since=since, error=error)

    @contextmanager
    def guarded(self, step: str, given: float) -> Iterator[None]:
        """Make a call inside, unless the step's tier kept silent lately: nobody is to wait for it again and again.

        A fault is an answer; so is anything that is not silence.

        Args:
            step: The step.
            given: Seconds that the call has.

        Raises:
            UnavailableError: It is left alone for now.
        """
        breaker = self._unresponsive.setdefault(step, Breaker(self._limits))
        since = self._clock()
        if not breaker.admits(since):
            told = "its tier did not answer lately, and is left alone for a while"
            raise UnavailableError(f"{told}{breaker.because()}")
        try:
            yield
        except DeadlineExceededError as error:
            if given < MIN_TELLING_BUDGET or isinstance(error, NotTakenError):  # then it was not asked
                breaker.abandoned(since=since)
            else:
                breaker.failed(self._clock(), since=since, error=str(error))
            raise
        except PoiseError:
            breaker.succeeded(since=since)
            raise
        except BaseException:
            breaker.abandoned(since=since)
            raise
        breaker.succeeded(since=since)

    def _resting(self) -> list[Observation]:
        now = self._clock()
        return [(float(one.state(now) != "closed"), {semconv.STEP: step}) for step, one in self._unresponsive.items()]

    def _open(self) -> list[Observation]:
        return [(float(state != "closed"), {semconv.VARIANT: name}) for name, state in self.states().items()]
