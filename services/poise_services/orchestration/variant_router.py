"""Variant router: chooses the variant that is asked next, and how long it may take."""

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field

from poise.contracts import Fault
from poise.contracts.record import SKIPPED_AFTER_FAILURES
from poise.telemetry import count, semconv
from poise.workflows.run import Run
from poise_services.orchestration.breakers import Breakers
from poise_services.orchestration.fault_rules import (
    CHECK_FAILED,
    FAULT_RULES,
    NextCandidates,
    TriedVariant,
    candidates,
    rule_for,
    signal_of,
)
from poise_services.orchestration.settings import OrchestrationSettings, Variant
from poise_services.orchestration.time_budget import fair_share


class Route(BaseModel):
    """The variant that is asked next. Stored in the run's journal, so that a replay asks the same variant."""

    model_config = ConfigDict(frozen=True, validate_by_name=True, serialize_by_alias=True)

    variant: str | None = None
    """None = no variant."""
    skipped: tuple[str, ...] = ()
    """Better candidates whose breaker is open, each described with its last error."""
    others_left: int = Field(default=0, alias="others")  # the name in journals
    """How many variants may be asked after it."""
    other_backend: bool = Field(default=False, alias="elsewhere")  # the name in journals
    """Whether one of those has another backend."""


class VariantRouter:
    """Chooses the variants of one run: the drawn one first, then others while failovers are left.

    Args:
        run: The run.
        drawn: The variant that was drawn.
        settings: The variants and the ladder.
        breakers: The variants' circuit breakers.
    """

    def __init__(self, run: Run, drawn: Variant, *, settings: OrchestrationSettings, breakers: Breakers) -> None:
        self.drawn = drawn
        self.failovers_left = max_failovers(settings)
        self._run = run
        self._breakers = breakers
        self._variants = {variant.name: variant for variant in settings.variants}
        self._tried: list[TriedVariant] = []
        self._last_cause = "open"
        self._admitted_at: float | None = None

    # -- which variant -----------------------------------------------------------------------------------------------

    async def route_to_drawn(self) -> Route:
        """Route to the drawn variant, unless its breaker is open."""
        others = candidates(list(self._variants.values()), [TriedVariant(self.drawn, "any")])
        route = await self._route(lambda: self._admit([self.drawn], others))
        if route.variant is None:
            self._tried.append(TriedVariant(self.drawn, "any"))
        return route

    async def route_to_other(self) -> Route:
        """Route to the best other variant, and count the failover."""
        route = await self._route(lambda: self._admit(self._candidates(), []))
        if route.variant is not None:
            self.failovers_left -= 1
            failed = self._tried[-1].variant.name
            count(semconv.FAILOVERS, 1, {semconv.VARIANT: failed, semconv.ERROR_TYPE: self._last_cause})
        return route

    def variant_of(self, route: Route) -> Variant:
        """Return the variant of a route that has one."""
        return self._variants[route.variant or ""]

    def label(self, variant: Variant) -> str:
        """Return what a variant is called in a reason."""
        return variant.name if len(self._variants) > 1 else "the model"

    def budget(self, route: Route) -> float:
        """Return the seconds that the variant of a route may take."""
        return fair_share(self._run.step_budget(), route.others_left)

    async def _route(self, choose: Callable[[], Route]) -> Route:
        """Choose in a step of the run, because in a replay the breakers may be in other states."""
        self._admitted_at = None
        admitted: str | None = None

        async def chosen() -> Route:
            nonlocal admitted
            route = choose()
            admitted = route.variant
            return route

        try:
            return await self._run.step(
                "route", chosen, returns=Route, id=f"route.{len(self._tried)}", in_run_record=False
            )
        except BaseException:  # interrupted while the route was stored: the admitted variant is not asked
            if admitted is not None:
                self.release(self._variants[admitted])
            raise

    def _admit(self, ordered: list[Variant], others: list[Variant]) -> Route:
        """Route to the first variant in `ordered` whose breaker admits a call; `others` may follow it too."""
        skipped: list[str] = []
        for index, variant in enumerate(ordered):
            self._admitted_at = self._breakers.admit(variant.name)
            if self._admitted_at is not None:
                may_follow = self._may_follow([*ordered[index + 1 :], *others])
                return Route(
                    variant=variant.name,
                    skipped=tuple(skipped),
                    others_left=len(may_follow),
                    other_backend=any(other.backend != variant.backend for other in may_follow),
                )
            error = self._breakers.error_suffix(variant.name)
            skipped.append(f"{self.label(variant)} {SKIPPED_AFTER_FAILURES}{error}")
        return Route(skipped=tuple(skipped))

    def _may_follow(self, others: list[Variant]) -> list[Variant]:
        states = self._breakers.states()
        limit = self.failovers_left - (1 if self._tried else 0)  # the failover being routed is one of them
        return [variant for variant in others if states[variant.name] != "open"][: max(0, limit)]

    def _candidates(self) -> list[Variant]:
        return candidates(list(self._variants.values()), self._tried, self._breakers.states())

    # -- the outcome -------------------------------------------------------------------------------------------------

    def record_answer(self, variant: Variant) -> None:
        """Record that a variant answered."""
        self._breakers.record(variant.name, self._admitted_at, "answered")

    def record_rejection(self, variant: Variant) -> None:
        """Record that a variant's answer did not pass its check."""
        self._exclude(variant, CHECK_FAILED.next_candidates, "check")

    def record_fault(self, variant: Variant, fault: Fault, budget: float) -> None:
        """Record that a variant failed when it had `budget` seconds."""
        signal = signal_of(fault, budget)
        self._breakers.record(variant.name, self._admitted_at, signal, fault.retry_after, error=fault.detail)
        cause = fault.type if fault.type in FAULT_RULES else "other"
        self._exclude(variant, rule_for(fault.type).next_candidates, cause)

    def record_no_prompt(self, variant: Variant) -> None:
        """Record that the prompt could not be built; those of the other variants would fail alike."""
        self.release(variant)
        self._exclude(variant, "none", self._last_cause)

    def release(self, variant: Variant) -> None:
        """Release the admission of a variant whose outcome says nothing about it."""
        self._breakers.record(variant.name, self._admitted_at, "inconclusive")

    def _exclude(self, variant: Variant, next_candidates: NextCandidates, cause: str) -> None:
        self._tried.append(TriedVariant(variant, next_candidates))
        self._last_cause = cause


def max_failovers(settings: OrchestrationSettings) -> int:
    """Return how many other variants may be asked for one answer."""
    ladder = settings.ladder
    return min(ladder.max_failovers, len(settings.variants) - 1) if "variant" in ladder.rungs else 0
